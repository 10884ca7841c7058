"""Why r2 is right after a call: one file for each strategy."""
