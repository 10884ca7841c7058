"""One module a command: what happens between the parsed options and the exit code."""
