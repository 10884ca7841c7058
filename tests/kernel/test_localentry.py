"""A kernel whose image has marked trampolines: the linker saves and restores r2 in it, `callsite`
in modules. And the same marked objects with the mark taken off again."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from scpatch.verifier.files import verify_link
from tests import tools
from tests.kernel.boot import boot
from tests.kernel.build import Kernel, build
from tests.kernel.cases import CASES, cases
from tests.kernel.conftest import Booted
from tests.kernel.images import module
from tests.kernel.linux import Linux
from tests.kernel.store import KernelError
from tests.kernel.variants import SCPATCH, Variant
from tests.strategies.localentry_support import marked
from tests.tools import CROSS, LD

_STEP = SCPATCH / "kbuild" / "scpatch-ld"
MARKED = Variant("localentry", flags="--strategy=localentry")
PRELINKED = Variant("localentry-prelink", flags="--strategy=localentry --prelink")
UNMARKED = Variant(
    "unmark", linker=f"--strategy=localentry {_STEP} --strategy=callsite --unmark {LD}"
)
"""The objects go through the step twice: the second one undoes what the first one has done."""

STEPS = tuple(step for step in CASES if step != "stubs")
"""There are no stubs with names in the image."""


@pytest.fixture(scope="module")
def image(linux: Linux) -> Kernel:
    return build(linux, MARKED)


def states(kernel: Kernel) -> Counter[str]:
    """What became of the calls in an image. Those in its objects are all there."""
    verdict = verify_link([kernel.vmlinux.with_name("vmlinux.o")], kernel.vmlinux)
    assert verdict.proof.errors == ()
    counts = Counter(str(site.state) for site in verdict.proof.sites)
    assert verdict.proven == ("wrong" not in counts)
    return counts


@pytest.mark.short
def test_every_case_passes(booted: Booted) -> None:
    assert booted(MARKED, *STEPS).faults(cases(*STEPS)) == []


def test_one_object_has_no_room_for_stubs(linux: Linux) -> None:
    """GNU ld puts them in front of a section, here of the one with the kernel's entry points."""
    with pytest.raises(KernelError, match=r"the linker moved start_text to .*\[SCP403\]"):
        build(linux, PRELINKED)


def test_every_case_passes_unmarked(booted: Booted) -> None:
    assert booted(UNMARKED, *CASES).faults(cases(*CASES)) == []


def test_every_call_has_the_linkers_stub(image: Kernel, naive: Kernel) -> None:
    (count,) = states(naive).values()
    assert count > 300
    assert states(naive) == {"wrong": count}
    assert states(image) == {"linker": count}


def test_no_call_has_it_any_more(linux: Linux, naive: Kernel, rewritten: Kernel) -> None:
    counts = states(build(linux, UNMARKED))
    assert counts == states(rewritten)
    assert counts.total() == states(naive).total()
    assert set(counts) == {"stub", "saved"}


def _others(path: Path) -> Counter[str]:
    """The st_other of the trampolines that an image defines."""
    trampolines = [symbol for symbol in tools.symbols(path) if symbol.name.startswith("__SCT__")]
    return Counter(symbol.other for symbol in trampolines if symbol.section != "UND")


def test_the_trampolines_load_r2_from_the_paca(image: Kernel, naive: Kernel) -> None:
    count = _others(naive.vmlinux)["[<localentry>: 8]"]
    assert count > 200
    assert _others(image.vmlinux) == {"[<localentry>: 1]": count}
    text = tools.run(CROSS + "objdump", "-d", "--no-show-raw-insn", image.vmlinux).stdout
    loads = re.findall(r"<__SCT__[^>]+>:\n.*\tld +r2,(\d+)\(r13\)\n.*\tnop", text)
    assert loads == ["16"] * count


def test_modules_are_rewritten_by_callsite(image: Kernel, rewritten: Kernel) -> None:
    for file in image.modules:
        assert file.read_bytes() == module(rewritten, file.name).read_bytes()
    assert _others(module(image, "sct_calls.ko")) == _others(module(rewritten, "sct_calls.ko"))


def _for_the_loader(path: Path) -> None:
    """Turns NONE into TOCSAVE: the module loader refuses the first, and ignores the second."""
    count: Counter[str] = Counter()
    data = bytearray(path.read_bytes())
    starts = {section.name: section.offset for section in tools.sections(path)}
    for relocation in tools.relocations(path):
        at = starts[relocation.table] + 24 * count[relocation.table]
        count[relocation.table] += 1
        if relocation.type == "NONE":
            data[at + 8] = 109
    path.write_bytes(data)


def test_a_mark_inside_a_module_does_nothing(image: Kernel, naive: Kernel, tmp_path: Path) -> None:
    """The module's trampolines are marked by force, as if it were an object that is linked again:
    the loader ignores it, and where such a trampoline leads to the kernel, r2 is lost."""
    name, other = b".gnu.linkonce.this_module", b".gnu.linkonce.this_object"
    before = module(naive, "sct_calls.ko")
    disguised = tmp_path / "sct_calls.o"
    disguised.write_bytes(before.read_bytes().replace(name, other))
    forced = tmp_path / "sct_calls.ko"
    forced.write_bytes(marked(disguised).read_bytes().replace(other, name))
    _for_the_loader(forced)
    assert set(_others(forced)) == {"[<localentry>: 1]"}
    modules = [forced if file.name == forced.name else file for file in image.modules]
    log = boot(replace(image, modules=tuple(modules)), ["plain"], tmp_path)
    assert log.finished
    assert not log.errors
    failed = {name for name, case in log.cases.items() if not case.ok}
    assert failed == {case for case in cases("plain") if case.partition("/")[2].startswith("MMK")}
