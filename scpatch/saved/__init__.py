"""Whether r2 is in 24(r1) at an instruction: control flow, analysis, and hoisting."""
