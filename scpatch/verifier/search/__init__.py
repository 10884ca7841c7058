"""Is r2 in 24(r1) at a place in the code? A search backwards from there."""
