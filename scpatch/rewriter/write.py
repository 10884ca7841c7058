"""Writes plans: stages all outputs, then puts them in place together. Holds the safety rule."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from scpatch import batch
from scpatch.elf.layout import Layout
from scpatch.errors import RefusedError, ScpatchError
from scpatch.files import output as files
from scpatch.files.inputs import identity, open_input
from scpatch.rewriter.model import FilePlan, Output, is_same, new_content, source_changed

if TYPE_CHECKING:
    from concurrent.futures import Executor

Check = Callable[[Output, Path], object]


def check_refused(plans: Sequence[FilePlan]) -> None:
    """Raises RefusedError (SCP135) if a call site of the plans was refused: what they would write
    is then not right as a whole, and the caller has to allow it."""
    if count := sum(len(plan.refused) for plan in plans):
        sites = "1 call site was" if count == 1 else f"{count} call sites were"
        raise RefusedError("SCP135", f"{sites} refused")


@contextmanager
def staged(
    plans: Sequence[FilePlan],
    *,
    allow_refused: bool = False,
    sync: bool | None = None,
    new_folders: bool = False,
    executor: Executor | None = None,
    failed: list[ScpatchError] | None = None,
    progress: batch.Progress | None = None,
    check: Check | None = None,
) -> Iterator[list[files.Staged]]:
    """All outputs of `plans` as finished files for `files.output.commit`. At the end of the
    context, whatever was not committed is removed, with the directories that were made for it.

    `sync` says whether a file is on the disk before it gets its name; None: if it replaces its own
    source, whose content would otherwise be lost in a crash of the machine. `new_folders` makes the
    folders of new files. `executor` writes the files, if there is one. Errors of single files go to
    `failed`, if it is given: the others are then staged all the same. `check` gets each output and
    its finished file, in the process that has written it, and raises the error of a file that must
    not appear.

    Raises RefusedError if call sites were refused, unless `allow_refused`: then they stay as they
    are. Raises ScpatchError if an output cannot be written, or if a source has changed since the
    plan (SCP112).
    """
    if not allow_refused:
        check_refused(plans)
    done: list[files.Staged] = []
    outputs = [output for plan in plans for output in plan.outputs]
    most_unnamed = files.most_unnamed() if executor is None else 0
    mark = "" if executor is None else f"{os.urandom(6).hex()}."
    work = partial(_try_stage, sync=sync, most_unnamed=most_unnamed, mark=mark, check=check)
    folders = list({output.target.parent: None for output in outputs})
    with files.new_folders(folders if new_folders else ()):
        try:
            for result in batch.run(work, list(enumerate(outputs)), executor, progress=progress):
                if isinstance(result, files.Staged):
                    done.append(result)
                elif failed is None:
                    raise result
                else:
                    failed.append(result)
            yield done
        except BaseException:
            # Nobody may write a file any more when what is left of them is removed.
            if executor is not None:
                executor.shutdown(cancel_futures=True)
            raise
        finally:
            files.discard(done)
            if executor is not None:
                files.sweep(folders, mark)


def _try_stage(
    numbered: tuple[int, Output],
    *,
    sync: bool | None,
    most_unnamed: int,
    mark: str,
    check: Check | None,
) -> files.Staged | ScpatchError:
    number, output = numbered
    try:
        new = _stage(output, sync=sync, unnamed=number < most_unnamed, mark=mark)
    except ScpatchError as error:
        return error
    try:
        if check is not None:
            check(output, new.path)
    except BaseException as error:
        files.discard([new])
        if isinstance(error, ScpatchError):
            return error
        raise
    return new


def _stage(output: Output, *, sync: bool | None, unnamed: bool, mark: str) -> files.Staged:
    """Stages an output. Raises SCP112 if its source has changed since the plan, or has changed
    when all is copied."""
    with open_input(output.source, unpacked=True) as source:
        if source.identity != output.identity:
            raise source_changed(output.source)
        layout = output.layout
        if source.packed is not None:
            content = new_content(source, layout)
            layout = Layout(len(content), (), ((0, content),))
        new = files.stage(
            output.target,
            source.descriptor,
            layout,
            sync=is_same(output.source, output.target) if sync is None else sync,
            unnamed=unnamed,
            folder=output.folder,
            mark=mark,
        )
    try:
        same = identity(os.stat(output.source)) == output.identity
    except OSError:
        same = False
    if not same:
        files.discard([new])
        raise source_changed(output.source)
    return new


def write(
    plans: Sequence[FilePlan],
    *,
    backup: bool = False,
    allow_refused: bool = False,
    sync: bool | None = None,
    depfile: tuple[Path, str] | None = None,
    new_folders: bool = False,
    executor: Executor | None = None,
    failed: list[ScpatchError] | None = None,
    progress: batch.Progress | None = None,
    check: Check | None = None,
) -> None:
    """Writes all outputs of `plans`, or none if one of them cannot be written.

    Takes what `staged` takes; if `sync` is true, the new names are on the disk in the end as well.
    `depfile` is the path and the content of a dependency file; it is there before the outputs are.
    Raises what `staged` and `files.output.commit` raise.
    """
    with staged(
        plans,
        allow_refused=allow_refused,
        sync=sync,
        new_folders=new_folders,
        executor=executor,
        failed=failed,
        progress=progress,
        check=check,
    ) as new:
        if depfile is not None:
            with open_input(plans[0].path) as source:
                new.insert(0, files.stage_text(*depfile, source.descriptor))
        files.commit(new, backup=backup, sync=bool(sync))
