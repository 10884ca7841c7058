"""`scpatch verify`: proves a rewritten file and executes it, or proves the calls of an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scpatch.api import scan, verify, verify_link
from scpatch.errors import Exit, ScpatchError
from scpatch.options import UsageError, Values, library_options, look, shown
from scpatch.report.filters import EVERYTHING
from scpatch.report.forms import print_report
from scpatch.report.messages import note_intermediate, print_findings, print_unmatched
from scpatch.report.progress import progress
from scpatch.report.verify import VerifyReport
from scpatch.rewriter import Options
from scpatch.verifier.objects.read import is_linked
from scpatch.verifier.phases import listening
from scpatch.verifier.tools import Toolchain


def run(values: Values) -> Exit:
    """Proves and executes `BEFORE AFTER`, or proves what was linked, `[OBJECT...] IMAGE`.

    OK means that all is proven. Raises UsageError for other files, and SCP301 if a tool is
    missing.
    """
    options = library_options(values)
    toolchain = Toolchain(values.cross_compile, values.ld, values.ar, values.qemu)
    *others, last = values.files
    with progress("verifying", quiet=values.quiet) as phase, listening(phase):
        if _is_linked(last) and not any(map(_is_linked, others)):
            verdicts = [verify_link(others, last, options, toolchain)]
        elif len(others) == 1:
            verdicts = verify(others[0], last, options, run=values.run, toolchain=toolchain)
        else:
            raise UsageError("name two files, or a linked image after the objects in it")
    report = VerifyReport(verdicts, values.verbose, shown(values))
    if values.quiet:
        print_findings(report._replace(shown=EVERYTHING).findings())
    else:
        if values.trampolines:
            _warn(values.files, options)
        print_report(report, values.format, look(values))
        note_intermediate(verdict.label for verdict in verdicts if verdict.proof.intermediate)
    return Exit.OK if all(verdict.proven for verdict in verdicts) else Exit.ERROR


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
