"""What a Python program imports as `scpatch`: the functions, their options and their results.

A source is a path or the bytes of an object or archive. Functions that get bytes touch no file,
but for `verify`. The command line and the step for Kbuild use the same functions.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from scpatch import rewriter
from scpatch import strategies as _strategies
from scpatch.elf.constants import ET_REL
from scpatch.errors import RefusedError as RefusedError
from scpatch.errors import ScpatchError as ScpatchError
from scpatch.files.inputs import is_archive, name_of, open_input, read_object
from scpatch.files.packing import signature_size
from scpatch.linux.offsets import Offsets as Offsets
from scpatch.linux.offsets import read_asm_offsets as read_asm_offsets
from scpatch.rewriter import FilePlan as FilePlan
from scpatch.rewriter import Lines as Lines
from scpatch.rewriter import ObjectPlan as ObjectPlan
from scpatch.rewriter import Options as Options
from scpatch.sites.actions import Action as Action
from scpatch.sites.choices import DEFAULT_TRAMPOLINES
from scpatch.sites.choices import Hoist as Hoist
from scpatch.sites.choices import NoNop as NoNop
from scpatch.sites.choices import Undefined as Undefined
from scpatch.sites.model import Scan as Scan
from scpatch.sites.model import Site as Site
from scpatch.sites.model import Stub as Stub
from scpatch.sites.model import Trampoline as Trampoline
from scpatch.strategies.plans import Plan as Plan

if TYPE_CHECKING:
    from scpatch.advisor import Advice
    from scpatch.differ.model import ObjectDiff
    from scpatch.verifier.check import CheckVerdict
    from scpatch.verifier.options import VerifyOptions
    from scpatch.verifier.tools import Toolchain
    from scpatch.verifier.verdict import Verdict

Source = str | os.PathLike[str] | bytes
"""A path, or the content of a file."""


class ObjectScan(NamedTuple):
    """What one object holds: a file, or a member of an archive."""

    name: str
    """The file's name, for a member `ARCHIVE(MEMBER)`."""
    scan: Scan
    intermediate: bool
    """It also holds what a link with LTO would compile in place of its machine code."""


class FileScan(NamedTuple):
    """What a file holds."""

    objects: tuple[ObjectScan, ...]

    @property
    def sites(self) -> tuple[Site, ...]:
        """The call sites of all objects, in section and offset order."""
        return tuple(site for entry in self.objects for site in entry.scan.sites)

    @property
    def trampolines(self) -> tuple[Trampoline, ...]:
        return tuple(trampoline for entry in self.objects for trampoline in entry.scan.trampolines)

    @property
    def stubs(self) -> tuple[Stub, ...]:
        """The code that earlier runs have added."""
        return tuple(stub for entry in self.objects for stub in entry.scan.stubs)


class NamedDiff(NamedTuple):
    """The differences of two objects, with the names that messages give them."""

    before: str
    after: str
    diff: ObjectDiff
    intermediate: bool
    """Whether the second one also holds what a link with LTO would compile instead."""


class StrategyInfo(NamedTuple):
    """What there is to know of a strategy before it is used."""

    name: str
    summary: str
    """One line."""
    text: str
    """What `scpatch explain` prints."""
    serves_modules: bool
    """Whether it can be applied to kernel modules."""
    takes_images: bool
    """Whether it can be applied to a linked kernel image."""
    options: frozenset[str]
    """The fields of `Options` that it takes and that not all strategies take."""


def list_strategies() -> tuple[StrategyInfo, ...]:
    """All strategies, sorted by name."""
    return tuple(
        StrategyInfo(name, s.summary, s.text, s.modules, s.images, s.takes)
        for name, s in ((name, _strategies.load(name)) for name in _strategies.names())
    )


def scan(source: Source, options: Options = Options()) -> FileScan:  # noqa: B008
    """Finds the trampolines and call sites of an object, archive or linked kernel image.

    Raises ScpatchError for a source that cannot be read (SCP109), that is not for ppc64
    ELFv2 (SCP101 to SCP106), or that is damaged (SCP107, SCP108).
    """
    entries = _plan(source, options._replace(strategy=None)).objects
    return FileScan(tuple(ObjectScan(e.name, e.scan, e.intermediate) for e in entries))


def plan(
    source: Source,
    strategy: str | None = None,
    options: Options = Options(),  # noqa: B008
    *,
    output: str | os.PathLike[str] | None = None,
) -> FilePlan:
    """What `rewrite` would do. Writes nothing.

    `strategy` is a name of `list_strategies`; None takes that of `options`. `output` is the path
    of the new file; without it the source is to be replaced. `FilePlan.data` is the new content.

    Raises ValueError for an unknown strategy and for an output of bytes, and ScpatchError as
    `scan` does or if the strategy cannot be applied to the file. A call that cannot be rewritten
    is no error: see `FilePlan.refused`.
    """
    if strategy is not None:
        options = options._replace(strategy=strategy)
    return _plan(source, options, output)


def rewrite(
    source: Source,
    strategy: str | None = None,
    options: Options = Options(),  # noqa: B008
    *,
    output: str | os.PathLike[str] | None = None,
    backup: bool = False,
    allow_refused: bool = False,
    sync: bool | None = None,
) -> FilePlan:
    """Plans and writes: to `output`, or in place. Nothing is written for bytes: the new content
    is `FilePlan.data`.

    All files are written, or none: each is made beside its target, then renamed. `backup` keeps
    the old file as NAME.orig. `sync` says whether to wait until the new file is on the disk; None:
    only if it replaces the old one.

    Raises RefusedError (SCP135) if a call cannot be rewritten, unless `allow_refused`; such
    calls then stay as they are. Raises ScpatchError if a file cannot be written (SCP110) or
    changed while it was read (SCP112), and as `plan` does.
    """
    planned = plan(source, strategy, options, output=output)
    rewriter.write([planned], backup=backup, allow_refused=allow_refused, sync=sync)
    return planned


def verify(
    before: Source,
    after: Source,
    options: Options = Options(),  # noqa: B008
    *,
    run: bool = True,
    toolchain: Toolchain | None = None,
    label: str = "",
    advice: str | None = None,
) -> list[Verdict]:
    """Proves that `after` is `before` with every call right; one verdict for each object.

    `run` also executes every call of both under QEMU, or on this machine if it can.
    `options` are those of the rewrite; `toolchain` says which programs to use. Module signatures
    are left out of the comparison. The verifier reads files, so bytes, and what is compressed or
    signed, go to temporary files. `label` is what verdicts call `after`, if not by its path;
    `advice` is what else to do if a tool is missing.

    Raises ScpatchError as `scan` does, SCP301 if a tool is missing, SCP302 if an object cannot
    be linked or executed, and SCP303 for a linker that cannot link such programs. A wrong
    call is no error: see `Verdict.proven`.
    """
    from scpatch.verifier.files import verify_files
    from scpatch.verifier.tools import Search

    verify_options = _verify_options(options, toolchain)
    tools = Search(verify_options.toolchain, advice) if run else None
    # A linked image can be compared with another one only.
    if not all(_check(source, linked=True) for source in (before, after)):
        for source in (before, after):
            _check(source, linked=False)
    return verify_files(
        _plain(before), _plain(after), verify_options, tools, label=label or str(_name(after))
    )


def verify_link(
    objects: Sequence[Source],
    image: Source,
    options: Options = Options(),  # noqa: B008
    toolchain: Toolchain | None = None,
) -> Verdict:
    """Proves the calls of a linked image; with the objects and archives that it was linked from,
    also that it has as many calls as they. Executes nothing. Bytes go to temporary files.

    Raises ScpatchError as `scan` does. A wrong call is no error: see `Verdict.proven`.
    """
    from scpatch.verifier.files import verify_link

    for source in objects:
        _check(source, linked=False)
    _check(image, linked=True)
    return verify_link(objects, image, _verify_options(options, toolchain))


def check(
    source: Source,
    options: Options = Options(),  # noqa: B008
    *,
    image: bool = False,
    toolchain: Toolchain | None = None,
) -> list[CheckVerdict]:
    """Whether every static call of an object, module, archive or linked image is right, by this
    file alone; one verdict for each object. Executes nothing and writes nothing.

    `image` says that the file will be linked into vmlinux. `options` has the names of trampolines,
    and the kernel's offsets, without which calls that use them are not shown to be right.
    `toolchain` says which `ar` opens archives.

    Raises ScpatchError as `scan` does, and SCP301 if `ar` is missing. A wrong call is no error:
    see `CheckVerdict.proven`.
    """
    from scpatch.verifier.files import check_file

    _check(source, linked=True)
    verify_options = _verify_options(options, toolchain)
    return check_file(_plain(source), verify_options, for_image=image, label=str(_name(source)))


def diff(
    before: Source,
    after: Source,
    *,
    context: int = 3,
    trampolines: Sequence[str] = DEFAULT_TRAMPOLINES,
) -> list[NamedDiff]:
    """What differs between two versions of an object, or of each object in an archive; objects
    that are the same are left out. `context` is the number of unchanged instructions to give
    before and after changed ones. `trampolines` are patterns, as in `Options`: calls of these are
    counted.

    Raises ValueError for a negative `context`, ScpatchError as `scan` does, and SCP113 if one
    archive lacks a member of the other.
    """
    if context < 0:
        raise ValueError(f"context must not be negative: {context}")
    from scpatch.differ.objects import diff_objects
    from scpatch.files.inputs import check_code, has_intermediate, is_linked, read_object
    from scpatch.files.members import label, open_objects, pair

    differences: list[NamedDiff] = []
    names = _name(before), _name(after)
    with open_objects(_input(before)) as old, open_objects(_input(after)) as new:
        for member, old_data, new_data in pair(old, new, names[1]):
            labels = label(names[0], member), label(names[1], member)
            check_code(old_data, labels[0])
            check_code(new_data, labels[1])
            if old_data != new_data:
                linked = is_linked(old_data) and is_linked(new_data)
                old_file = read_object(old_data, labels[0], linked=linked)
                new_file = read_object(new_data, labels[1], linked=linked)
                difference = diff_objects(old_file, new_file, context, trampolines)
                differences.append(NamedDiff(*labels, difference, has_intermediate(new_file)))
    return differences


def advise(
    source: Source,
    options: Options = Options(),  # noqa: B008
    *,
    image: bool = False,
) -> Advice:
    """What each strategy would change and cost, and which one to use. Writes nothing.

    `image` says that the file will be linked into vmlinux.

    Raises ScpatchError as `scan` does.
    """
    from scpatch import advisor

    if image and options.undefined is Undefined.AUTO:
        options = options._replace(undefined=Undefined.REWRITE)
    if image and options.hoist is Hoist.AUTO:
        options = options._replace(hoist=Hoist.KERNEL)
    return advisor.advise(_input(source), options, image=image)


def _input(source: Source) -> Path | bytes:
    return source if isinstance(source, bytes) else Path(source)


def _name(source: Source) -> Path:
    """The path of a source, or what messages call it."""
    return name_of(_input(source))


def _plan(
    source: Source, options: Options, output: str | os.PathLike[str] | None = None
) -> FilePlan:
    if isinstance(source, bytes) and output is not None:
        raise ValueError("output does not go with bytes: write FilePlan.data where you want it")
    return rewriter.plan_file(_input(source), options, None if output is None else Path(output))


def _plain(source: Source) -> Source:
    """A source that `_check` has taken, unpacked and without a module signature."""
    with open_input(_input(source), unpacked=True) as file:
        size = len(file.data) - signature_size(file.data, str(file.path))
        if file.packed is None and size == len(file.data):
            return source
        return bytes(file.data[:size])


def _verify_options(options: Options, toolchain: Toolchain | None) -> VerifyOptions:
    from scpatch.verifier.options import KernelOffsets, VerifyOptions
    from scpatch.verifier.tools import USUAL

    offsets = KernelOffsets(**options.offsets._asdict())
    return VerifyOptions(
        options.trampolines, offsets, options.hoist is Hoist.KERNEL, toolchain or USUAL
    )


def _check(source: Source, *, linked: bool) -> bool:
    """Whether a source is a linked image. Raises ScpatchError as `scan` does for what is neither
    an object nor an archive nor, if `linked` permits it, an image."""
    with open_input(_input(source), unpacked=True) as file:
        if is_archive(file.data):
            return False
        return read_object(file.data, str(file.path), linked=linked).header.e_type != ET_REL
