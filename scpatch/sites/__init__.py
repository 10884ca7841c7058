"""Facts: the trampolines of a file, their call sites, and what each call is."""
