"""Rewrites static-call sites in ppc64le ELFv2 objects so that each keeps the caller's r2."""

__version__ = "0.1.0"
