"""A progress bar on a terminal, for work that takes longer than a moment."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

_PATIENCE = 1.0
"""Seconds before the bar appears; most calls are done by then and never draw a bar."""


@contextmanager
def progress_bar(
    total: int, what: str, *, quiet: bool = False
) -> Iterator[Callable[[object], None]]:
    """What is to be called after each of `total` steps. Draws on stderr if that is a terminal."""
    if quiet or total < 2 or not sys.stderr.isatty():
        yield lambda _item: None
        return
    start, done = time.monotonic(), 0
    advance: Callable[[], None] | None = None

    def step(_item: object) -> None:
        nonlocal done, advance
        done += 1
        if advance is None and time.monotonic() - start > _PATIENCE:
            advance = open_bar()
        if advance is not None:
            advance()

    def open_bar() -> Callable[[], None]:
        from rich.console import Console
        from rich.progress import Progress

        bar = stack.enter_context(Progress(console=Console(stderr=True), transient=True))
        task = bar.add_task(what, total=total)
        return lambda: bar.update(task, completed=done)

    with ExitStack() as stack:
        yield step
