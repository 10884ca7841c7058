"""Pages a report that is longer than the terminal, as git does.

The pager starts only when a screen is full. So a short report costs nothing, with any pager.
"""

from __future__ import annotations

import io
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from signal import SIG_IGN, SIGINT, signal
from typing import TYPE_CHECKING, Final, TextIO, cast

from scpatch.report.errors import Kind, print_message
from scpatch.report.look import Look

if TYPE_CHECKING:
    from subprocess import Popen

_VARIABLES: Final = ("SCPATCH_PAGER", "PAGER")
_ENVIRONMENT: Final = {"LESS": "FRX", "LV": "-c"}
"""What git sets too, unless the user has: less and lv let colours through."""
_NO_PAGER: Final = ("", "cat")
_ESCAPES: Final = re.compile(r"\x1b\[[0-9;]*m")


@contextmanager
def paged(stream: TextIO, look: Look) -> Iterator[TextIO]:
    """Where a report for `stream` goes: a pager if that is a terminal and the report is longer.

    The report ends early, without an error, when the user leaves the pager.
    """
    command = _command(os.environ) if look.pager and stream.isatty() else ""
    if not command:
        yield stream
        return
    pages = _Pages(stream, command)
    try:
        yield cast(TextIO, pages)
    except _LeftError:
        pass
    finally:
        pages.finish()


def _command(environ: Mapping[str, str]) -> str:
    """The shell command of the pager; empty if there is none. Warns of one that is missing."""
    from shutil import which

    if environ.get("TERM", "") in ("", "dumb"):
        return ""
    named = next((environ[name] for name in _VARIABLES if name in environ), None)
    command = "less" if named is None else named.strip()
    if command in _NO_PAGER:
        return ""
    with suppress(ValueError):  # the shell will say that a quote is missing
        words = [word for word in shlex.split(command) if not re.match(r"\w+=", word)]
        if words and which(words[0]) is None:
            if named is not None:
                print_message(Kind.WARNING, f"there is no pager {words[0]!r}")
            return ""
    return command


class _LeftError(Exception):
    """The user has left the pager."""


class _Pages(io.TextIOBase):
    """Holds what fits on the terminal. What is longer goes to the pager."""

    def __init__(self, stream: TextIO, command: str) -> None:
        self._stream, self._command = stream, command
        try:
            self._columns, self._lines_left = os.get_terminal_size(stream.fileno())
        except (OSError, ValueError):
            self._columns, self._lines_left = 80, 24
        self._lines_left -= 1  # the shell's prompt
        self._held: list[str] = []
        self._process: Popen[str] | None = None

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self._process is None:
            self._held.append(text)
            width = len(_ESCAPES.sub("", text).rstrip("\n"))
            self._lines_left -= max(text.count("\n"), -(-width // max(self._columns, 1)))
            if self._lines_left < 0:
                self._start()
        else:
            self._send(text)
        return len(text)

    def _start(self) -> None:
        from subprocess import PIPE, Popen

        self._stream.flush()
        self._process = Popen(
            self._command,
            shell=True,
            stdin=PIPE,
            env=_ENVIRONMENT | os.environ,
            encoding=self._stream.encoding,
            errors="backslashreplace",
        )
        # It is the pager's now: the user may want to stop a search.
        self._on_ctrl_c = signal(SIGINT, SIG_IGN)
        self._send("".join(self._held))

    def _send(self, text: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(text)
        except BrokenPipeError:
            raise _LeftError from None

    def finish(self) -> None:
        """Prints what fits on the terminal, or waits for the user to leave the pager."""
        if self._process is None:
            self._stream.write("".join(self._held))
            return
        with suppress(BrokenPipeError):
            self._process.communicate()
        signal(SIGINT, self._on_ctrl_c)
        if self._process.returncode in (126, 127):  # the shell could not run it
            text = f"cannot run the pager {self._command!r}"
            print_message(Kind.WARNING, text, "set PAGER, or use --no-pager")
