"""`scpatch verify`: proves a rewritten file and executes it, or proves the calls of an image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from scpatch import batch
from scpatch.api import scan, verify, verify_link
from scpatch.errors import Exit, ScpatchError
from scpatch.files.selection import Pairs, listed, pair
from scpatch.options import (
    UsageError,
    Values,
    check_workers,
    library_options,
    look,
    shown,
    warn_of_empty,
)
from scpatch.report.errors import print_errors
from scpatch.report.filters import EVERYTHING
from scpatch.report.forms import print_report
from scpatch.report.messages import (
    note_intermediate,
    note_left_out,
    print_findings,
    print_unmatched,
)
from scpatch.report.progress import progress, progress_bar
from scpatch.report.verify import VerifyReport
from scpatch.rewriter import Options
from scpatch.verifier.beside import side_by_side
from scpatch.verifier.objects.read import is_linked
from scpatch.verifier.phases import listening
from scpatch.verifier.tools import Toolchain
from scpatch.verifier.types import Proof
from scpatch.verifier.verdict import Verdict

_WORTH = 2
"""Pairs that take a process longer than its start."""


def run(values: Values) -> Exit:
    """Proves and executes `BEFORE AFTER`, or proves what was linked, `[OBJECT...] IMAGE`.

    OK means that all is proven, and USAGE that a file could not be judged, which does not hide the
    others. Raises UsageError for other files, and SCP301 if a tool is missing.
    """
    check_workers(values)
    options = library_options(values)
    toolchain = Toolchain(values.cross_compile, values.ld, values.ar, values.qemu)
    *others, last = values.files
    lists = values.files_froms
    errors: list[ScpatchError] = []
    many = False
    if _is_linked(last) and not any(map(_is_linked, others)):
        with _phases(values):
            others += listed(lists, null=values.null)
            verdicts = [verify_link(others, last, options, toolchain)]
    elif len(others) == 1:
        versions = pair(others[0], last, lists, null=values.null)
        if versions.is_empty:
            warn_of_empty(lists)
        many = versions.pairs.many
        work = partial(verify, options=options, run=values.run, toolchain=toolchain)
        verdicts, errors = _verify_pairs(versions, work, values)
    else:
        raise UsageError("name two files or folders, or a linked image after the objects in it")
    report = VerifyReport(verdicts, values.verbose, shown(values), brief=many, failed=errors)
    if values.quiet:
        print_findings(report._replace(shown=EVERYTHING).findings())
    elif verdicts or not errors or values.format != "text":
        if values.trampolines and not many:
            _warn(values.files, options)
        print_report(report, values.format, look(values))
        note_intermediate(verdict.label for verdict in verdicts if verdict.proof.intermediate)
    print_errors(errors)
    if errors or any(verdict.proof.unreadable for verdict in verdicts):
        return Exit.USAGE
    return Exit.OK if all(verdict.proven for verdict in verdicts) else Exit.ERROR


@contextmanager
def _phases(values: Values) -> Iterator[None]:
    """Shows how far the work on one file is, for which all processors are free."""
    with progress("verifying", quiet=values.quiet) as phase, listening(phase), side_by_side():
        yield None


def _verify_pairs(
    versions: Pairs, work: Callable[..., list[Verdict]], values: Values
) -> tuple[list[Verdict], list[ScpatchError]]:
    """The verdicts on the objects of all pairs; a file without another version is not proven."""
    number = len(versions.before)
    with (
        batch.workers(values.jobs, number, _WORTH, dask=values.dask) as executor,
        progress_bar(number, "verifying", quiet=values.quiet)
        if versions.pairs.many
        else _phases(values) as step,
    ):
        attempt = partial(batch.attempt, work)
        results = batch.run(attempt, versions.sources, executor, progress=step)
        parts, errors, foreign = versions.pairs.sort_out(results)
    note_left_out(versions.pairs.links, foreign)
    alone = [
        Verdict(str(path), Proof((), (f"there is no such file in {folder}",)), None)
        for path, folder in versions.alone
    ]
    return [verdict for part in parts for verdict in part] + alone, errors


def _warn(files: Sequence[Path], options: Options) -> None:
    """Warns of patterns that match nothing. The report has the error of an unreadable file."""
    try:
        objects = [entry for path in files for entry in scan(path, options).objects]
    except ScpatchError:
        return
    print_unmatched(options.trampolines, (name for entry in objects for name in entry.scan.names))


def _is_linked(path: Path) -> bool:
    try:
        return is_linked(path)
    except OSError:
        return False
