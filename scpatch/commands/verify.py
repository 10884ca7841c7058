"""`scpatch verify`: the proof by an independent reader, and both objects executed under QEMU; or
what became of the calls in a linked image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from scpatch.elf.constants import ET_REL
from scpatch.errors import Exit, ScpatchError
from scpatch.files.inputs import is_archive, open_input, read_object
from scpatch.files.members import label, open_objects
from scpatch.options import UsageError, library_options
from scpatch.report.forms import print_report
from scpatch.report.messages import note_intermediate, print_unmatched
from scpatch.report.verify import VerifyReport
from scpatch.sites.choices import Hoist
from scpatch.sites.symbols import find_trampolines
from scpatch.verifier.execute import find_tools
from scpatch.verifier.files import verify_files, verify_link
from scpatch.verifier.objects.read import is_linked
from scpatch.verifier.options import KernelOffsets, VerifyOptions
from scpatch.verifier.verdict import Verdict


class Values(NamedTuple):
    files: tuple[Path, ...]
    run: bool
    trampoline: tuple[str, ...]
    hoist: Hoist
    asm_offsets: Path | None
    paca_toc_offset: int | None
    format: str | None
    quiet: bool
    verbose: bool


def run(values: Values) -> Exit:
    """Proves and executes `BEFORE AFTER`, or proves what was linked, `[OBJECT...] IMAGE`.

    OK means that all is proven. Raises UsageError for other files, and SCP301 if a tool is
    missing.
    """
    verdicts = _verify(values)
    if not values.quiet:
        _warn(values.files, values.trampoline)
        print_report(VerifyReport(verdicts, values.verbose), values.format)
        note_intermediate(one.label for one in verdicts if one.proof.intermediate)
    return Exit.OK if all(verdict.proven for verdict in verdicts) else Exit.ERROR


def _verify(values: Values) -> list[Verdict]:
    options = library_options(
        None,
        trampoline=values.trampoline,
        hoist=values.hoist,
        asm_offsets=values.asm_offsets,
        paca_toc_offset=values.paca_toc_offset,
    )
    offsets = KernelOffsets(**options.offsets._asdict())
    kernel = values.hoist is Hoist.KERNEL
    verify_options = VerifyOptions(options.trampolines, offsets, for_kernel=kernel)
    *others, last = values.files
    if is_link(values.files):
        for path in others:
            _check(path, linked=False)
        _check(last, linked=True)
        return [verify_link(others, last, verify_options)]
    if len(others) != 1:
        raise UsageError("name two files, or a linked image after the objects in it")
    tools = find_tools() if values.run else None
    # A linked image can be compared with another one only.
    linked = all(_check(path, linked=True) for path in values.files)
    if not linked:
        for path in values.files:
            _check(path, linked=False)
    return verify_files(others[0], last, verify_options, tools)


def _warn(files: Sequence[Path], patterns: Sequence[str]) -> None:
    """Tells of patterns that nothing matches. Of a file that cannot be read the report tells."""
    try:
        print_unmatched(patterns, list(_names(files, patterns)) if patterns else ())
    except ScpatchError:
        return


def _names(files: Sequence[Path], patterns: Sequence[str]) -> Iterator[str]:
    """The names of symbols that match, by scpatch's own reader: the proof has those of calls."""
    for path in files:
        with open_objects(path) as objects:
            for member, data in objects.items():
                file = read_object(data, label(path, member), linked=True)
                if file.symbols is not None:
                    yield from (one.name for one in find_trampolines(file.symbols, patterns))


def is_link(files: Sequence[Path]) -> bool:
    """Whether the last file is an image, and the others are what it was linked from."""
    linked = [_is_linked(path) for path in files]
    return linked[-1] and not any(linked[:-1])


def _is_linked(path: Path) -> bool:
    try:
        return is_linked(path)
    except OSError:
        return False


def _check(path: Path, *, linked: bool) -> bool:
    """Refuses what is no object or archive nor, if so wanted, a linked image, with the message that
    every command gives for it. Returns whether it is an image."""
    with open_input(path) as source:
        if is_archive(source.data):
            return False
        return read_object(source.data, str(path), linked=linked).header.e_type != ET_REL
