"""`scpatch rewrite`: plan all files, say what is refused, write all or nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scpatch.errors import Exit, RefusedError
from scpatch.files.inputs import THIN_ARCHIVE, open_input
from scpatch.options import UsageError, Values, library_options, look, shown
from scpatch.report.errors import Kind, print_error, print_message
from scpatch.report.forms import print_report
from scpatch.report.messages import (
    note_intermediate,
    print_refusals,
    print_sites,
    print_stats,
    print_unmatched,
)
from scpatch.report.progress import progress_bar
from scpatch.report.words import clean, summary_line
from scpatch.rewriter import FilePlan, Options, check_refused, is_same, plan_all, write
from scpatch.sites.choices import DEFAULT_TRAMPOLINES

if TYPE_CHECKING:
    from scpatch.differ.model import ObjectDiff
    from scpatch.report.screen import Look

_NOTE = "Kbuild makes it for modpost, and links the image from vmlinux.a on powerpc"
_ADVICE = (
    "to get an image that is right, build with LD='scpatch-ld LINKER', or with LD='scpatch-ld "
    "--prelink LINKER' from one object (scpatch kbuild --help)"
)
"""About an object of Kbuild's that is not linked into anything. It has no mark but its name."""


def run(values: Values) -> Exit:
    """Rewrites the files; returns the exit code of the worst thing that happened.

    Raises UsageError for options that do not go together.
    """
    options = _options(values)
    with progress_bar(len(values.files), "rewriting", quiet=values.quiet) as step:
        plans, errors = plan_all(values.files, options, values.output, step)
    for error in errors:
        print_error(error)
    print_refusals(plans)
    writing = values.keep_going or not errors
    try:
        if writing:
            _write(plans, values)
    except RefusedError:
        writing = False
    _report(plans, values, written=writing and not values.dry_run)
    if not writing:
        rest = any(plan.outputs for plan in plans)
        advice = "; --keep-going rewrites the rest" if rest else ""
        print_message(Kind.NOTE, f"nothing was written{advice}")
    if errors:
        return Exit.ERROR
    return Exit.REFUSED if any(plan.refused for plan in plans) else Exit.OK


def _look(values: Values) -> Look:
    """How a report looks. What is to be written must not wait for a user to leave a pager."""
    return look(values)._replace(pager=values.pager and values.dry_run)


def _options(values: Values) -> Options:
    if values.output is not None and (len(values.files) != 1 or values.backup):
        other = "--backup" if values.backup else "several files"
        raise UsageError(f"--output does not go with {other}")
    if values.depfile is not None and values.output is None:
        raise UsageError("--depfile needs --output: a file is not made from itself")
    if values.quiet and values.verbose:
        raise UsageError("--verbose does not go with --quiet")
    return library_options(values, lines="all" if values.verbose else "refused")


def _write(plans: Sequence[FilePlan], values: Values) -> None:
    """Puts the outputs in place, all or none; before that, shows what would differ.

    Raises RefusedError if call sites were refused, without --keep-going.
    """
    if not values.keep_going:
        check_refused(plans)
    if values.diff:
        from scpatch.report.diff import DiffReport

        print_report(
            DiffReport(list(_differences(plans, values)), shown=shown(values)),
            "text",
            _look(values),
        )
        # What cannot be shown is not written either.
        sys.stdout.flush()
    if not values.dry_run:
        depfile = None if values.depfile is None else (values.depfile, _depfile(plans, values))
        write(
            plans,
            backup=values.backup,
            allow_refused=values.keep_going,
            sync=values.sync,
            depfile=depfile,
        )


def _depfile(plans: Sequence[FilePlan], values: Values) -> str:
    """What the outputs were made from. Copies of a thin archive's members are left out: no rule of
    a build names them. Raises ScpatchError SCP110, UsageError for an output that is an input."""
    from scpatch.files.depfile import depfile
    from scpatch.files.members import paths_of

    outputs = [output for plan in plans for output in plan.outputs if output.source == plan.path]
    if any(is_same(plan.path, values.output) for plan in plans):
        raise UsageError(
            "--depfile needs another file for --output: a file is not made from itself"
        )
    members = [member for plan in plans for member in paths_of(plan.path)[1:]]
    offsets = [] if values.asm_offsets is None else [values.asm_offsets]
    return depfile(
        values.depfile,
        [str(output.target) for output in outputs],
        [str(plan.path) for plan in plans],
        [*members, *map(str, offsets)],
    )


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


def _report(plans: Sequence[FilePlan], values: Values, *, written: bool) -> None:
    if values.format is not None:
        from scpatch.report.rewrite import RewriteReport

        print_report(RewriteReport(plans, written, shown(values)), values.format, _look(values))
    if values.quiet:
        return
    objects = [entry for plan in plans for entry in plan.objects]
    note_intermediate(entry.name for entry in objects if entry.intermediate)
    if objects:
        names = (name for entry in objects for name in entry.scan.names)
        print_unmatched(values.trampolines, names)
    for plan in plans:
        if values.verbose:
            print_sites(plan, shown(values))
        print(summary_line(plan, written=written), file=sys.stderr)
        if plan.path.name == "vmlinux.o":
            print_message(Kind.NOTE, f"{clean(str(plan.path))}: {_NOTE}", _ADVICE)
    if values.stats:
        print_stats(plans)
