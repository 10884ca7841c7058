"""Tests of drawing on a screen."""
