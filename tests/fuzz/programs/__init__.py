"""Random programs: compiled, rewritten, linked with hostile targets, run.

python -m tests.fuzz.programs --rounds 3000 --seed 1 --jobs 2
"""
