"""Source lines of unlinked code, from .debug_line and its relocations alone."""
