"""A second opinion on the call sites: what objtool lists for each compiled object of a kernel.

`objtool --static-call` makes the same table on x86. On powerpc it decodes I-form branches only, in
older kernels only those that are calls, and writes 64-bit relocations on the table's 32-bit words.
So only what the entries name is compared.
"""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from scpatch.rewriter import Options, plan_file
from tests import tools
from tests.kernel.build import build, object_tree
from tests.kernel.linux import Linux
from tests.kernel.make import objtool
from tests.kernel.source import pristine_tree
from tests.kernel.store import folder, locked
from tests.kernel.test_pcrel import too_old
from tests.kernel.variants import AT_SITES, PCREL_AT_SITES, Variant

TABLE = ".static_call_sites"
Entry = tuple[str, int, str, int]
"""Section and offset of a branch, the name of its key, flags."""


def no_objtool(linux: Linux) -> str:
    there = (pristine_tree(linux) / "tools/objtool/arch/powerpc").is_dir()
    return "" if there else "has no objtool for powerpc"


def objects(tree: Path) -> Iterator[tuple[Path, bool]]:
    """The members of vmlinux.a and the objects of the test's modules, if they name trampolines, and
    whether they are of modules."""
    members = tools.run(tools.CROSS + "ar", "t", tree / "vmlinux.a").stdout.split()
    image = {tree / member for member in members}
    modules = set((tree / "arch/powerpc/static_call_test").glob("*.o")) - image
    for path in sorted(image | modules):
        if b"__SCT__" in path.read_bytes():
            yield path, path in modules


def by_objtool(program: Path, path: Path, out: Path, *, module: bool) -> set[Entry]:
    shutil.copy(path, out)  # older ones have no option for the output
    words = [str(program), "--static-call", *["--module"] * module, str(out)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), f"{path}: {done.stderr}"
    symbols, headers = tools.symbols(out), tools.sections(out)
    words_of = [entry for entry in tools.relocations(out) if entry.table == f".rela{TABLE}"]
    entries = set()
    for call, key in zip(words_of[::2], words_of[1::2], strict=True):
        base = symbols[call.symbol]
        place = headers[int(base.section)].name, base.value + call.addend
        entries.add((*place, symbols[key.symbol].name, key.addend))
    return entries


def decodes_tails(linux: Linux) -> bool:
    """Whether objtool knows `b` for a jump."""
    decoder = pristine_tree(linux) / "tools/objtool/arch/powerpc/decode.c"
    return "INSN_JUMP_UNCONDITIONAL" in decoder.read_text()


def by_scpatch(path: Path) -> set[Entry]:
    """What --emit-sites lists. A site has moved to no thunk: a call without a nop is refused."""
    (entry,) = plan_file(path, Options(emit_sites=True)).objects
    words = {(site.section, site.offset): site.word for site in entry.plan.sites}
    return {
        (site.section_name, site.offset, site.key, 1 - (words[site.section, site.offset] & 1))
        for site in entry.plan.listed
    }


def scanned(path: Path, *, tails: bool) -> set[tuple[str, int]]:
    (entry,) = plan_file(path, Options(strategy=None)).objects
    sites = (site for site in entry.scan.sites if tails or site.word & 1)
    return {(site.section_name, site.offset) for site in sites}


_PCREL = [pytest.mark.thorough, pytest.mark.unless.with_args(too_old)]


@pytest.mark.unless.with_args(no_objtool)
@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(AT_SITES, id="toc"),
        pytest.param(PCREL_AT_SITES, id="pcrel", marks=_PCREL),
    ],
)
def test_it_lists_the_same_calls(linux: Linux, variant: Variant, tmp_path: Path) -> None:
    build(linux, variant)
    counts: Counter[str] = Counter()
    tails = decodes_tails(linux)
    with locked(folder() / "lock"):
        tree = object_tree(linux, variant)
        program = objtool(linux, tree, variant)
        for path, module in objects(tree):
            entries = by_objtool(program, path, tmp_path / "out.o", module=module)
            # A module that may not update a static call has no key of it before the last link.
            assert module or entries == by_scpatch(path), path
            assert {entry[:2] for entry in entries} == scanned(path, tails=tails), path
            counts.update(objects=bool(entries), calls=len(entries))
            counts["tails"] += sum(flags for *_, flags in entries)
    print(f"{linux.version} {variant.name}: {dict(counts)}")
    assert counts["objects"] > 50
    assert counts["calls"] > 300
    assert (counts["tails"] > 0) == (variant.pcrel and tails)
