"""Images after the link: which calls of trampolines got a save and a restore."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scpatch.rewriter import Options, plan_file
from scpatch.verifier.files import verify_link
from scpatch.verifier.options import KernelOffsets, VerifyOptions
from tests import tools
from tests.strategies.localentry_support import LINKERS, TRAMPOLINE, marked, program
from tests.test_cli import scpatch
from tests.tools import CROSS, LD, LD_R2, LLD, NOP, STD_R2, assemble, symbol
from tests.verifier.linked.support import (
    MARKED,
    T,
    caller,
    far,
    link,
    look,
    states,
    with_trampoline,
)

CALLERS = '.section .text.callers,"ax",@progbits\n' + "".join(
    caller(call, name=name)
    for name, call in {
        "plain": f"bl {T}\n nop",
        "saved": f"std 2,24(1)\n bl {T}\n nop",
        "local": "bl __SCT__local\n nop",
    }.items()
)
BODY = (
    TRAMPOLINE.format(name=T)
    + ".type __SCT__local,@function\n__SCT__local: b target\n .size __SCT__local,.-__SCT__local\n"
    + CALLERS
)
KINDS = {"exec": [], "pie": ["-pie", "--unresolved-symbols=ignore-all"]}


@pytest.mark.parametrize("linker", LINKERS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("paca", [False, True])
def test_marked_trampolines(tmp_path: Path, linker: str, kind: str, paca: bool) -> None:
    after = marked(assemble(tmp_path, BODY), paca=paca)
    verdict = look(link(tmp_path, linker, after, options=KINDS[kind]), after)
    assert states(verdict) == dict.fromkeys(("plain", "saved", "local"), "linker")
    assert verdict.proven
    assert verdict.runs is None


@pytest.mark.parametrize("linker", LINKERS)
@pytest.mark.parametrize("kind", KINDS)
def test_rewritten_call_sites(tmp_path: Path, linker: str, kind: str) -> None:
    after = marked(assemble(tmp_path, BODY), strategy="callsite")
    verdict = look(link(tmp_path, linker, after, options=KINDS[kind]), after)
    assert states(verdict) == {"plain": "stub", "saved": "saved", "local": "stub"}
    assert verdict.proven


@pytest.mark.parametrize("linker", LINKERS)
def test_an_earlier_call_has_saved_it(tmp_path: Path, linker: str) -> None:
    """Its stub has, in the same frame; a save on a single path is not enough."""
    first, second = f"bl {T}\n nop", f"bl {T}\n ld 2,24(1)"
    body = with_trampoline(f"{first}\n {second}")
    after = marked(assemble(tmp_path, body), strategy="callsite")
    sites = look(link(tmp_path, linker, after), after).proof.sites
    assert [site.state for site in sites] == ["stub", "saved"]
    call = f"cmpdi 3,0\n beq 1f\n {first}\n1: {second}"
    body = with_trampoline(call)
    after = marked(assemble(tmp_path, body), strategy="callsite")
    sites = look(link(tmp_path, linker, after), after).proof.sites
    assert [site.state for site in sites] == ["stub", "restored"]


@pytest.mark.parametrize("linker", LINKERS)
def test_loads_from_the_paca(tmp_path: Path, linker: str) -> None:
    after = marked(assemble(tmp_path, BODY), paca=True, strategy="paca")
    path = link(tmp_path, linker, after)
    assert set(states(look(path, after)).values()) == {"paca"}
    assert look(path, after).proven
    assert not verify_link([after], path, VerifyOptions(offsets=KernelOffsets(32))).proven


@pytest.mark.parametrize("linker", LINKERS)
def test_a_branch_over_padding_is_no_call(tmp_path: Path, linker: str) -> None:
    """GNU as begins a long row of nops with a branch, here to the trampoline after it. The same
    branch is a sibling call if something leads to it."""
    short = "FUNC g\n blr\nEND g\n{}.balign 64\n"
    for label, wanted in (("", {}), (".globl tail\ntail:\n", {"": "wrong"})):
        path = assemble(tmp_path, ".balign 64\n" + short.format(label) + BODY)
        assert b"\x3c\0\0\x48" in path.read_bytes()  # b .+60
        after = marked(path, strategy="callsite")
        expected = {"plain": "stub", "saved": "saved", "local": "stub"} | wanted
        assert states(look(link(tmp_path, linker, after), after)) == expected, label


@pytest.mark.parametrize("linker", LINKERS)
def test_nothing_was_done(tmp_path: Path, linker: str) -> None:
    before = assemble(tmp_path, BODY)
    verdict = look(link(tmp_path, linker, before), before)
    assert set(states(verdict).values()) == {"wrong"}
    assert not verdict.proof.errors
    assert not verdict.proven


@pytest.mark.parametrize("linker", LINKERS)
def test_far_away(tmp_path: Path, linker: str) -> None:
    """Out of a branch's reach the linkers' stubs load the address, or go by another stub."""
    trampolines = '.section .far,"ax",@progbits\n' + TRAMPOLINE.format(name=T).replace(
        "        b target\n", "        nop\n"
    )
    body = trampolines + caller(f"bl {T}\n nop").join(
        ["\n.text\n", '\n .section .near,"ax",@progbits\n .skip 16\n']
    )
    after = marked(assemble(tmp_path, body))
    for options in ([], ["-pie"]):
        path = link(tmp_path, linker, after, options=[*options, *far(tmp_path, 0x18000000)])
        text = tools.run(CROSS + "objdump", "-d", path).stdout
        assert "bctr" in text.split("<f>:")[0] + text.split("<f>:")[1]
        assert states(look(path, after)) == {"f": "linker"}


SILENT = {
    # GNU ld allows any call within a section without a nop; lld ends the link.
    "no nop": (LD, MARKED + caller(f"bl {T}\n mr 3,3"), "no nop follows"),
    "sibling": (LD, MARKED + f"FUNC f\n b {T}\n nop\n END f\n", "sibling call"),
    "sibling, lld": (LLD, MARKED + f"FUNC f\n b {T}\n nop\n END f\n", "in its caller's frame"),
    "by section": (
        LD,
        MARKED + caller(".reloc .,R_PPC64_REL24,.text\n bl .\n nop"),
        "neither saved nor restored",
    ),
    "by section, lld": (
        LLD,
        MARKED + caller(".reloc .,R_PPC64_REL24,.text\n bl .\n nop"),
        "neither saved nor restored",
    ),
    "inside": (
        LLD,
        with_trampoline(".reloc .,R_PPC64_REL24,.text+4\n bl .\n nop"),
        "at no entry point",
    ),
    "conditional": (
        LD,
        TRAMPOLINE.format(name=T) + f"FUNC f\n beq {T}\n blr\n END f\n",
        "sibling call",
    ),
    "a save on a single path": (
        LD,
        with_trampoline(f"cmpdi 3,0\n beq 1f\n std 2,24(1)\n1: bl {T}\n ld 2,24(1)"),
        "no save was found",
    ),
    "a save after a switch": (
        LD,
        with_trampoline(f"mtctr 12\n bctr\n std 2,24(1)\n bl {T}\n ld 2,24(1)"),
        "jumps through a register",
    ),
    "a restore that is entered": (
        LD,
        with_trampoline(f"std 2,24(1)\n cmpdi 3,0\n beq 1f\n bl {T}\n1: ld 2,24(1)"),
        "may run without the call",
    ),
}


@pytest.mark.parametrize("name", SILENT)
def test_what_linkers_say_nothing_about(tmp_path: Path, name: str) -> None:
    linker, body, why = SILENT[name]
    path = link(tmp_path, linker, assemble(tmp_path, body))
    verdict = look(path)
    is_restored = "a save" in name
    assert states(verdict) == {"f": "restored" if is_restored else "wrong"}
    assert verdict.result == ("not shown" if is_restored else "not proven")
    assert why in verdict.proof.sites[0].why
    assert not verdict.proven


@pytest.mark.parametrize("linker", LINKERS)
@pytest.mark.parametrize("strategy", ["localentry", "callsite"])
def test_a_broken_word_is_found(tmp_path: Path, linker: str, strategy: str) -> None:
    """The save in the stub, or the restore after the call, is missing."""
    after = marked(assemble(tmp_path, BODY), strategy=strategy, paca=True)
    path = link(tmp_path, linker, after)
    data = path.read_bytes()
    for word, reason in ((STD_R2, "runs on"), (LD_R2, "nop follows")):
        path.write_bytes(data.replace(word.to_bytes(4, "little"), NOP.to_bytes(4, "little")))
        verdict = look(path, after)
        assert {states(verdict)[name] for name in ("plain", "local")} == {"wrong"}
        assert reason in verdict.proof.sites[0].why
        assert not verdict.proven


@pytest.mark.parametrize("linker", LINKERS)
def test_no_call_is_lost(tmp_path: Path, linker: str) -> None:
    after = marked(assemble(tmp_path, BODY), paca=True)
    other = marked(assemble(tmp_path, caller(f"bl {T}\n nop", name="other"), "other.o"), paca=True)
    path = link(tmp_path, linker, after, other)
    assert look(path, after, other).proven
    assert look(path, after).proven
    archive = tmp_path / "all.a"
    tools.run(CROSS + "ar", "rcT", archive, after, other)
    assert look(path, archive).proven
    (error,) = look(link(tmp_path, linker, after), after, other).proof.errors
    assert error == f"{T}: 3 calls in the objects, 2 in the image (look at other)."


@pytest.mark.parametrize("linker", LINKERS)
def test_of_the_copies_in_comdat_groups_the_link_takes_one(tmp_path: Path, linker: str) -> None:
    """Inline functions of C++, and what instruments code."""
    group = '.section .text.k,"axG",@progbits,k,comdat\n' + caller(f"bl {T}\n nop", name="k")
    bodies = {"a.o": BODY + group, "b.o": caller("nop", name="b") + group, "c.o": BODY}
    a, b, c = (
        marked(assemble(tmp_path, body, name), strategy="callsite") for name, body in bodies.items()
    )
    assert look(link(tmp_path, linker, a, b), a, b).proven
    (error,) = look(link(tmp_path, linker, c), a, b).proof.errors
    assert error == f"{T}: 3 calls in the objects, 2 in the image (look at k)."


def test_stubs_and_thunks_are_no_calls_twice(tmp_path: Path) -> None:
    from scpatch.rewriter import plan_file, write
    from tests.strategies.localentry_support import options

    body = with_trampoline(f"bl {T}\n mr 3,3")
    path = assemble(tmp_path, body)
    after = tmp_path / "after.o"
    write(
        [plan_file(path, options(strategy="callsite", no_nop="thunk"), after)], allow_refused=True
    )
    verdict = look(link(tmp_path, LD, after), after)
    assert [site.state for site in verdict.proof.sites] == ["saved"]
    assert verdict.proof.sites[0].function.startswith("r2thunk.")
    assert verdict.proven


def test_trampolines_that_keep_r2_cannot_be_seen(tmp_path: Path) -> None:
    """Not 3 wrong calls: nobody can tell from an image."""
    note = ' .ident "scpatch strategy livepatch-stack"\n'
    verdict = look(link(tmp_path, LD, assemble(tmp_path, BODY + note)))
    assert not verdict.proven
    assert verdict.proof.sites == ()
    (error,) = verdict.proof.errors
    assert "proves the objects" in error


def test_an_image_without_symbols_says_nothing(tmp_path: Path) -> None:
    path = link(tmp_path, LD, marked(assemble(tmp_path, BODY), paca=True))
    tools.run(CROSS + "strip", path)
    (error,) = look(path).proof.errors
    assert "nothing can be said" in error


def test_the_program_that_runs_is_right(tmp_path: Path) -> None:
    """The same program as for the runs of `localentry`: the proof accepts what runs right."""
    after = marked(assemble(tmp_path, BODY))
    for linker in LINKERS:
        path = tmp_path / "program"
        tools.run(linker, "-o", path, program(tmp_path, ["plain", "saved", "local"], [T]), after)
        assert look(path, after).proven


def test_the_command(tmp_path: Path) -> None:
    before = assemble(tmp_path, BODY)
    after = marked(before, paca=True)
    good = link(tmp_path, LD, after).rename(tmp_path / "good")
    bad = link(tmp_path, LD, before).rename(tmp_path / "bad")
    objects, more = tmp_path / "objects", tmp_path / "more"
    objects.write_text(f"{after}\n")
    more.write_text(f"{after}\n{assemble(tmp_path, BODY, 'again.o')}\n")
    for words, status in (
        ([good], 0),
        ([after, good], 0),
        (["--files-from", objects, good], 0),
        (["--files-from", more, good], 1),
        ([bad], 1),
        ([after], 2),
        ([before, after, after], 2),
        ([after, tmp_path / "none"], 2),
    ):
        done = scpatch("verify", *words)
        assert done.returncode == status, (words, done.stderr)
        assert ("neither saved nor restored" in done.stdout) == (words == [bad])


ERROR = "lacks nop, can't restore toc"
TABLE: dict[str, tuple[str, str, str]] = {
    # Call, and what GNU ld and lld do: a state, or the error that ends the link.
    "nop": (f"bl {T}\n nop", "linker", "linker"),
    "cror": (f"bl {T}\n cror 15,15,15", "linker", ERROR),
    "restored": (f"bl {T}\n ld 2,24(1)", "linker", ERROR),
    "no nop": (f"bl {T}\n mr 3,3", "wrong", ERROR),
    "sibling": (f"b {T}\n nop", "wrong", "wrong"),
    "section": (".reloc .,R_PPC64_REL24,.text\n bl .\n nop", "wrong", "wrong"),
}


@pytest.mark.parametrize("name", TABLE)
def test_what_linkers_do_inside_one_section(tmp_path: Path, name: str) -> None:
    """The table of docs/reference/strategies.md."""
    call, *wanted = TABLE[name]
    path = assemble(tmp_path, ".balign 16\n" + MARKED + caller(call))
    for linker, state in zip(LINKERS, wanted, strict=True):
        if state == ERROR:
            done = tools.run(
                linker, "-e0", "--defsym=target=0", "-o", tmp_path / "image", path, check=False
            )
            assert ERROR in done.stderr
        else:
            linked = link(tmp_path, linker, path)
            assert states(look(linked)) == {"f": state}


def test_gnu_ld_wants_a_nop_between_sections(tmp_path: Path) -> None:
    body = MARKED + '.section .text.f,"ax"\n' + caller(f"bl {T}\n mr 3,3")
    done = tools.run(LD, "-e0", "-o", tmp_path / "image", assemble(tmp_path, body), check=False)
    assert ERROR in done.stderr


@pytest.mark.parametrize("linker", LINKERS)
def test_an_addend_is_lost_in_the_linkers_stubs(tmp_path: Path, linker: str) -> None:
    """`bl T+4` and `bl T` go to the same stub, so calls with an addend are refused."""
    calls = f"bl {T}\n nop\n bl {T}+4\n nop"
    path = assemble(tmp_path, ".balign 16\n" + MARKED + caller(calls))
    text = tools.run(CROSS + "objdump", "-d", link(tmp_path, linker, path)).stdout
    stubs = re.findall(r"std +r2,24\(r1\)\n.*\tb +[0-9a-f]+ <([^>]*)>", text)
    landed = re.findall(r"\tbl +([0-9a-f]+) <", text)
    starts = re.findall(r"([0-9a-f]+):\t.*std +r2,24\(r1\)", text)
    assert T in stubs
    if linker == LD:
        assert landed[0] == landed[1]
    else:
        assert {int(address, 16) for address in landed} <= {int(address, 16) for address in starts}
        assert set(stubs) == {T}


PLA = r"pla +r12,.*"
BY_TOC = r"addis +r12,r2,(-?\d+)\n.*addi +r12,r12,(-?\d+)"


@pytest.mark.parametrize("apart", [0x7FE0000, 0x7FE8000])
def test_llds_stub_out_of_reach(tmp_path: Path, apart: int) -> None:
    """lld 14's needs a Power10. lld 19's does not, but leads elsewhere where the lower half of the
    distance from the TOC pointer counts as negative, as the upper half is not one more then."""
    body = '.section .far,"ax",@progbits\n' + MARKED + ".text\n"
    path = assemble(tmp_path, body + caller(f"bl {T}\n nop"))
    toc = symbol(link(tmp_path, LLD, path, options=far(tmp_path, 0x18000000)), ".TOC.").value
    linked = link(tmp_path, LLD, path, options=far(tmp_path, toc + apart))
    text = tools.run(CROSS + "objdump", "-d", "--no-show-raw-insn", linked).stdout
    by_toc = re.search(BY_TOC, text)
    assert (re.search(PLA, text) is None) == (by_toc is not None)
    reached = by_toc is None or (int(by_toc[1]) << 16) + int(by_toc[2]) == apart
    assert states(look(linked)) == {"f": "linker" if reached else "wrong"}
    sites = plan_file(linked, Options(strategy=None)).objects[0].scan.sites
    assert [site.state for site in sites] == (["done"] if reached else [])
    if not reached:
        assert "does not lead to the trampoline" in look(linked).proof.sites[0].why


def test_a_linkers_stub_that_leads_elsewhere(tmp_path: Path) -> None:
    """As lld 19 makes them, see above."""
    stub = f"FUNC __toc_save_{T}\n std 2,24(1)\n b target\n END __toc_save_{T}\n"
    call = f"bl __toc_save_{T}\n ld 2,24(1)"
    source = MARKED + stub + caller(call)
    verdict = look(link(tmp_path, LD, assemble(tmp_path, source)))
    assert states(verdict) == {"f": "wrong"}
    assert not verdict.proven


def test_gnu_lds_stub_out_of_reach_does_without_a_power10(tmp_path: Path) -> None:
    body = '.section .far,"ax",@progbits\n' + MARKED + ".text\n"
    path = assemble(tmp_path, body + caller(f"bl {T}\n nop"))
    image = link(tmp_path, LD, path, options=far(tmp_path, 0x18000000))
    text = tools.run(CROSS + "objdump", "-d", image).stdout
    assert "pla" not in text
