"""Progress on a terminal, for work that takes longer than a moment.

A thread waits for that moment. So work that never calls back shows at least that it goes on, and
nothing is imported or drawn for the usual call.
"""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_importing = allocate_lock()
"""A process is forked before or after the import of a thread, not in between: the new one, which
does not have the thread, would wait forever for what it was about to import."""
os.register_at_fork(
    before=_importing.acquire,
    after_in_parent=_importing.release,
    after_in_child=_importing.release,
)

PATIENCE = 1.0
"""Seconds before anything is drawn; most calls are done by then."""

Phase = Callable[[str, int, int], None]
"""Is to be called with the name of what is done now, how much of it is done, and how much there is;
0 of 0 if that is not known."""


@contextmanager
def progress_bar(
    total: int, *phases: str, quiet: bool = False
) -> Iterator[Callable[[object], None]]:
    """What is to be called after each of `total` steps of each phase. Draws on stderr if that is a
    terminal."""
    done = 0
    with progress(phases[0], quiet=quiet) as phase:

        def say() -> None:
            number, step = divmod(done, max(total, 1))
            if number < len(phases):
                phase(phases[number], *((step, total) if total > 1 else (0, 0)))

        def advance(_item: object) -> None:
            nonlocal done
            done += 1
            say()

        say()
        yield advance


@contextmanager
def progress(what: str, *, quiet: bool = False) -> Iterator[Phase]:
    """What is to be called when another phase begins. Draws on stderr if that is a terminal."""
    if quiet or not sys.stderr.isatty() or os.environ.get("TERM", "") in ("", "dumb"):
        yield lambda _what, _done, _total: None
        return
    display = _Display(what)
    _displays.append(display)
    try:
        yield display.phase
    finally:
        _displays.remove(display)
        display.close()


def end_progress() -> None:
    """Draws no more: a report is about to begin."""
    for display in _displays:
        display.close()


_displays: list[_Display] = []


class _Display:
    """A line with a spinner, the phase, a bar and the time, from `PATIENCE` seconds on."""

    def __init__(self, what: str) -> None:
        from threading import Lock, Timer

        self._now = what, 0, 0
        self._lock, self._closed = Lock(), False
        self._drawn: tuple[Progress, TaskID] | None = None
        self._timer = Timer(PATIENCE, self._open)
        self._timer.daemon = True
        self._timer.start()

    def phase(self, what: str, done: int, total: int) -> None:
        self._now = what, done, total
        if (drawn := self._drawn) is not None:
            self._update(*drawn)

    def _open(self) -> None:
        """Runs in the thread of the timer."""
        with _importing:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                Progress,
                SpinnerColumn,
                TextColumn,
                TimeElapsedColumn,
            )

        columns = SpinnerColumn("line"), TextColumn("{task.description}"), BarColumn()
        with self._lock:
            if self._closed:
                return
            bar = Progress(
                *columns,
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
                redirect_stdout=False,
            )
            task = bar.add_task("", total=None)
            bar.tasks[task].start_time = bar.get_time() - PATIENCE
            self._update(bar, task)
            bar.start()
            self._drawn = bar, task

    def _update(self, bar: Progress, task: TaskID) -> None:
        what, done, total = self._now
        text = f"{what}  {done:,}/{total:,}" if total else what
        bar.update(task, description=text, completed=done)
        bar.tasks[task].total = total or None  # `update` takes None for no change

    def close(self) -> None:
        self._timer.cancel()
        with self._lock:
            self._closed = True
            if self._drawn is not None:
                self._drawn[0].stop()
                self._drawn = None
