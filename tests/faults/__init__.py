"""Faults that come from outside: kills, full disks, closed pipes, files that change meanwhile."""
