"""The work of a command on many files: on all processors or machines, with a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from scpatch import batch
from scpatch.errors import ScpatchError
from scpatch.options import Values
from scpatch.report.progress import progress_bar

Result = TypeVar("Result")


def on_all(
    work: Callable[..., Result],
    items: Sequence[Sequence[object]],
    values: Values,
    title: str,
    *,
    worth: int = batch.WORTHWHILE,
    quiet: bool = False,
) -> list[Result | ScpatchError]:
    """What `work` makes of each item, whose parts are its arguments; or the error that it raises.

    `values` has those of JOBS and DASK; `worth` is as for `batch.workers`, and `title` names the
    work in the progress bar. Raises what `batch.workers` and `batch.run` raise.
    """
    with (
        batch.workers(values.jobs, len(items), worth, dask=values.dask) as executor,
        progress_bar(len(items), title, quiet=quiet) as step,
    ):
        return list(batch.run(partial(batch.attempt, work), items, executor, progress=step))
