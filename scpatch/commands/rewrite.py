"""`scpatch rewrite`: plan all files, say what is refused, write all or nothing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from scpatch import output
from scpatch.errors import Exit
from scpatch.kbuild.note import note
from scpatch.report import rewrite as report
from scpatch.report.messages import print_error, print_unmatched
from scpatch.report.progress import ProgressBar
from scpatch.report.refusals import print_refusals
from scpatch.rewrite import FilePlan, Options, plan_all, staged


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
    refused = any(plan.refused for plan in plans)
    writing = asked.keep_going or not (errors or refused)
    if writing:
        _write(plans, asked)
    _report(plans, asked, written=writing and not asked.dry_run)
    if not writing:
        print("scpatch: nothing was written; --keep-going rewrites the rest", file=sys.stderr)
    if errors:
        return Exit.ERROR
    return Exit.REFUSED if refused else Exit.OK


def _write(plans: Sequence[FilePlan], asked: Asked) -> None:
    """Puts the outputs in place, all or none; shows the diff of what is about to be there."""
    if not asked.dry_run:
        with staged(plans) as files:
            if asked.diff:
                _show_diff(plans, files)
            output.commit(files, backup=asked.backup)
    elif asked.diff:
        import tempfile

        with (
            tempfile.TemporaryDirectory(prefix="scpatch-") as scratch,
            staged(_elsewhere(plans, Path(scratch))) as files,
        ):
            _show_diff(plans, files)


def _elsewhere(plans: Sequence[FilePlan], folder: Path) -> list[FilePlan]:
    """The same plans with their outputs in `folder`, numbered, since names may repeat."""
    moved = []
    for number, plan in enumerate(plans):
        outputs = [
            one._replace(target=folder / f"{number}-{index}")
            for index, one in enumerate(plan.outputs)
        ]
        moved.append(plan._replace(outputs=tuple(outputs)))
    return moved


def _show_diff(plans: Sequence[FilePlan], files: Sequence[output.Staged]) -> None:
    from scpatch.commands.diff import show

    form = "terminal" if sys.stdout.isatty() else "plain"
    outputs = [(plan, one) for plan in plans for one in plan.outputs]
    for (plan, one), file in zip(outputs, files, strict=True):
        # A thin archive holds no code; its members are outputs of their own.
        if one.source != plan.path or len(plan.outputs) == 1:
            show(one.source, file.temporary, form, 3, name=one.target)


def _report(plans: Sequence[FilePlan], asked: Asked, *, written: bool) -> None:
    if asked.form is not None:
        report.print_rewrite(plans, asked.form, written=written)
    if asked.quiet:
        return
    objects = [one for plan in plans for one in plan.objects]
    print_unmatched(asked.patterns, (name for one in objects for name in one.scan.names))
    for plan in plans:
        if asked.verbose:
            report.print_sites(plan)
        print(report.summary_line(plan, written=written), file=sys.stderr)
        if text := note(plan.path):
            print(text, file=sys.stderr)
    if asked.stats:
        report.print_stats(plans)
