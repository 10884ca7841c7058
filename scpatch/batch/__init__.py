"""The same work on many files: by this process, or by an executor of `concurrent.futures`.

The work is a function of one item that returns data which can be pickled, errors included. The
results come in the order of the items, whoever does the work and however long each takes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from scpatch.errors import ScpatchError

if TYPE_CHECKING:
    from concurrent.futures import Executor

Item = TypeVar("Item")
Result = TypeVar("Result")

_PARTS: Final = 64
_LONGEST_PART: Final = 32
"""How many parts the work has, unless a part would have more items. A part goes to a process as a
whole: many items a part cost less, many parts keep all processes busy until the end."""

WORTHWHILE: Final = 32
"""Files that take a process as long as its start, if each takes about a millisecond."""


class Progress(Protocol):
    def __call__(self, item: object, /) -> object: ...


def run(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    executor: Executor | None = None,
    *,
    progress: Progress | None = None,
) -> Iterator[Result]:
    """The results of `work` for all items, in their order. Without an executor, this process does
    the work. `progress` is called with each item whose result is there.

    Raises SCP122 if a process of the executor has ended, and what `work` raises.
    """
    results = map(work, items) if executor is None else _submitted(work, items, executor)
    for item, result in zip(items, results, strict=True):
        if progress is not None:
            progress(item)
        yield result


def attempt(work: Callable[..., Result], item: Sequence[object]) -> Result | ScpatchError:
    """What `work` makes of an item, whose parts are its arguments; or the error that it raises."""
    try:
        return work(*item)
    except ScpatchError as error:
        return error


def _submitted(
    work: Callable[[Item], Result], items: Sequence[Item], executor: Executor
) -> Iterator[Result]:
    from concurrent.futures import BrokenExecutor

    size = max(1, min(len(items) // _PARTS, _LONGEST_PART))
    parts = [items[start : start + size] for start in range(0, len(items), size)]
    futures = [executor.submit(_work_on, work, part) for part in parts]
    try:
        for future in futures:
            yield from future.result()
    except BrokenExecutor as error:
        raise ScpatchError("SCP122", "a worker process ended before its work was done") from error
    finally:
        for future in futures:
            future.cancel()


def _work_on(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    return [work(item) for item in items]


@contextmanager
def workers(
    wanted: int | None, items: int, worth: int = WORTHWHILE, *, dask: str | None = None
) -> Iterator[Executor | None]:
    """Processes for so many items, or None if this process is to do the work. `wanted` is what the
    user wants, None for as many as there are processors and as the work is worth: one for each
    `worth` items. `dask` is the address of a scheduler whose workers do the work instead.

    Raises SCP123 if the scheduler or its workers cannot be used."""
    if dask is not None:
        from scpatch.batch.fleet import fleet

        with fleet(dask) as executor:
            yield executor
        return
    number = min(items, wanted or 1)
    if wanted is None:
        number = min(len(os.sched_getaffinity(0)), items // worth)
    if number < 2:
        yield None
        return
    from scpatch.batch.processes import processes

    with processes(number) as executor:
        yield executor
