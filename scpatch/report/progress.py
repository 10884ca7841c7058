"""A progress bar on a terminal, for work that takes longer than a moment."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_PATIENCE = 1.0
"""Seconds before the bar appears; most calls are done by then and never draw one."""


class ProgressBar:
    """Counts `total` steps; draws on stderr if that is a terminal and the work goes on."""

    def __init__(self, total: int, what: str, *, quiet: bool = False) -> None:
        self._total = total
        self._what = what
        self._done = 0
        self._start = time.monotonic()
        self._enabled = not quiet and total > 1 and sys.stderr.isatty()
        self._bar: tuple[Progress, TaskID] | None = None

    def step(self, _item: object = None) -> None:
        self._done += 1
        if not self._enabled:
            return
        if self._bar is None and time.monotonic() - self._start > _PATIENCE:
            self._bar = self._open()
        if self._bar is not None:
            bar, task = self._bar
            bar.update(task, completed=self._done)

    def _open(self) -> tuple[Progress, TaskID]:
        from rich.console import Console
        from rich.progress import Progress

        bar = Progress(console=Console(stderr=True), transient=True)
        bar.start()
        return bar, bar.add_task(self._what, total=self._total)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar[0].stop()
