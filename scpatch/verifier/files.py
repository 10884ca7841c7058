"""Verifies files: two objects, archives or linked images, or an image and what it was linked from.
Checks one file alone.

This is the top of the verifier. It opens archives, asks the proof about each pair of objects, and
executes their call sites. Nothing below imports it.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from scpatch.verifier.archives import counted_names, is_archive, open_archive, open_archives
from scpatch.verifier.beside import beside
from scpatch.verifier.check import CheckVerdict, check
from scpatch.verifier.execute import execute
from scpatch.verifier.linked import prove_images, prove_link
from scpatch.verifier.objects import decoder
from scpatch.verifier.objects.read import is_linked
from scpatch.verifier.objects.variant import variant_of
from scpatch.verifier.options import DEFAULTS, KernelOffsets, Source, VerifyOptions
from scpatch.verifier.proof import Proof, prove
from scpatch.verifier.reasons.interface import Surroundings
from scpatch.verifier.tools import Search, Toolchain, Tools
from scpatch.verifier.verdict import SiteRuns, Verdict

IN_MEMORY = "<bytes>"
"""What messages call a source that is no file."""


def verify_files(
    before: Source,
    after: Source,
    options: VerifyOptions = DEFAULTS,
    tools: Tools | Search | None = None,
    *,
    label: str = "",
) -> list[Verdict]:
    """Verifies that `after` is `before` with every static call right: one verdict for an object or
    a linked image, and one for each object of an archive.

    `label` is what verdicts call `after`, if that is not its path. Given `tools`, also executes
    every call site of both versions, but for those of images: no program can be made of an image.
    A file that cannot be judged is an error of its verdict.

    Raises OSError for a file that cannot be opened, and ScpatchError if `ar` is missing (SCP301)
    or cannot read an archive, or if an object cannot be linked or started (SCP302).
    """
    decoder.choose(options.toolchain)
    label = label or (IN_MEMORY if isinstance(after, bytes) else str(after))
    with _paths([before, after]) as (old, new):
        if not is_archive(old) and not is_archive(new):
            return [_verify_object(label, old, new, options, tools)]
        with open_archives(old, new, label, options.toolchain) as members:
            verdicts = [
                _verify_object(pair.label, pair.before, pair.after, options, tools)
                for pair in members.pairs
                if pair.is_object
            ]
            if members.errors:
                verdicts.append(Verdict(label, Proof((), members.errors), None))
            return verdicts


def verify_link(
    objects: Sequence[Source], image: Source, options: VerifyOptions = DEFAULTS
) -> Verdict:
    """Verifies every static call of a linked image; with the objects and archives that it was
    linked from, also that it has as many calls as they. Executes nothing.

    Raises OSError for a file that cannot be opened, and ScpatchError as `verify_files` does for
    archives.
    """
    decoder.choose(options.toolchain)
    label = IN_MEMORY if isinstance(image, bytes) else str(image)
    with _paths([*objects, image]) as (*inputs, linked), ExitStack() as archives:
        proof = prove_link(
            _objects(inputs, archives, options.toolchain),
            linked,
            options.trampolines,
            options.offsets.paca_toc,
        )
        return Verdict(label, proof, None)


def check_file(
    source: Source,
    options: VerifyOptions = DEFAULTS,
    *,
    for_image: bool = False,
    label: str = "",
) -> list[CheckVerdict]:
    """Says whether every static call of a file is right: one verdict for an object, a module or a
    linked image, and one for each object of an archive. Executes nothing.

    `for_image` says that the file will be linked into the kernel's image, `label` what verdicts
    call it, if that is not its path. Raises OSError for a file that cannot be opened, and
    ScpatchError as `verify_files` does for archives.
    """
    decoder.choose(options.toolchain)
    label = label or (IN_MEMORY if isinstance(source, bytes) else str(source))
    offsets = options.offsets
    livepatch = offsets.paca_thread_info, offsets.livepatch_sp

    def judge(path: Path, name: str) -> CheckVerdict:
        known = Surroundings(for_image or is_linked(path), offsets.paca_toc, livepatch)
        return check(path, name, options.trampolines, known)

    with _paths([source]) as (path,):
        if not is_archive(path):
            return [judge(path, label)]
        with open_archive(path, options.toolchain) as members:
            names = counted_names(members)
            return [
                judge(member.path, f"{label}({name})")
                for member, name in zip(members, names, strict=True)
                if member.is_object
            ]


@contextmanager
def _paths(sources: Sequence[Source]) -> Iterator[list[Path]]:
    """The paths of sources; bytes are written to a temporary folder, since `ar`, `ld` and LIEF
    read files."""
    with ExitStack() as stack:
        paths = []
        for source in sources:
            if isinstance(source, bytes):
                path = Path(stack.enter_context(TemporaryDirectory(prefix="scpatch-verify-")), "o")
                path.write_bytes(source)
            else:
                path = Path(source)
            paths.append(path)
        yield paths


def _objects(inputs: Iterable[Path], stack: ExitStack, toolchain: Toolchain) -> Iterator[Path]:
    """The objects among the inputs of a link, those in archives too. `stack` keeps them."""
    for path in inputs:
        if is_archive(path):
            members = stack.enter_context(open_archive(path, toolchain))
            yield from (member.path for member in members if member.is_object)
        else:
            yield path


def _verify_object(
    label: str, before: Path, after: Path, options: VerifyOptions, tools: Tools | Search | None
) -> Verdict:
    """The verdict on two objects, or on two linked images."""
    with _no_collector():
        return _judge_object(label, before, after, options, tools)


@contextmanager
def _no_collector() -> Iterator[None]:
    """Python's collector of cycles visits all relocations and symbols again and again. The proof
    makes no cycles, and without it takes three quarters of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _judge_object(
    label: str, before: Path, after: Path, options: VerifyOptions, tools: Tools | Search | None
) -> Verdict:
    offsets = options.offsets
    if is_linked(before) or is_linked(after):
        proof = prove_images(before, after, options.trampolines, offsets.paca_toc)
        return Verdict(label, proof, None)
    tools = _choose(tools, after)
    proof = prove(
        before,
        after,
        options.trampolines,
        offsets.paca_toc,
        livepatch_offsets=(offsets.paca_thread_info, offsets.livepatch_sp),
        for_kernel=options.for_kernel,
    )
    if tools is None or proof.errors:
        return Verdict(label, proof, None)
    return Verdict(label, proof, _run(before, after, proof, tools, offsets), tools)


def _choose(tools: Tools | Search | None, path: Path) -> Tools | None:
    """The programs for a file; none for one that the proof cannot read."""
    if not isinstance(tools, Search):
        return tools
    with path.open("rb") as file:
        variant = variant_of(file.read(8))
    return None if variant is None else tools.of(variant.byte_order)


def _run(
    before: Path, after: Path, proof: Proof, tools: Tools, offsets: KernelOffsets
) -> tuple[SiteRuns, ...]:
    """Executes the call sites that a program can be made of, in both versions."""
    sites = [site for site in proof.sites if site.runs]
    offsets = _completed(offsets, proof)
    unmarked = [replace(site, code=None, marked=False) for site in sites]
    size = before.stat().st_size + after.stat().st_size
    with beside(partial(execute, after, sites, tools, offsets), size) as run_again:
        old = execute(before, unmarked, tools, offsets)
        return tuple(map(SiteRuns, sites, old, run_again()))


def _completed(offsets: KernelOffsets, proof: Proof) -> KernelOffsets:
    """The offsets with those that the code uses in place of unknown ones."""
    if offsets.paca_toc is None:
        offsets = replace(offsets, paca_toc=proof.paca_toc)
    if proof.livepatch is not None and None in (offsets.paca_thread_info, offsets.livepatch_sp):
        thread_info, livepatch_sp = proof.livepatch
        offsets = replace(offsets, paca_thread_info=thread_info, livepatch_sp=livepatch_sp)
    return offsets
