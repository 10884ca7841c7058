"""Compiled programs and objects of the distribution, rewritten and run."""
