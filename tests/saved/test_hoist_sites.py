"""Where r2 can be saved in the nop after an earlier call: done, proven, and refused elsewhere.

Each case is one object with a function `f` that calls `other` first and `__SCT__x` last. Of the
cases in which the nop must stay, the object is also changed by hand as if it could go: the proof,
which shares nothing with the analysis, has to find fault with it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from scpatch.rewriter import Options, plan_file, write
from scpatch.sites.model import Site
from scpatch.verifier.proof import prove
from scpatch.verifier.types import Proof
from tests.tools import (
    CROSS,
    LD,
    LD_R2,
    LLD,
    NOP,
    STD_R2,
    assemble,
    code,
    quiet,
    relocations,
    run,
    section,
    symbol,
)

CALL = "bl other\n nop\n"
SITE = "bl __SCT__x\n nop\n"
OTHER = "FUNC other\n blr\n END other\n"
TRAMPOLINE = "FUNC __SCT__x\n blr\n END __SCT__x\n FUNC __SCT__y\n blr\n END __SCT__y\n"
MODULE = '.section .gnu.linkonce.this_module, "aw"\n .quad 0\n .text\n'


def framed(body: str) -> str:
    return f"FRAME f\n{body}\nLEAVE f\n"


GOOD = {
    "at once": framed(CALL + SITE),
    "the nearest of two": framed(CALL + CALL + SITE),
    "on both paths": framed("cmpdi 3, 0\n beq 1f\n" + CALL + "b 2f\n1:" + CALL + "2:" + SITE),
    "before a loop": framed(CALL + "mtctr 3\n1: addi 4, 4, 1\n bdnz 1b\n" + SITE),
    "in a loop": framed("mtctr 3\n1:" + CALL + SITE + "bdnz 1b\n"),
    "beside a save": framed(
        "cmpdi 3, 0\n beq 1f\n std 2, 24(1)\n b 2f\n1:" + CALL + "2:" + SITE
    ),
    "for two calls": framed(CALL + "bl __SCT__y\n nop\n" + SITE),
    "after the thread's priority is set": framed("or 1, 1, 1\n" + CALL + "or 2, 2, 2\n" + SITE),
    "shrink-wrapped": (
        "TOC f\n cmpdi 3, 0\n beqlr\n mflr 0\n std 0, 16(1)\n stdu 1, -64(1)\n"
        + CALL + SITE + "LEAVE f\n"
    ),
    "where control goes from a fault": framed(
        "8: lwz 4, 0(3)\n bl other\n9: nop\n" + SITE
        + '.section __ex_table, "a"\n .long 8b-., 9b-.\n .text\n'
    ),
    "with a switch": framed(CALL + "mtctr 4\n bctr\n addi 3, 3, 1\n" + SITE),
}  # fmt: skip

BAD = {
    "without a frame": "TOC f\n mflr 0\n" + CALL + "stdu 1, -64(1)\n" + SITE + "LEAVE f\n",
    "in a frame without room": (
        "TOC f\n mflr 0\n stdu 1, -16(1)\n" + CALL + SITE + "addi 1, 1, 16\n blr\n END f\n"
    ),
    "in an older frame": framed(CALL + "stdu 1, -64(1)\n" + SITE + "addi 1, 1, 64\n"),
    "the frame is left": framed(CALL + "addi 1, 1, 64\n stdu 1, -64(1)\n" + SITE),
    "on one path": framed("cmpdi 3, 0\n beq 1f\n" + CALL + "1:" + SITE),
    "after the call": framed("b 1f\n2:" + CALL + "b 3f\n1:" + SITE + "b 2b\n3:"),
    "with a foreign r2": framed("bctrl\n" + CALL + SITE),
    "another value goes there": framed(CALL + "std 5, 24(1)\n" + SITE),
    "another value is there": framed("std 5, 24(1)\n" + CALL + "ld 5, 24(1)\n" + SITE),
    "an entry after it": framed(CALL + "8:" + SITE + ".data\n .quad 8b\n .text\n"),
    "a name after it": framed(CALL + ".globl inner\ninner:" + SITE),
    "a table of marks names it": framed(
        "bl other\n8: nop\n" + SITE + '.section __bug_table, "a"\n .quad 8b\n .text\n'
    ),
    "a table of marks names the call": framed(
        "8: bl other\n nop\n" + SITE + '.section __mcount_loc, "a"\n .quad 8b\n .text\n'
    ),
    "a static branch": framed(
        "bl other\n8: nop\n" + SITE + "9: addi 3, 3, 1\n"
        '.section __jump_table, "aw"\n .long 8b-., 9b-.\n .quad other-.\n .text\n'
    ),
    "a static branch to another section": framed(
        "bl other\n8: nop\n" + SITE + '.section .text.unlikely, "ax"\n9: addi 3, 3, 1\n'
        '.section __jump_table, "aw"\n .long 8b-., 9b-.\n .quad other-.\n .text\n'
    ),
    "between two that the kernel patches": framed(
        "8: nop\n" + CALL + "9: nop\n" + SITE
        + '.section __ftr_fixup, "a"\n .quad 1, 1, 8b-., 9b-., 0, 0\n .text\n'
    ),
    "data names it": framed("bl other\n8: nop\n" + SITE + ".data\n .quad 8b\n .text\n"),
    "a hint on it": framed(
        "bl other\n .reloc ., R_PPC64_TOCSAVE, f\n nop\n" + SITE
    ),
    "two relocations on the call": framed(
        ".reloc ., R_PPC64_TLSGD, other\n bl other\n nop\n" + SITE
    ),
    "another form of nop": framed("bl other\n cror 15, 15, 15\n" + SITE),
    "no nop": framed("bl other\n addi 3, 3, 1\n" + SITE),
    "no call": framed("addi 3, 3, 1\n nop\n" + SITE),
    "a computed jump past it": framed("mtctr 4\n bctr\n addi 3, 3, 1\n" + CALL + SITE),
    "a computed jump without a frame": (
        "TOC f\n mflr 0\n cmpdi 3, 0\n beq 1f\n mtctr 12\n std 2, 24(1)\n bctr\n"
        "1: stdu 1, -64(1)\n" + CALL + SITE + "LEAVE f\n"
    ),
}  # fmt: skip
"""Where a local label is named elsewhere, the numbers 8 and 9 mark it."""

CALLEES = {
    "undefined": "",
    "weak": ".weak other\n.type other, @function\nother: blr\n .size other, 4\n",
    "not preserving r2": "FUNC other\n .localentry other, 1\n blr\n END other\n",
    "no function": ".globl other\nother: blr\n",
    "an indirect function": ".globl other\n.type other, @gnu_indirect_function\nother: blr\n",
    "in a group": '.section .text.other, "axG", @progbits, other, comdat\n' + OTHER + ".text\n",
    "absolute": ".globl other\n.type other, @function\nother = 64\n",
}  # fmt: skip


def made(folder: Path, body: str, *, other: str = OTHER, module: str = "") -> Path:
    name = "x.ko" if module else "x.o"
    return assemble(folder, module + body + other + TRAMPOLINE, name)


def rewritten(path: Path, hoist: str) -> tuple[Path, Sequence[Site]]:
    target = path.with_name("new-" + path.name)
    plan = plan_file(path, Options(hoist=hoist), target)
    write([plan], allow_refused=True)
    return target, plan.objects[0].plan.sites


def places(path: Path) -> tuple[list[int], list[int]]:
    """Section offsets of the calls of `other`, and of `__SCT__x`."""
    names = {n: symbol(path, n).index for n in ("other", "__SCT__x")}
    calls = [r for r in relocations(path) if r.type == "REL24" and r.table == ".rela.text"]
    return tuple([r.offset for r in calls if r.symbol == at] for at in names.values())  # type: ignore[return-value]


def forged(path: Path) -> Path:
    """The object as a careless rewriter would leave it: a save after every call of `other`, and a
    restore after that of `__SCT__x`. The note is what a real rewrite writes."""
    others, (site,) = places(path)
    after = path.with_name("forged-" + path.name)
    noted = path.with_name("note")
    noted.write_bytes(b"scpatch strategy callsite\0")
    run(CROSS + "objcopy", "--add-section", f".comment={noted}", path, after)
    start = section(path, ".text").offset
    data = bytearray(path.read_bytes())
    for place in others:
        data[start + place + 4 :][:4] = b""
        data[start + place + 4 : start + place + 8] = STD_R2.to_bytes(4, "little")
    data[start + site + 4 : start + site + 8] = LD_R2.to_bytes(4, "little")
    after.write_bytes(data)
    return after


@pytest.mark.parametrize("name", GOOD)
def test_a_nop_becomes_the_save(name: str, tmp_path: Path) -> None:
    path = made(tmp_path, GOOD[name])
    after, sites = rewritten(path, "kernel")
    assert [site.state for site in sites] == ["saved"] * len(sites)
    nops = {nop for site in sites for nop in site.saves}
    assert nops
    new = code(after)
    differing = {4 * at for at, (a, b) in enumerate(zip(code(path), new, strict=True)) if a != b}
    assert differing == nops | {site.offset + 4 for site in sites}
    assert {new[nop // 4] for nop in nops} == {STD_R2}
    proof = prove(path, after, for_kernel=True)
    assert proof.errors == ()
    assert [site.state for site in proof.sites] == ["saved"] * len(sites)
    assert {nop for site in proof.sites for nop in site.hoisted} == nops


IMAGE = frozenset({"other"})


@pytest.mark.parametrize(
    ("other", "module", "state"),
    [
        ("", "", "saved"),
        (".weak other\n", "", "rewrite"),
        # The name is another function's here, and the link may take either.
        (CALLEES["weak"], "", "rewrite"),
        (CALLEES["not preserving r2"], "", "rewrite"),
        (CALLEES["in a group"], "", "rewrite"),
        # The module loader stubs the call and needs the nop.
        ("", MODULE, "saved"),
    ],
)
def test_a_function_of_another_object_of_the_image(
    other: str, module: str, state: str, tmp_path: Path
) -> None:
    path = made(tmp_path, framed(CALL + SITE), other=other, module=module)
    target = path.with_name("new-" + path.name)
    plan = plan_file(path, Options(hoist="kernel", image_functions=IMAGE), target)
    write([plan], allow_refused=True)
    (site,) = plan.sites
    hoisted = bool(site.saves)
    assert (site.state, hoisted) == (state, state == "saved" and not module)
    proof = prove(path, target, for_kernel=True)
    assert [e for e in proof.errors if "only the image" in e] == list(proof.errors)
    assert bool(proof.errors) == hoisted


def test_names_of_the_image_are_of_no_use_where_its_functions_can_be_preempted(
    tmp_path: Path,
) -> None:
    path = made(tmp_path, framed(CALL + SITE), other="")
    for hoist in ("auto", "never"):
        options = Options(hoist=hoist, image_functions=IMAGE)
        plan = plan_file(path, options, tmp_path / "new.o")
        assert [(site.state, site.saves) for site in plan.sites] == [("rewrite", ())]


def test_only_the_nearest_nop_is_taken(tmp_path: Path) -> None:
    path = made(tmp_path, GOOD["the nearest of two"])
    (site,) = rewritten(path, "kernel")[1]
    assert site.saves == (places(path)[0][1] + 4,)


def _refused(path: Path, *, kernel: bool = True) -> Proof:
    """What the proof says of the same change by hand."""
    after = forged(path)
    proof = prove(path, after, for_kernel=kernel)
    assert [e for e in proof.errors if "note" not in e], "the proof has no objection"
    return proof


@pytest.mark.parametrize("name", BAD)
def test_a_nop_that_must_stay(name: str, tmp_path: Path) -> None:
    path = made(tmp_path, BAD[name])
    after, sites = rewritten(path, "kernel")
    assert [(site.state, site.saves) for site in sites] == [("rewrite", ())]
    assert prove(path, after, for_kernel=True).errors == ()
    _refused(path)


@pytest.mark.parametrize("name", CALLEES)
def test_calls_that_may_need_their_nop(name: str, tmp_path: Path) -> None:
    path = made(tmp_path, framed(CALL + SITE), other=CALLEES[name])
    _, sites = rewritten(path, "kernel")
    assert [(site.state, site.saves) for site in sites] == [("rewrite", ())]
    _refused(path)


@pytest.mark.parametrize(("hoist", "state"), [("auto", "rewrite"), ("never", "rewrite")])
def test_a_shared_object_may_come_of_it(hoist: str, state: str, tmp_path: Path) -> None:
    path = made(tmp_path, framed(CALL + SITE))
    assert [site.state for site in rewritten(path, hoist)[1]] == [state]
    proof = _refused(path, kernel=False)
    assert any("--hoist kernel" in error for error in proof.errors)


@pytest.mark.parametrize(("hoist", "state"), [("auto", "saved"), ("never", "rewrite")])
def test_a_module_is_linked(hoist: str, state: str, tmp_path: Path) -> None:
    path = made(tmp_path, framed(CALL + SITE), module=MODULE)
    after, sites = rewritten(path, hoist)
    assert [site.state for site in sites] == [state]
    assert prove(path, after).errors == ()


def test_the_nop_of_a_static_call_is_its_own(tmp_path: Path) -> None:
    """Of two static calls the first gets its stub, and so saves r2 for the second."""
    path = made(tmp_path, framed("bl __SCT__y\n nop\n" + SITE))
    after, sites = rewritten(path, "kernel")
    assert [(site.state, site.saves) for site in sites] == [("rewrite", ()), ("saved", ())]
    assert prove(path, after).errors == ()


LOADER = {
    "a stub of the loader": ("bl other\n nop\n" + SITE, "saved"),
    "a static call by the loader": ("bl __SCT__far\n nop\n" + SITE, "saved"),
    "no nop, no stub": ("bl other\n addi 3, 3, 1\n" + SITE, "rewrite"),
    "calls of _mcount come and go": ("bl _mcount\n nop\n" + SITE, "rewrite"),
    "on one path": ("cmpdi 3, 0\n beq 1f\n bl other\n nop\n1:" + SITE, "rewrite"),
    "another frame": ("bl other\n nop\n stdu 1, -64(1)\n" + SITE + "addi 1, 1, 64\n", "rewrite"),
    "a foreign r2": ("bctrl\n bl other\n nop\n" + SITE, "rewrite"),
    "restored from the stub": ("bctrl\n bl other\n nop\n ld 2, 24(1)\n" + SITE, "rewrite"),
    "after a restore": (
        "std 2, 24(1)\n bctrl\n ld 2, 24(1)\n bl other\n nop\n" + SITE, "saved"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LOADER)
def test_the_module_loaders_stubs_save_r2(name: str, tmp_path: Path) -> None:
    body, state = LOADER[name]
    path = made(tmp_path, framed(body), other="", module=MODULE)
    after, sites = rewritten(path, "auto")
    statics = [site for site in sites if site.trampoline == "__SCT__x"]
    assert [site.state for site in statics] == [state]
    assert prove(path, after).errors == ()
    if state == "rewrite":
        data = bytearray(path.read_bytes())
        at = section(path, ".text").offset + statics[0].offset + 4
        data[at : at + 4] = LD_R2.to_bytes(4, "little")
        wrong = path.with_name("wrong.ko")
        wrong.write_bytes(data)
        assert any("no save was found" in error for error in prove(path, wrong).errors)


def test_no_loader_makes_stubs_for_an_object(tmp_path: Path) -> None:
    path = made(tmp_path, framed("bl other\n nop\n" + SITE), other="")
    assert [site.state for site in rewritten(path, "kernel")[1]] == ["rewrite"]


def test_a_site_out_of_reach_saves_nothing(tmp_path: Path) -> None:
    """The first of two calls gets no stub (SCP204), so that the second one needs its own."""
    body = framed("bl __SCT__y\n nop\n .space 0x1fffff0\n" + SITE)
    path = made(tmp_path, body.replace(".space 0x1fffff0", "b 1f\n .space 0x1fffff0\n1:"))
    _, sites = rewritten(path, "kernel")
    assert [site.code or site.state for site in sites] == ["SCP204", "rewrite"]


def test_the_words_of_a_forged_object(tmp_path: Path) -> None:
    """What `forged` makes is what the analysis would make of a case that it accepts."""
    path = made(tmp_path, GOOD["at once"])
    (call,), (site,) = places(path)
    words = code(forged(path))
    assert (words[call // 4 + 1], words[site // 4 + 1]) == (STD_R2, LD_R2)
    assert code(path)[call // 4 + 1] == NOP
    errors = prove(path, forged(path), for_kernel=True).errors
    assert [error for error in errors if "note" not in error] == []


START = '.section .text.start, "ax"\n.globl _start\n_start: bl f\n nop\n'
FAR = """
SECTIONS {
    .text 0x10000000 : { *(.text) *(.text.start) }
    .text.far 0x20000000 : { *(.text.far) }
    .branch_lt 0x30000000 : { *(.branch_lt) }
}
"""


@pytest.fixture(scope="module")
def saved_in_a_nop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An object that calls `other`, 256 MiB away in the images below, and saves r2 after it."""
    far = '.section .text.far, "ax"\n' + OTHER + ".text\n"
    path = made(tmp_path_factory.mktemp("linked"), framed(CALL + SITE) + START, other=far)
    return rewritten(path, "kernel")[0]


@pytest.mark.parametrize("linker", [LD, LLD])
def test_an_image_links_without_that_nop(linker: str, saved_in_a_nop: Path) -> None:
    """Also through a linker's stub for a long branch, which leaves r2 alone."""
    script = saved_in_a_nop.with_name("far.lds")
    script.write_text(FAR)
    image = saved_in_a_nop.with_name(linker)
    quiet(linker, "-T", script, "-o", image, saved_in_a_nop)
    listing = run(CROSS + "objdump", "-d", image).stdout
    assert re.search(r"\bbl .*(long|plt)_branch.*other>\n.*\tstd +r2,24\(r1\)", listing)


def test_a_shared_object_would_go_wrong_silently(tmp_path: Path) -> None:
    """Why the nops of an object stay unless it is said to be a kernel's: of a function that can be
    preempted GNU ld makes a PLT call, and leaves out the restore without a word, if both are in
    one section. In two sections it does not link them."""
    path = made(tmp_path, framed(CALL + SITE))
    so = tmp_path / "x.so"
    quiet(LD, "-shared", "-o", so, rewritten(path, "kernel")[0])
    listing = run(CROSS + "objdump", "-d", so).stdout
    assert re.search(r"\bbl .*plt_call.other>\n.*\tstd +r2,24\(r1\)", listing)


def test_a_shared_object_of_two_sections_does_not_link(saved_in_a_nop: Path) -> None:
    done = run(LD, "-shared", "-o", "/dev/null", saved_in_a_nop, check=False)
    assert "lacks nop" in done.stderr


def test_it_is_executed_like_any_other(tmp_path: Path) -> None:
    """The command line from end to end; only who says so may rely on a kernel."""
    path = made(tmp_path, framed(CALL + SITE))
    after = tmp_path / "after.o"
    scpatch = [sys.executable, "-m", "scpatch"]
    run(*scpatch, "rewrite", "--undefined=rewrite", "--hoist=kernel", path, "-o", after)
    done = run(*scpatch, "verify", "--hoist=kernel", path, after)
    expected = "proven: 1 call site (1 saved); 1 executed: 1 failed before, 1 pass now"
    assert expected in done.stdout
    refused = run(*scpatch, "verify", "--no-run", path, after, check=False)
    assert refused.returncode == 1
    assert "--hoist kernel" in refused.stdout
