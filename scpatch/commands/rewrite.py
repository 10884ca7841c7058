"""`scpatch rewrite`: plan all files, say what is refused, write all or nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from scpatch.errors import Exit, RefusedError
from scpatch.files import output
from scpatch.files.inputs import THIN_ARCHIVE, open_input
from scpatch.kbuild.note import note
from scpatch.report import rewrite as report
from scpatch.report.messages import note_intermediate, print_error, print_unmatched
from scpatch.report.progress import ProgressBar
from scpatch.report.refusals import print_refusals
from scpatch.rewriter import FilePlan, Options, check_refused, plan_all, staged


class Asked(NamedTuple):
    """What the user asked for beside the rewriting itself."""

    target: Path | None
    dry_run: bool
    diff: bool
    backup: bool
    keep_going: bool
    stats: bool
    form: str | None
    quiet: bool
    verbose: bool
    patterns: Sequence[str] = ()
    """Of trampolines' names."""


def run(files: Sequence[Path], options: Options, asked: Asked) -> Exit:
    """Rewrites the files; returns the exit code of the worst thing that happened."""
    with ProgressBar(len(files), "rewriting", quiet=asked.quiet) as progress:
        plans, errors = plan_all(files, options, asked.target, progress.step)
    for error in errors:
        print_error(error)
    print_refusals(plans)
    writing = asked.keep_going or not errors
    try:
        if writing:
            _write(plans, asked)
    except RefusedError:
        writing = False
    _report(plans, asked, written=writing and not asked.dry_run)
    if not writing:
        rest = any(plan.outputs for plan in plans)
        advice = "; --keep-going rewrites the rest" if rest else ""
        print(f"scpatch: nothing was written{advice}", file=sys.stderr)
    if errors:
        return Exit.ERROR
    return Exit.REFUSED if any(plan.refused for plan in plans) else Exit.OK


def _write(plans: Sequence[FilePlan], asked: Asked) -> None:
    """Puts the outputs in place, all or none; shows the diff of what is about to be there.

    Raises RefusedError if call sites were refused, without --keep-going.
    """
    if asked.dry_run and not asked.diff:
        if not asked.keep_going:
            check_refused(plans)
        return
    where = plans
    if asked.dry_run:
        import tempfile

        where = _elsewhere(plans, Path(tempfile.gettempdir()))
    with staged(where, allow_refused=asked.keep_going) as files:
        if asked.diff:
            _show_diff(plans, files)
            # What cannot be shown is not written either.
            sys.stdout.flush()
        if not asked.dry_run:
            output.commit(files, backup=asked.backup)


def _elsewhere(plans: Sequence[FilePlan], folder: Path) -> list[FilePlan]:
    """The same plans with their outputs in `folder`, under names that nothing else has."""
    moved = []
    for plan in plans:
        outputs = [
            one._replace(target=folder / f"scpatch-{os.urandom(8).hex()}", folder=False)
            for one in plan.outputs
        ]
        moved.append(plan._replace(outputs=tuple(outputs)))
    return moved


def _show_diff(plans: Sequence[FilePlan], files: Sequence[output.Staged]) -> None:
    from scpatch.commands.diff import show

    form = "terminal" if sys.stdout.isatty() else "plain"
    outputs = [(plan, one) for plan in plans for one in plan.outputs]
    for (plan, one), file in zip(outputs, files, strict=True):
        # A thin archive holds no code; its members are outputs of their own.
        if one.source != plan.path or not _is_thin(one.source):
            show(one.source, file.path, form, 3, name=one.target)


def _is_thin(path: Path) -> bool:
    with open_input(path) as source:
        return bytes(source.data[:8]) == THIN_ARCHIVE


def _report(plans: Sequence[FilePlan], asked: Asked, *, written: bool) -> None:
    if asked.form is not None:
        report.print_rewrite(plans, asked.form, written=written)
    if asked.quiet:
        return
    objects = [one for plan in plans for one in plan.objects]
    note_intermediate(one.name for one in objects if one.intermediate)
    print_unmatched(asked.patterns, (name for one in objects for name in one.scan.names))
    for plan in plans:
        if asked.verbose:
            report.print_sites(plan)
        print(report.summary_line(plan, written=written), file=sys.stderr)
        if text := note(plan.path):
            print(text, file=sys.stderr)
    if asked.stats:
        report.print_stats(plans)
