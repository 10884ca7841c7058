"""Writes what `rewrite` has planned: files, or stdout; first shows what would differ."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from scpatch import batch
from scpatch.commands.rewrite.options import STDOUT
from scpatch.commands.rewrite.summary import look_of
from scpatch.errors import ScpatchError
from scpatch.files.inputs import THIN_ARCHIVE, open_input
from scpatch.files.output import write_content
from scpatch.options import UsageError, Values, library_options, shown
from scpatch.report.forms import print_report
from scpatch.rewriter import Check, FilePlan, check_refused, is_same, write
from scpatch.sites.choices import DEFAULT_TRAMPOLINES

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from scpatch.differ.model import ObjectDiff
    from scpatch.report.diff import DiffReport


def write_stream(plan: FilePlan, source: Path | bytes, values: Values) -> None:
    """Writes the new file to stdout, or what came from stdin to a file. Raises RefusedError as
    `write_all`, and SCP110 if it is several files."""
    if not values.keep_going:
        check_refused([plan])
    try:
        data = plan.data
    except ValueError as error:
        what = "cannot write a thin archive and its members to stdout"
        raise ScpatchError("SCP110", what, file=str(plan.path)) from error
    if values.dry_run:
        return
    if values.verify:
        from scpatch.proving import prove_content

        prove_content(source, data, str(plan.path), library_options(values))
    if values.output in (None, STDOUT):
        sys.stdout.buffer.write(data)
    else:
        write_content(values.output, data, sync=values.sync)


def write_all(
    plans: Sequence[FilePlan],
    values: Values,
    executor: Executor | None,
    failed: list[ScpatchError],
    step: batch.Progress,
) -> DiffReport | None:
    """Puts the outputs in place, all or none; with --keep-going, all but those that fail. Before
    that, shows what would differ, or returns it if it is for the report.

    Raises RefusedError if call sites were refused, without --keep-going.
    """
    if not values.keep_going:
        check_refused(plans)
    differences: DiffReport | None = None
    if values.diff:
        from scpatch.report.diff import DiffReport

        differences = DiffReport(list(_differences(plans, values)), shown=shown(values))
        if values.format in (None, "text"):
            print_report(differences, "text", look_of(values))
            # What cannot be shown is not written either.
            sys.stdout.flush()
            differences = None
    if not values.dry_run:
        depfile = None if values.depfile is None else (values.depfile, _depfile(plans, values))
        check: Check | None = None
        if values.verify:
            from scpatch.proving import prove

            check = partial(prove, options=library_options(values))
        write(
            plans,
            backup=values.backup,
            allow_refused=values.keep_going,
            sync=values.sync,
            depfile=depfile,
            new_folders=values.output_dir is not None,
            executor=executor,
            failed=failed if values.keep_going else None,
            progress=step,
            check=check,
        )
    return differences


def _depfile(plans: Sequence[FilePlan], values: Values) -> str:
    """What the outputs were made from. Copies of a thin archive's members are left out: no rule of
    a build names them. Raises ScpatchError SCP110, UsageError for an output that is an input."""
    from scpatch.files.depfile import depfile
    from scpatch.files.members import paths_of

    outputs = [output for plan in plans for output in plan.outputs if output.source == plan.path]
    in_place = any(is_same(output.source, output.target) for output in outputs)
    if in_place or not all(plan.outputs for plan in plans):
        raise UsageError("--depfile needs an output that is another file: none is made from itself")
    members = [member for plan in plans for member in paths_of(plan.path)[1:]]
    offsets = [] if values.asm_offsets is None else [values.asm_offsets]
    lists = [path for path in values.files_froms if path != STDOUT]
    targets = [str(output.target) for output in outputs]
    files = [str(plan.path) for plan in plans]
    others = [*members, *map(str, (*offsets, *lists))]
    place = os.path.realpath(values.depfile)
    for name in (*targets, *files, *others):
        if os.path.realpath(name) == place:
            raise UsageError(f"--depfile {values.depfile} would overwrite {name}")
    return depfile(values.depfile, targets, files, others)


def _differences(
    plans: Sequence[FilePlan], values: Values
) -> Iterator[tuple[str, str, ObjectDiff]]:
    """What plans change in each object, with the names before and after."""
    from scpatch.api import diff

    patterns = values.trampolines or DEFAULT_TRAMPOLINES
    context = values.context
    for path, output in ((plan.path, output) for plan in plans for output in plan.outputs):
        # A thin archive holds no code. Its members are other outputs.
        if output.source != path or not _is_thin(output.source):
            data = output.data
            for file in diff(output.source, data, context=context, trampolines=patterns):
                after = file.before.replace(str(output.source), str(output.target), 1)
                yield file.before, after, file.diff


def _is_thin(path: Path) -> bool:
    with open_input(path) as source:
        return bytes(source.data[:8]) == THIN_ARCHIVE
