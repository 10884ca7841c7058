"""`scpatch verify`: the proof by an independent reader, and both objects executed under QEMU."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from scpatch.elf.constants import ET_REL
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
    for_kernel: bool,
    form: str | None,
    quiet: bool,
    verbose: bool,
    offsets: Offsets,
) -> Exit:
    """Proves and executes; OK means that all is proven. Raises SCP301 where a tool is missing."""
    tools = find_tools() if execute else None
    both = (before, after)
    # One that is linked can be compared with another such image only.
    linked = all(_check(path, linked=True) for path in both)
    if not linked:
        for path in both:
            _check(path, linked=False)
    kernel = Kernel(**offsets._asdict())
    verdicts = verify_files(before, after, trampolines, tools, kernel, for_kernel=for_kernel)
    if not quiet:
        form = form or ("terminal" if sys.stdout.isatty() else "plain")
        print_verify(verdicts, form, verbose=verbose)
    return Exit.OK if all(verdict.proven for verdict in verdicts) else Exit.ERROR


def _check(path: Path, *, linked: bool) -> bool:
    """Refuses what is no object or archive nor, if so wanted, a linked image, with the message that
    every command gives for it. Returns whether it is an image."""
    with open_input(path) as source:
        if is_archive(source.data):
            return False
        return read_object(source.data, str(path), linked=linked).header.e_type != ET_REL
