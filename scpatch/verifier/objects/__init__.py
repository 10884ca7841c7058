"""The verifier's own reader of objects: the ELF tables, the instructions, the calls in the code."""
