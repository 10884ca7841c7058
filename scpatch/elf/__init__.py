"""The ELF container: reading, laying out and writing. Knows nothing of PowerPC.

Everything here is for 64-bit objects in either byte order; the constants and field names are
those of the System V gABI. Tables are read as columns over a memory map, so that a table that
nobody looks at costs nothing.
"""
