"""Tests of scpatch.ppc64."""
