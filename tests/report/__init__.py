"""Tests of the reports: rows and fields, never escape sequences."""
