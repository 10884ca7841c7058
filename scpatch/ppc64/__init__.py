"""The machine: the 64-bit PowerPC ELFv2 ABI, its relocations and its instructions."""
