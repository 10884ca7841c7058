"""Tests of scpatch.sites."""
