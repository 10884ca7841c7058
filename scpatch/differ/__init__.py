"""Compares two versions of an object, whoever changed it. Draws nothing."""
