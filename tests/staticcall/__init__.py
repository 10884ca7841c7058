"""Tests of scpatch.staticcall."""
