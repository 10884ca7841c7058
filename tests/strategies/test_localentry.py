"""Marked trampolines, as readelf and objdump see them, and linked and executed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from scpatch.elf.constants import RELA_SIZE
from scpatch.errors import ScpatchError
from scpatch.rewriter import Options, plan_file
from scpatch.sites.actions import Common
from tests import tools
from tests.strategies.localentry_support import (
    CALLER,
    LINKERS,
    TRAMPOLINE,
    disassembly,
    link,
    marked,
    options,
    plan,
    program,
    st_other,
    status,
)
from tests.tools import NOP, assemble

T = "__SCT__x"
LOCAL = "\n.type {0},@function\n{0}: b target\n .size {0},.-{0}\n"
CALLERS = {
    "plain": f"bl {T}\n nop",
    "cror": f"bl {T}\n cror 15,15,15",
    "other_cror": f"bl {T}\n cror 31,31,31",
    "saved": f"std 2,24(1)\n bl {T}\n nop",
    "by_section": "bl __SCT__local\n nop",
    "local_entry": ".reloc .,R_PPC64_REL24,.text+8\n .long 0x48000001\n nop",
    "global_entry": ".reloc .,R_PPC64_REL24,.text\n .long 0x48000001\n nop",
}
BODY = (
    TRAMPOLINE.format(name=T)
    + LOCAL.format("__SCT__local")
    + '.section .text.callers,"ax",@progbits\n'
    + "".join(CALLER.format(name=name, call=call) for name, call in CALLERS.items())
)


def refused(path: Path, *, paca: bool = False) -> ScpatchError:
    with pytest.raises(ScpatchError) as caught:
        plan(path, paca=paca)
    return caught.value


@pytest.fixture
def body(tmp_path: Path) -> Path:
    return assemble(tmp_path, BODY)


@pytest.mark.parametrize("linker", LINKERS)
@pytest.mark.parametrize("paca", [False, True])
@pytest.mark.parametrize("order", ["little", "big"])
def test_every_call_comes_back_with_its_r2(
    tmp_path: Path, linker: str, paca: bool, order: str
) -> None:
    body = assemble(tmp_path, BODY, "x.o", f"-m{order}")
    main = program(tmp_path, list(CALLERS), [T], order)
    assert status(linker, tmp_path, main, marked(body, paca=paca), order=order) == 0


@pytest.mark.parametrize("linker", LINKERS)
def test_without_it_they_do_not(tmp_path: Path, body: Path, linker: str) -> None:
    callers = [entry for entry in CALLERS if entry != "global_entry"]
    main = program(tmp_path, callers, [])
    assert status(linker, tmp_path, main, body) == (1 << len(callers)) - 1
    # By address r12 is not set, and the prologue computes r2 from it.
    assert status(linker, tmp_path, program(tmp_path, [], [T]), body) == 102


@pytest.mark.parametrize("linker", LINKERS)
def test_a_mark_alone_is_not_enough(tmp_path: Path, body: Path, linker: str) -> None:
    """The linker's stub enters at the prologue, with anything in r12."""
    source = BODY.replace(f".localentry {T}, .-{T}", "")
    source = source.replace(
        f"TOC {T}", f"FUNC {T}\n0: addis 2,12,.TOC.-0b@ha\n addi 2,2,.TOC.-0b@l\n .localentry {T},1"
    )
    main = program(tmp_path, ["plain"], [])
    naive = assemble(tmp_path, source.split("FRAME cror")[0])
    assert st_other(naive, T) == "[<localentry>: 1]"
    assert status(linker, tmp_path, main, naive) == 102


def test_the_mark_is_all_that_changes_in_the_symbol(tmp_path: Path) -> None:
    path = assemble(tmp_path, TRAMPOLINE.format(name=T) + f".hidden {T}\n")
    before, after = tools.symbol(path, T), tools.symbol(marked(path, paca=True), T)
    assert (before.other, after.other) == ("[<localentry>: 8]", "[<localentry>: 1]")
    assert before.visibility == "HIDDEN"
    assert after == replace(before, other=after.other)


def test_the_prologue_loads_r2_from_the_paca(tmp_path: Path) -> None:
    path = assemble(tmp_path, TRAMPOLINE.format(name=T))
    after = marked(path, paca=True)
    assert tools.code(after)[:3] == [0xE84D0010, NOP, tools.B]
    old, new = tools.relocations(path), tools.relocations(after)
    assert [relocation.type for relocation in old[:2]] == ["REL16_HA", "REL16_LO"]
    assert [(relocation.type, relocation.symbol, relocation.addend) for relocation in new[:2]] == [
        ("NONE", 0, 0)
    ] * 2
    assert new[2:] == old[2:]
    assert tools.section(path, ".rela.text").size == len(new) * RELA_SIZE


def test_the_prologue_branches_to_code_that_knows_its_address(tmp_path: Path) -> None:
    after = marked(assemble(tmp_path, TRAMPOLINE.format(name=T)))
    text = disassembly(after)
    assert re.search(rf"0:\tb +[0-9a-f]+ <r2toc\.{T}\.[0-9a-f]{{12}}>", text)
    (code,) = re.findall(r"<r2toc\.[^>]*>:\n((?: .*\n|\t.*\n)+)", text)
    names = re.findall(r"^ +[0-9a-f]+:\t(\w+)", code, re.MULTILINE)
    assert names == ["mflr", "bcl", "mflr", "mtlr", "addis", "addi", "b"]
    assert re.findall(r"R_PPC64_(\w+)\t(\S+)", code) == [
        ("REL16_HA", ".TOC.+0x8"),
        ("REL16_LO", ".TOC.+0xc"),
    ]


def test_a_nop_that_lld_does_not_know_is_made_one(body: Path) -> None:
    section = ".text.callers"
    before, after = tools.code(body, section), tools.code(marked(body), section)
    for cror in (0x4DEF7B82, 0x4FFFFB82):
        assert cror in before
        assert cror not in after
    assert after.count(NOP) == before.count(NOP) + 2


def test_a_section_and_an_offset_become_the_symbol(body: Path) -> None:
    before = {
        relocation.offset: relocation
        for relocation in tools.relocations(body)
        if relocation.type == "REL24"
    }
    after = {
        relocation.offset: relocation
        for relocation in tools.relocations(marked(body))
        if relocation.type == "REL24"
    }
    names = {symbol.index: symbol.name for symbol in tools.symbols(body)}
    changed = {
        (names[before[at].symbol], before[at].addend, names[new.symbol], new.addend)
        for at, new in after.items()
        if at in before and before[at] != new
    }
    assert changed == {
        (".text", 0x1C, "__SCT__local", 0),
        (".text", 8, T, 0),
        (".text", 0, T, 0),
    }


def test_twice_is_once(body: Path) -> None:
    after = marked(body)
    again = plan(after)
    assert not again.objects[0].plan.edits
    assert {site.state for site in again.objects[0].plan.sites} == {Common.LINKER}


def test_a_call_without_a_toc_is_never_listed(tmp_path: Path) -> None:
    """After the mark the trampoline looks as if it needed neither r2 nor r12."""
    call = f".reloc .,R_PPC64_REL24_NOTOC,{T}\n .long 0x48000001"
    body = TRAMPOLINE.format(name=T) + CALLER.format(name="f", call=call)
    path = assemble(tmp_path, body)
    for _ in range(2):
        (entry,) = plan_file(path, Options("localentry", emit_sites=True)).objects
        assert [site.state for site in entry.plan.sites] == [Common.NOTOC]
        assert entry.plan.listed == ()
        path = marked(path)


PROLOGUES = {
    "addis": (f"TOC {T}", "r2 from the PC"),
    "lis": (f"FUNC {T}\n lis 2,.TOC.@ha\n addi 2,2,.TOC.@l\n .localentry {T},.-{T}", "marked"),
    "large": (
        f"9: .quad .TOC.-{T}\n .globl {T}\n .type {T},@function\n{T}: .reloc .,R_PPC64_ENTRY\n"
        f" ld 2,9b-{T}(12)\n add 2,2,12\n .localentry {T},.-{T}",
        "r2 from the PC",
    ),
    "large_plain": (
        f"9: .quad .TOC.-{T}\n .globl {T}\n .type {T},@function\n{T}:\n"
        f" ld 2,9b-{T}(12)\n add 2,2,12\n .localentry {T},.-{T}",
        "r2 from the PC",
    ),
    "none": (f"FUNC {T}", "marked"),
    "paca": (f"FUNC {T}\n ld 2,16(13)\n nop", "marked"),
}


@pytest.mark.parametrize("linker", LINKERS)
@pytest.mark.parametrize("paca", [False, True])
@pytest.mark.parametrize("name", PROLOGUES)
def test_each_prologue(tmp_path: Path, name: str, paca: bool, linker: str) -> None:
    text, what = PROLOGUES[name]
    end = f"\n b target\n END {T}\n"
    body = assemble(tmp_path, text + end + CALLER.format(name="f", call=f"bl {T}\n nop"))
    (edit,) = plan(body, paca=paca).objects[0].plan.trampolines
    assert edit.what.endswith(what.replace("PC", "PACA") if paca else what)
    pointers = [] if name == "none" else [T]
    main = program(tmp_path, ["f"], pointers)
    assert status(linker, tmp_path, main, marked(body, paca=paca)) == 0


@pytest.mark.parametrize(
    ("prologue", "what"),
    [
        ("addis 2,12,0\n addi 2,2,0\n .localentry {0},.-{0}", "unknown relocations"),
        ("nop\n nop\n .localentry {0},.-{0}", "8 bytes between its entry points"),
        ("nop\n .localentry {0},.-{0}", "4 bytes between its entry points"),
        (
            "addis 2,12,.TOC.-{0}@ha\n addi 2,2,.TOC.-{0}@l\n nop\n nop\n .localentry {0},.-{0}",
            "16 bytes between its entry points",
        ),
        ("addis 2,12,x-{0}@ha\n addi 2,2,x-{0}@l\n .localentry {0},.-{0}", "unknown relocations"),
        ("ld 12,slot@toc@l(2)", "uses r2 and does not set it"),
    ],
)
def test_an_unknown_prologue_is_refused(tmp_path: Path, prologue: str, what: str) -> None:
    path = assemble(tmp_path, f"FUNC {T}\n{prologue.format(T)}\n b target\n END {T}\n")
    error = refused(path)
    assert error.code == "SCP227"
    assert what in error.message
    assert error.where == f".text+0x0 in {T}"


def test_an_offset_that_no_load_has_is_refused(tmp_path: Path) -> None:
    path = assemble(tmp_path, TRAMPOLINE.format(name=T))
    for offset in (2, 0x8000):
        chosen = options()
        offsets = chosen.offsets._replace(paca_toc=offset)
        with pytest.raises(ScpatchError, match=f"the offset {offset} does not fit") as caught:
            plan_file(path, chosen._replace(offsets=offsets))
        assert caught.value.code == "SCP228"


def test_the_end_of_a_long_section_is_out_of_reach(tmp_path: Path) -> None:
    path = assemble(tmp_path, TRAMPOLINE.format(name=T) + ".skip 0x2000000\n")
    error = refused(path)
    assert (error.code, error.where) == ("SCP228", f".text+0x0 in {T}")
    assert plan(path, paca=True).objects[0].plan.trampolines


def test_a_module_is_refused(tmp_path: Path) -> None:
    module = ' .section .gnu.linkonce.this_module,"aw"\n .quad 0\n'
    path = assemble(tmp_path, TRAMPOLINE.format(name=T) + module)
    assert refused(path, paca=True).code == "SCP225"
    other = assemble(tmp_path, CALLER.format(name="f", call=f"bl {T}\n nop") + module, "other.o")
    (site,) = plan(other, paca=True).objects[0].plan.sites
    assert site.state is Common.LOADER


def test_calls_of_trampolines_of_other_objects_are_left(tmp_path: Path) -> None:
    path = assemble(tmp_path, CALLER.format(name="f", call=f"bl {T}\n nop"))
    result = plan(path).objects[0].plan
    assert [site.state for site in result.sites] == [Common.LINKER]
    assert "where it is defined" in result.sites[0].detail
    assert not result.edits


def test_a_trampoline_with_a_refused_call_stays_unmarked(tmp_path: Path) -> None:
    second = "__SCT__y"
    body = (
        TRAMPOLINE.format(name=T)
        + TRAMPOLINE.format(name=second)
        + CALLER.format(name="good", call=f"bl {T}\n nop")
        + f"FUNC tail\n b {T}\n END tail\n"
        + CALLER.format(name="other", call=f"bl {second}\n nop")
    )
    path = assemble(tmp_path, body)
    result = plan(path).objects[0].plan
    assert [(site.function, site.state, site.code) for site in result.sites] == [
        ("good", Common.REFUSED, "SCP229"),
        ("tail", Common.REFUSED, "SCP203"),
        ("other", Common.LINKER, ""),
    ]
    assert [edit.name for edit in result.trampolines] == [second]
    after = marked(path)
    assert (st_other(after, T), st_other(after, second)) == (
        "[<localentry>: 8]",
        "[<localentry>: 1]",
    )


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (f"bl {T}\n mr 3,3", "SCP201"),
        (f"b 1f\n bl {T}\n1: nop", "SCP202"),
        (f"bl {T}+4\n nop", "SCP205"),
        (f"bl {T}\n .reloc .,R_PPC64_ADDR16_LO,x\n nop", "SCP206"),
    ],
)
@pytest.mark.parametrize("no_nop", ["refuse", "thunk"])
def test_what_linkers_leave_silently_is_refused(
    tmp_path: Path, call: str, code: str, no_nop: str
) -> None:
    """Also with thunks, whose call no linker would take. A trampoline that is marked in the
    source makes no difference."""
    for trampoline in (TRAMPOLINE.format(name=T), f"FUNC {T}\n .localentry {T},1\n b target\n"):
        path = assemble(tmp_path, trampoline + CALLER.format(name="f", call=call))
        result = plan_file(path, options(no_nop=no_nop)).objects[0].plan
        assert [(site.state, site.code) for site in result.sites] == [(Common.REFUSED, code)]
        assert not result.edits


@pytest.mark.parametrize("linker", LINKERS)
def test_the_linkers_see_no_mark_through_a_section(tmp_path: Path, linker: str) -> None:
    """The reason for SCP226: they link it without a word, and r2 is lost."""
    call = ".reloc .,R_PPC64_REL24,.text\n .long 0x48000001\n nop"
    source = f"FUNC {T}\n .localentry {T},1\n b target\n END {T}\n"
    path = assemble(tmp_path, source + CALLER.format(name="f", call=call))
    (site,) = plan(path, strategy="callsite").objects[0].plan.sites
    assert site.code == "SCP226"
    main = program(tmp_path, ["f"], [])
    assert status(linker, tmp_path, main, path) == 1
    assert status(linker, tmp_path, main, marked(path)) == 0


def test_gnu_ld_makes_stubs_inside_one_section(tmp_path: Path, body: Path) -> None:
    """After `ld -r` caller and trampoline are in one section; a call with a nop gets its stub all
    the same, one without is linked silently without a restore."""
    main = program(tmp_path, ["f"], [])
    merged = tmp_path / "merged.o"
    source = f"FUNC {T}\n .localentry {T},1\n b target\n END {T}\n"
    for call, wanted in ((f"bl {T}\n nop", 0), (f"bl {T}\n mr 3,3", 1)):
        path = assemble(tmp_path, source + CALLER.format(name="f", call=call))
        tools.run(tools.LD, "-r", "-o", merged, main, path)
        assert status(tools.LD, tmp_path, merged) == wanted
        assert "long_branch" in disassembly(link(tools.LD, tmp_path, merged))


@pytest.mark.parametrize("linker", LINKERS)
@pytest.mark.parametrize("paca", [False, True])
def test_unmarked_again_each_call_saves_itself(
    tmp_path: Path, body: Path, linker: str, paca: bool
) -> None:
    first = marked(body, paca=paca)
    second = marked(first, strategy="callsite", unmark=True)
    assert st_other(second, T) == st_other(second, "__SCT__local") == ""
    callers = list(CALLERS)
    assert status(linker, tmp_path, program(tmp_path, callers, [T]), second) == 0
    image = disassembly(link(linker, tmp_path, program(tmp_path, callers, [T]), second))
    assert not re.search("long_branch|__toc_save", image)
    text = tools.run(tools.CROSS + "readelf", "-p", ".comment", second).stdout
    assert re.findall(r"scpatch strategy (\S+)", text) == ["callsite"]


def test_a_mark_of_the_source_is_taken_off_too(tmp_path: Path) -> None:
    source = f"FUNC {T}\n .localentry {T},1\n b target\n END {T}\n"
    path = assemble(tmp_path, source + CALLER.format(name="f", call=f"bl {T}\n nop"))
    (site,) = plan(path, strategy="callsite").objects[0].plan.sites
    assert site.state is Common.LINKER
    after = marked(path, strategy="callsite", unmark=True)
    assert st_other(after, T) == ""
    assert status(tools.LD, tmp_path, program(tmp_path, ["f"], []), after) == 0


def test_strategies_are_not_stacked(body: Path) -> None:
    for first, second in (("localentry", "callsite"), ("callsite", "localentry")):
        path = marked(body, strategy=first)
        with pytest.raises(ScpatchError) as caught:
            plan(path, strategy=second)
        assert caught.value.code == "SCP114"


def test_stubs_without_a_note_are_no_ground_for_marks(body: Path) -> None:
    path = marked(body, strategy="callsite")
    tools.run(tools.CROSS + "objcopy", "-R", ".comment", path)
    assert refused(path).code == "SCP114"
