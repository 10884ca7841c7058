"""Programs in a terminal of their own."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path


def run_in_terminal(
    words: Sequence[str],
    folder: Path,
    environ: Mapping[str, str],
    *,
    rows: int = 0,
    reads: bool = False,
) -> tuple[int, str]:
    """The exit code of a program, and what it printed in a terminal: its lines end in CR and LF.

    The terminal has so many `rows` of 80 columns, if they are given. If the program `reads`, its
    stdin is the terminal, too.
    """
    terminal, inside = pty.openpty()
    if rows:
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 80, 0, 0))
    process = subprocess.Popen(
        words,
        cwd=folder,
        env=environ,
        stdin=inside if reads else subprocess.DEVNULL,
        stdout=inside,
        stderr=inside,
    )
    os.close(inside)
    printed = b""
    # Linux ends a terminal that nobody writes to any more by EIO.
    try:
        while data := os.read(terminal, 1 << 16):
            printed += data
    except OSError:
        pass
    os.close(terminal)
    return process.wait(), printed.decode()
