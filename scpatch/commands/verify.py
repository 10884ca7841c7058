"""`scpatch verify`: the proof by an independent reader, and both objects executed under QEMU."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from scpatch.errors import Exit
from scpatch.inputs import is_archive, open_input, read_object
from scpatch.report.verify import print_verify
from scpatch.staticcall.offsets import Offsets
from scpatch.verify.execute import Kernel, find_tools
from scpatch.verify.verdict import verify_files


def run(
    before: Path,
    after: Path,
    trampolines: Sequence[str],
    *,
    execute: bool,
    form: str | None,
    quiet: bool,
    verbose: bool,
    offsets: Offsets,
) -> Exit:
    """Proves and executes; OK means that all is proven. Raises SCP301 where a tool is missing."""
    tools = find_tools() if execute else None
    for path in (before, after):
        _check(path)
    verdicts = verify_files(before, after, trampolines, tools, Kernel(**offsets._asdict()))
    if not quiet:
        form = form or ("terminal" if sys.stdout.isatty() else "plain")
        print_verify(verdicts, form, verbose=verbose)
    return Exit.OK if all(verdict.proven for verdict in verdicts) else Exit.ERROR


def _check(path: Path) -> None:
    """Refuses what is no object, archive or linked image, with the message of every command."""
    with open_input(path) as source:
        if not is_archive(source.data):
            read_object(source.data, str(path), linked=True)
