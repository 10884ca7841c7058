"""What becomes of calls that a stub cannot serve, or that are none, and what linkers make of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from scpatch.linux.offsets import Offsets
from scpatch.rewriter import Options, plan_file
from scpatch.sites.actions import Common
from scpatch.verifier.files import verify_link
from scpatch.verifier.proof import prove
from tests import tools
from tests.awkward import CALL, LOCAL, LOCAL_TOC, OTHER, PLAIN, SOURCES, T, typed
from tests.tools import (
    CROSS,
    LD,
    LLD,
    code,
    relocations,
    rewrite,
    rewritten,
    run,
    scan_file,
    states,
    symbol,
)

Assemble = Callable[..., Path]
OFFSETS = Offsets(paca_toc=16, paca_thread_info=2504, livepatch_sp=120)
WEAK = SOURCES["weak and undefined"]
MODULE = '.section .gnu.linkonce.this_module,"aw"\n.quad 0\n'
MAIN = (
    "FUNC _start\n blr\nEND _start\nFUNC __SCT__y\n blr\nEND __SCT__y\nFUNC target\n blr\n"
    "END target\n"
)


def planned(path: Path, strategy: str | None, **choices: object) -> list[str]:
    options = Options(strategy, offsets=OFFSETS, **choices)  # type: ignore[arg-type]
    plan = plan_file(path, options)
    sites = [site for entry in plan.objects for site in entry.plan.sites]
    return [f"{site.state} {site.code}".strip() for site in sites]


@pytest.mark.parametrize(
    ("strategy", "choices", "want"),
    [
        ("callsite", {}, "refused SCP245"),
        ("callsite", {"undefined": "rewrite"}, "refused SCP245"),
        ("callsite", {"undefined": "skip"}, "loader"),
        ("paca", {}, "paca"),
        ("localentry", {}, "linker"),
        ("livepatch-stack", {}, "trampoline"),
    ],
)
def test_a_weak_undefined_trampoline(
    assemble: Assemble, strategy: str, choices: dict[str, object], want: str
) -> None:
    assert planned(assemble(WEAK), strategy, **choices) == [want]


def test_what_needs_no_stub_for_a_weak_one(assemble: Assemble) -> None:
    saved = assemble(SOURCES["weak, r2 saved"])
    assert states(saved, undefined="rewrite") == {"f": ["saved"]}
    assert states(assemble(SOURCES["weak, no nop"]), no_nop="thunk") == {"f": ["thunk"]}
    for undefined in ("auto", "rewrite", "skip"):
        assert states(assemble(WEAK + MODULE), undefined=undefined) == {"f": ["loader"]}


def test_a_call_that_gets_no_stub_saves_nothing_for_the_next(assemble: Assemble) -> None:
    path = assemble(SOURCES["weak, then another"])
    assert states(path, undefined="rewrite") == {"f": ["refused SCP245", "rewrite"]}
    path = assemble(SOURCES["weak, then saved"])
    assert states(path, undefined="rewrite") == {"f": ["saved", "saved"]}


def weakened(assemble: Assemble, source: str, *names: str) -> Path:
    """As an older version rewrote it: a stub for what is then weak."""
    path = rewritten(assemble(source))
    run(CROSS + "objcopy", *(f"--weaken-symbol={name}" for name in names), path)
    return path


def test_a_stub_that_is_there(assemble: Assemble) -> None:
    path = weakened(assemble, PLAIN, "__SCT__x")
    assert states(path) == {"f": ["refused SCP248"]}
    (site,) = prove(path, path).sites
    assert (site.state, site.right) == ("left", False)
    assert "weak undefined" in site.why


@pytest.mark.parametrize("linker", [LD, LLD])
def test_what_linkers_make_of_such_a_stub(assemble: Assemble, linker: str, tmp_path: Path) -> None:
    """GNU ld a nop, so that the next stub runs; lld a branch to itself."""
    both = PLAIN + "FRAME g\n bl __SCT__y\n nop\nLEAVE g\n"
    path = weakened(assemble, both, "__SCT__x")
    image = tmp_path / "image"
    run(linker, "-o", image, assemble(MAIN, "main.o"), path)
    sites = {site.function: site for site in verify_link([], image).proof.sites}
    assert (sites["f"].state, sites["g"].state) == ("wrong", "stub")
    assert "does not lead to its trampoline" in sites["f"].why
    (planned_image,) = plan_file(image, Options(None)).objects
    ours = {site.function: (site.state, site.code) for site in planned_image.plan.sites}
    assert ours == {"f": (Common.REFUSED, "SCP248"), "g": (Common.DONE, "")}


@pytest.mark.parametrize("linker", [LD, LLD])
@pytest.mark.parametrize("name", ["weak, r2 saved", "weak, no nop"])
def test_linked_without_it_a_weak_call_keeps_r2(
    assemble: Assemble, linker: str, name: str, tmp_path: Path
) -> None:
    """GNU ld makes a nop of the `bl`, also in a thunk; the word behind restores what was saved."""
    path = rewritten(assemble(SOURCES[name]), undefined="rewrite", no_nop="thunk")
    image = tmp_path / "image"
    run(linker, "-o", image, assemble(MAIN, "main.o"), path)
    text = code(image)
    if linker == LD:
        assert 0x60000000 in text
    at = [at for at, word in enumerate(text) if word == tools.LD_R2]
    assert at
    assert verify_link([], image).proof.sites == ()


def test_types_that_are_no_code(assemble: Assemble) -> None:
    for name in ("object", "thread-local", "unique", "common"):
        assert states(assemble(SOURCES[name])) == {"f": ["refused SCP246"]}, name
        assert scan_file(assemble(SOURCES[name])).trampolines == ()


@pytest.mark.parametrize("linker", [LD, LLD])
def test_an_ifunc_is_the_linkers(assemble: Assemble, linker: str, tmp_path: Path) -> None:
    """Both send the call through the PLT by a stub that saves r2, and restore it in the nop."""
    path = assemble(typed("@gnu_indirect_function") + PLAIN)
    assert states(path) == {"f": ["linker"]}
    image = tmp_path / "image"
    run(linker, "-o", image, assemble(MAIN, "main.o"), path)
    shown = run(CROSS + "objdump", "-d", image).stdout
    call = shown.split("<f>:")[1].split("bl ")[1].splitlines()
    assert "ld      r2,24(r1)" in call[1]
    stub = shown.split(call[0].split("<")[1].rstrip(">") + ">:")[1]
    assert "std     r2,24(r1)" in stub.splitlines()[1]


@pytest.mark.parametrize("linker", [[LD, "-r"], [LLD, "-r"]], ids=["GNU ld", "lld"])
def test_a_stub_that_two_objects_share(
    assemble: Assemble, linker: list[str], tmp_path: Path
) -> None:
    """`ld -r` keeps one symbol; the other stub is dead code, and its branch no call."""
    output = rewritten(assemble(PLAIN))
    other = tmp_path / "other.o"
    run(CROSS + "objcopy", "--redefine-sym", "f=g", output, other)
    both = tmp_path / "both.o"
    run(*linker, "-o", both, output, other)
    assert sum(relocation.type == "REL24" for relocation in relocations(both)) == 4
    assert states(both) == {"f": ["done"], "g": ["done"]}
    proof = prove(both, both)
    assert [site.state for site in proof.sites] == ["done", "done"]


def test_a_thunk_by_hand_is_no_stub(assemble: Assemble) -> None:
    for name in ("thunk by hand", "thunk by hand, exported", "thunk by hand, nameless"):
        path = assemble(SOURCES[name])
        assert "refused SCP203" in [word for site in states(path).values() for word in site], name
        # Nor beside a stub for the same trampoline.
        after = rewritten(path)
        assert "refused SCP203" in [word for site in states(after).values() for word in site], name


def test_a_resolved_call_goes_to_a_stub(assemble: Assemble) -> None:
    """The distance in the `bl` changes, and no relocation is added for it."""
    path = assemble(SOURCES["resolved"])
    after = rewritten(path)
    (site,) = scan_file(path).sites
    stub = next(symbol for symbol in tools.symbols(after) if symbol.name.startswith("r2save."))
    word = code(after)[site.offset // 4]
    assert word & 0xFC000003 == tools.BL
    assert site.offset + (word & 0x3FFFFFC) == stub.value
    assert [
        relocation.offset for relocation in relocations(after) if relocation.type == "REL24"
    ] == [
        symbol(path, "__SCT__x").value,
        stub.value + 4,
    ]
    assert states(after) == {"f": ["done"]}
    assert [site.state for site in scan_file(after).sites] == [Common.DONE]


@pytest.mark.parametrize(
    ("name", "strategy", "want"),
    [
        ("resolved", "paca", "paca"),
        ("resolved", "localentry", "refused SCP212"),
        ("resolved", "livepatch-stack", "trampoline"),
        ("resolved, marked", "callsite", "linker"),
        ("resolved, nothing relocated", "callsite", "refused SCP212"),
        ("resolved, global entry", "callsite", "refused SCP212"),
        ("resolved, saved", "callsite", "saved"),
        ("resolved, no nop", "callsite", "refused SCP201"),
    ],
)
def test_resolved_calls_by_strategy(
    assemble: Assemble, name: str, strategy: str, want: str
) -> None:
    source = SOURCES[name]
    if strategy == "livepatch-stack":
        source = source.replace("b target", "mtctr 12\n bctr")
    assert planned(assemble(source), strategy) == [want]


INSIDE = ["bl __SCT__x+4", "b __SCT__x+4", "beq __SCT__x+4", "bl __SCT__x+8"]


@pytest.mark.parametrize("strategy", ["callsite", "paca", "localentry", "livepatch-stack"])
@pytest.mark.parametrize("branch", INSIDE)
def test_a_resolved_branch_past_the_entry(assemble: Assemble, branch: str, strategy: str) -> None:
    """No relocation shows it."""
    local = LOCAL.replace("b target", "nop\n mtctr 12\n bctr")
    path = assemble(f"{local}\nFRAME f\n {branch}\n nop\nLEAVE f\n")
    assert planned(path, strategy) == ["refused SCP205"]
    (site,) = prove(path, path).sites
    assert (site.state, site.right) == ("left", False)
    assert "bytes past the trampoline's entry" in site.why


@pytest.mark.parametrize("size", ["f+8-__SCT__x", "0x400", "0x4000000000"])
def test_a_trampoline_that_says_it_is_longer(assemble: Assemble, size: str) -> None:
    """Than to the next function or to the section's end: a call from there is a call."""
    path = assemble(f"{LOCAL}\n .size __SCT__x, {size}\nFRAME f\n CALL __SCT__x\nLEAVE f\n")
    after = path.with_name("after.o")
    rewrite(path, after)
    (site,) = prove(path, after).sites
    assert (site.state, site.right) == ("stub", True)


def test_a_resolved_branch_past_a_stubs_entry(assemble: Assemble) -> None:
    stub = "r2save.__SCT__x.0123456789ab"
    code = f"FUNC {stub}\n 1: std 2, 24(1)\n b __SCT__x\nEND {stub}\n"
    path = assemble(f"FRAME f\n bl 1f+4\n ld 2, 24(1)\nLEAVE f\n{code}")
    assert planned(path, "callsite") == ["refused SCP205"]
    (site,) = prove(path, path).sites
    assert "bytes past the stub's entry" in site.why


@pytest.mark.parametrize("linked", [False, True])
def test_added_code_goes_back_to_after_a_prologue(
    assemble: Assemble, tmp_path: Path, linked: bool
) -> None:
    """It is no call, in the object nor in the image."""
    toc = LOCAL_TOC.replace("b target", "mtctr 12\n bctr")
    path = assemble(f".globl __SCT__x\n{toc}\nFRAME f\n CALL __SCT__x\nLEAVE f\n")
    after = path.with_name("after.o")
    rewrite(path, after, strategy="localentry")
    assert "r2toc.__SCT__x" in run(CROSS + "nm", after).stdout
    if linked:
        run(LD, "-e", "f", "-o", tmp_path / "image", after)
        after = tmp_path / "image"
    assert planned(after, None if linked else "localentry") == ["done" if linked else "linker"]
    proof = verify_link([], after).proof if linked else prove(after, after)
    assert [site.state for site in proof.sites] == ["linker"]


def test_a_resolved_call_counts_for_the_next(assemble: Assemble) -> None:
    """Its stub saves r2; where it gets none it loses r2."""
    assert states(assemble(SOURCES["resolved, twice"])) == {"f": ["rewrite", "saved"]}
    path = assemble(SOURCES["resolved, r2 lost, then saved"])
    assert states(path, undefined="rewrite") == {"f": ["refused SCP201", "rewrite"]}


@pytest.mark.parametrize("linker", [LD, LLD])
def test_a_version_in_a_name(assemble: Assemble, linker: str, tmp_path: Path) -> None:
    """Linkers read a version in what follows an `@` of any symbol, a stub's too."""
    source = CALL.format("impl") + T.replace("__SCT__x", "impl").replace("b target", "blr")
    path = assemble(source + ".hidden impl\n.symver impl, __SCT__x@@@V1\n")
    after = rewritten(path)
    (stub,) = [symbol.name for symbol in tools.symbols(after) if symbol.name.startswith("r2save.")]
    assert stub.startswith("r2save.__SCT__x%40%40V1.")
    assert [stub.trampoline for stub in scan_file(after).stubs] == ["__SCT__x@@V1"]
    script = tmp_path / "versions"
    script.write_text("V1 { global: *; };\n")
    image = tmp_path / "image.so"
    run(linker, "-shared", f"--version-script={script}", "-o", image, after)
    verdict = verify_link([after], image)
    assert [site.state for site in verdict.proof.sites] == ["stub"]


def test_local_trampolines_by_either_way(assemble: Assemble) -> None:
    """One symbol, called with and without a relocation, gets one stub."""
    source = f"FRAME f\n bl __SCT__x\n nop\nLEAVE f\n{LOCAL}"
    path = assemble(source + f"{OTHER}FRAME g\n bl __SCT__x\n nop\nLEAVE g\n")
    after = rewritten(path)
    names = [symbol.name for symbol in tools.symbols(after) if symbol.name.startswith("r2save.")]
    assert len(names) == len(set(names)) == 2
    assert prove(path, after).errors == ()
