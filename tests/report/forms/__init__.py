"""Tests of the output forms."""
