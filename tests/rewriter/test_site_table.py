"""The table of call sites, as readelf shows it, and as linkers fill it in."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

from scpatch.errors import ScpatchError
from scpatch.rewriter import Options, plan_file, write
from scpatch.sites.actions import Common
from scpatch.strategies.callsite import Rewrite
from tests import elfwriter as ew
from tests import tools
from tests.sites.support import TABLE, entries, key, listed, plan
from tests.tools import CROSS, FIXTURES, LD, LLD, code, rewritten, run, sections, symbol

Assemble = Callable[..., Path]

TWO = "FRAME f\nCALL __SCT__x\nCALL __SCT__y\nCALL __SCT__x\nLEAVE f\n"
MODULE = '\n.section .gnu.linkonce.this_module, "aw"\n.quad 0\n.text\n'


def test_an_entry_for_each_call_sorted_by_key(assemble: Assemble) -> None:
    path = listed(assemble(key("y") + key("x") + TWO))
    assert entries(path) == [
        (".text", 28, "__SCK__y"),
        (".text", 20, "__SCK__x"),
        (".text", 36, "__SCK__x"),
    ]
    assert symbol(path, "__SCK__y").value < symbol(path, "__SCK__x").value


def test_keys_that_are_elsewhere_come_first(assemble: Assemble) -> None:
    """Equal keys side by side, whatever their addresses will be."""
    path = listed(assemble(key("x") + TWO + ".reloc 0, R_PPC64_NONE, __SCK__y\n"))
    assert [row[1:] for row in entries(path)] == [
        (28, "__SCK__y"),
        (20, "__SCK__x"),
        (36, "__SCK__x"),
    ]


def test_calls_in_several_sections(assemble: Assemble) -> None:
    source = key("x") + "FRAME f\nCALL __SCT__x\nLEAVE f\n"
    source += '.section .init.text, "ax"\nFRAME g\nCALL __SCT__x\nLEAVE g\n'
    assert entries(listed(assemble(source))) == [
        (".text", 20, "__SCK__x"),
        (".init.text", 20, "__SCK__x"),
    ]


def test_the_call_of_a_thunk_is_in_the_thunk(assemble: Assemble) -> None:
    path = assemble(key("x") + "FRAME f\n bl __SCT__x\n addi 3, 3, 1\nLEAVE f\n")
    once = listed(path, no_nop="thunk")
    ((where, offset, name),) = entries(once)
    words = code(once)
    assert (where, name) == (".text", "__SCK__x")
    assert words[offset // 4] == tools.BL
    assert (words[offset // 4 - 1], words[offset // 4 + 1]) == (tools.STD_R2, tools.LD_R2)
    # Made in a second run, when the call goes through the thunk already.
    assert listed(rewritten(path, no_nop="thunk")).read_bytes() == once.read_bytes()


def test_what_only_the_trampoline_can_serve_is_not_listed(assemble: Assemble) -> None:
    source = key("x") + "FRAME f\nCALL __SCT__x\n b __SCT__x\nLEAVE f\n"
    source += '.section __ftr_alt_97, "ax"\nFRAME g\nCALL __SCT__x\nLEAVE g\n'
    path = assemble(source)
    states = [site.state for site in plan(path).objects[0].plan.sites]
    assert states == [Rewrite.REWRITE, Common.REFUSED, Rewrite.REWRITE]
    assert entries(listed(path)) == [(".text", 20, "__SCK__x")]


PC_RELATIVE = """
        FUNC f
        bl __SCT__x@notoc
        b __SCT__x@notoc
        END f
"""
ONE_ENTRY = "FUNC __SCT__x\n b target@notoc\nEND __SCT__x\n"


@pytest.mark.parametrize("trampoline", ["", ONE_ENTRY])
def test_calls_that_need_no_r2(assemble: Assemble, trampoline: str) -> None:
    """A sibling call has the flag STATIC_CALL_SITE_TAIL."""
    path = assemble(key("x") + PC_RELATIVE + trampoline)
    assert entries(listed(path), tails=True) == [
        (".text", 0, "__SCK__x"),
        (".text", 4, "__SCK__x + 1"),
    ]
    once = listed(path)
    assert plan(once).outputs == ()
    merged = path.with_name("merged.o")
    run(LD, "-r", "-o", merged, once)
    assert plan(merged).outputs == ()


@pytest.mark.parametrize(
    ("call", "trampoline"),
    [
        ("bl __SCT__x@notoc + 4", ONE_ENTRY),
        ("bl __SCT__x@notoc", "TOC __SCT__x\n b target\nEND __SCT__x\n"),
        (
            "bl __SCT__x@notoc",
            ONE_ENTRY.replace("END", ".type __SCT__x, %gnu_indirect_function\nEND"),
        ),
        (".reloc ., R_PPC64_PLTCALL_NOTOC, __SCT__x\n bctrl", ONE_ENTRY),
        (".reloc ., R_PPC64_REL24_NOTOC, __SCT__x\n bla 0", ONE_ENTRY),
    ],
)
def test_calls_without_r2_that_the_kernel_cannot_patch(
    assemble: Assemble, call: str, trampoline: str
) -> None:
    """They go to no entry point, or by a stub of the linker, which r12 and r2 are set up in."""
    path = assemble(f"{key('x')}FUNC f\n {call}\n blr\nEND f\n{trampoline}")
    assert [site.state for site in plan(path).objects[0].plan.sites] == [Common.NOTOC]
    assert plan(path).outputs == ()


def test_a_module_lists_calls_of_its_own_trampoline(assemble: Assemble) -> None:
    source = key("x") + PC_RELATIVE.replace("b __SCT__x", "b __SCT__k") + ONE_ENTRY + MODULE
    assert entries(listed(assemble(source, name="m.ko"))) == [(".text", 0, "__SCK__x")]


def test_no_calls_no_table(assemble: Assemble) -> None:
    path = assemble(key("x") + "FRAME f\nLEAVE f\n")
    assert plan(path).outputs == ()
    assert TABLE not in {entry.name for entry in sections(path)}


@pytest.mark.parametrize("before", ["", "std 2, 24(1)\n"])
def test_in_one_run_or_in_two(assemble: Assemble, before: str) -> None:
    path = assemble(key("x") + f"FRAME f\n{before}CALL __SCT__x\nLEAVE f\n")
    once = listed(path, undefined="rewrite")
    assert listed(rewritten(path, undefined="rewrite")).read_bytes() == once.read_bytes()
    assert plan(once, undefined="rewrite").outputs == ()


def _module(assemble: Assemble, *keys: str) -> Path:
    """A `.ko` that calls a trampoline of its own and one of the kernel."""
    body = "FRAME f\nCALL __SCT__x\nCALL __SCT__k\nLEAVE f\nFUNC __SCT__x\n blr\nEND __SCT__x\n"
    return assemble(key("x") + "".join(keys) + body + MODULE, name="m.ko")


def test_a_modules_call_of_the_kernel_is_left_to_the_loader(assemble: Assemble) -> None:
    """The key is too far away for 32 bits: the kernel would refuse the module."""
    assert entries(listed(_module(assemble))) == [(".text", 20, "__SCK__x")]


def test_a_module_names_a_key_that_it_sees_or_the_trampoline(assemble: Assemble) -> None:
    hidden = listed(_module(assemble), undefined="rewrite")
    assert [row[1:] for row in entries(hidden)] == [(28, "__SCT__k"), (20, "__SCK__x")]
    seen = ".reloc 0, R_PPC64_NONE, __SCK__k\n"
    exported = listed(_module(assemble, seen), undefined="rewrite")
    assert [row[1:] for row in entries(exported)] == [(28, "__SCK__k"), (20, "__SCK__x")]
    assert listed(hidden, undefined="rewrite").read_bytes() == hidden.read_bytes()


def test_a_module_needs_the_key_of_its_own_trampoline() -> None:
    """static_call_add_module() finds keys by the trampolines that the kernel exports only."""
    with pytest.raises(ScpatchError, match="the call has no key: there is no symbol __SCK__own"):
        plan(FIXTURES / "module.ko")


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("", "there is no symbol __SCK__x"),
        (
            ".data\n.local __SCK__x\n__SCK__x: .quad 0\n.local a\na: .quad 0\n.text\n",
            "two symbols are named __SCK__x",
        ),
    ],
)
def test_a_call_without_a_key(assemble: Assemble, source: str, what: str) -> None:
    path = assemble(source + "FRAME f\nCALL __SCT__x\nLEAVE f\n")
    if source:
        run(CROSS + "objcopy", "--redefine-sym", "a=__SCK__x", path)
    with pytest.raises(ScpatchError, match=what) as caught:
        plan(path)
    assert caught.value.code == "SCP217"
    assert ".text+0x14 in f+0x14: the call has no key" in str(caught.value)
    assert plan_file(path, Options()).outputs


def test_a_trampoline_of_another_name(assemble: Assemble) -> None:
    path = assemble("FRAME f\nCALL tramp_x\nLEAVE f\n")
    with pytest.raises(ScpatchError, match="is not named") as caught:
        plan(path, trampolines=("tramp_*",))
    assert caught.value.code == "SCP217"


def _without_section_symbols(folder: Path, *binds: int) -> Path:
    """A function of the object for each binding; the second one calls."""
    names = [f"f{number}" for number in range(len(binds))]
    frames = [ew.words(ew.BLR, ew.BLR), ew.words(ew.BL, ew.NOP, ew.BLR)]
    starts = [8 * number for number in range(len(binds))]
    functions = [
        ew.Symbol(name=name, value=at, size=8, type=ew.STT_FUNC, bind=bind, section=".text")
        for name, at, bind in zip(names, starts, binds, strict=True)
    ]
    undefined = [ew.Symbol(name=name, bind=ew.STB_GLOBAL) for name in ("__SCT__x", "__SCK__x")]
    text = ew.Section(
        name=".text",
        flags=ew.SHF_ALLOC | ew.SHF_EXECINSTR,
        addralign=4,
        data=b"".join(frames),
        relocations=[ew.Relocation(offset=8, type=ew.R_PPC64_REL24, symbol="__SCT__x")],
    )
    path = folder / "x.o"
    path.write_bytes(ew.build(ew.Elf(sections=[text], symbols=[*functions, *undefined])))
    return path


@pytest.mark.parametrize(
    ("binds", "base"),
    [
        ((ew.STB_LOCAL, ew.STB_GLOBAL), "f0"),
        ((ew.STB_GLOBAL, ew.STB_WEAK), "f0"),
        ((ew.STB_WEAK, ew.STB_GLOBAL), "f1"),
    ],
)
def test_another_symbol_of_the_section_will_do(
    tmp_path: Path, binds: tuple[int, int], base: str
) -> None:
    path = listed(_without_section_symbols(tmp_path, *binds))
    assert entries(path) == [(".text", 8, "__SCK__x")]
    call = next(entry for entry in tools.relocations(path) if entry.table == f".rela{TABLE}")
    assert tools.symbols(path)[call.symbol].name == base


def test_a_weak_symbol_will_not_do(tmp_path: Path) -> None:
    """Another object's definition could take its place."""
    path = _without_section_symbols(tmp_path, ew.STB_WEAK, ew.STB_WEAK)
    with pytest.raises(ScpatchError, match=r"no symbol can name a place in \.text") as caught:
        plan(path)
    assert caught.value.code == "SCP218"


OTHER_TABLES = {
    "empty": "",
    "missing": ".long .Lfirst - ., __SCK__x - .",
    "flags": ".long .Lfirst - ., __SCK__x + 1 - ., .Lsecond - ., __SCK__x - .",
    "twice": ".long .Lfirst - ., __SCK__x - ., .Lfirst - ., __SCK__x - .",
    "elsewhere": ".long .Lfirst - ., __SCK__x - ., .Lsecond + 4 - ., __SCK__x - .",
    "more": ".long .Lfirst - ., __SCK__x - ., .Lsecond - ., __SCK__x - ., f - ., __SCK__x - .",
    "no table": ".long 1, 2",
    "huge": ".long .Lfirst - ., __SCK__x - .\n.fill 1 << 20, 8, 0",
    "half": ".long .Lfirst - ., __SCK__x - ., .Lsecond - ., __SCK__x - ., 0",
}
_CALLS = "FRAME f\n.Lfirst: CALL __SCT__x\n.Lsecond: CALL __SCT__x\nLEAVE f\n"


def _with_table(assemble: Assemble, words: str) -> Path:
    table = f'.section {TABLE}, "aw"\n{words}\n.text\n'
    return assemble(key("x") + _CALLS + table)


def test_a_table_without_bytes_is_refused_at_once(tmp_path: Path) -> None:
    """However large it says it is."""
    text = ew.Section(
        name=".text",
        flags=ew.SHF_ALLOC | ew.SHF_EXECINSTR,
        data=ew.words(ew.BL, ew.NOP, ew.BLR),
        relocations=[ew.Relocation(offset=0, type=ew.R_PPC64_REL24, symbol="__SCT__x")],
    )
    table = ew.Section(name=TABLE, type=ew.SHT_NOBITS, flags=ew.SHF_ALLOC, size=1 << 60)
    undefined = [ew.Symbol(name=name, bind=ew.STB_GLOBAL) for name in ("__SCT__x", "__SCK__x")]
    path = tmp_path / "x.o"
    path.write_bytes(ew.build(ew.Elf(sections=[text, table], symbols=undefined)))
    with pytest.raises(ScpatchError, match="which are not its 1 calls") as caught:
        plan(path)
    assert caught.value.code == "SCP216"


@pytest.mark.parametrize("words", OTHER_TABLES.values(), ids=OTHER_TABLES)
def test_another_table_is_refused(assemble: Assemble, words: str) -> None:
    with pytest.raises(ScpatchError, match=r"it has \.static_call_sites with") as caught:
        plan(_with_table(assemble, words))
    assert caught.value.code == "SCP216"


def test_the_table_of_objtool_is_refused(assemble: Assemble) -> None:
    """It has two relocations for each entry, for 32 bits and for 64 (Linux 7.3, for ppc64)."""
    words = (
        ".Ltable: .long .Lfirst - ., 0, .Lsecond - ., 0\n"
        ".reloc .Ltable + 4, R_PPC64_REL64, __SCK__x\n"
        ".reloc .Ltable + 12, R_PPC64_REL64, __SCK__x"
    )
    with pytest.raises(ScpatchError, match=rf"at {TABLE}\+0x4 has a relocation for 64") as caught:
        plan(_with_table(assemble, words))
    assert caught.value.code == "SCP216"


def test_the_same_table_by_another_hand_is_taken(assemble: Assemble) -> None:
    """In any order: the kernel sorts it."""
    words = ".long .Lsecond - ., __SCK__x - ., .Lfirst - ., __SCK__x - ."
    path = _with_table(assemble, words)
    planned = plan(path).objects[0].plan
    assert len(planned.listed) == 2
    added = [section.header.sh_type for section in planned.edits.new]
    assert added in ([], [1])  # at most .comment
    new = listed(path)
    assert [entry.name for entry in sections(new)].count(TABLE) == 1
    assert plan(new).outputs == ()


@pytest.mark.parametrize("linker", [LD, LLD])
def test_tables_survive_a_relocatable_link(assemble: Assemble, tmp_path: Path, linker: str) -> None:
    parts = []
    for name in ("f", "g"):
        path = assemble(key(name) + f"FRAME {name}\nCALL __SCT__{name}\nLEAVE {name}\n")
        parts.append(listed(path).rename(tmp_path / f"{name}.o"))
    plain = assemble(key("h") + "FRAME h\nCALL __SCT__h\nLEAVE h\n")
    merged, mixed = tmp_path / "merged.o", tmp_path / "mixed.o"
    run(linker, "-r", "-o", merged, *parts)
    assert len(plan(merged).objects[0].plan.listed) == 2
    assert plan(merged).outputs == ()
    run(linker, "-r", "-o", mixed, *parts, plain)
    with pytest.raises(ScpatchError, match="with 2 entries, which are not its 3 calls"):
        plan(mixed)


@pytest.mark.parametrize("linker", [LD, LLD])
def test_linkers_fill_it_in(assemble: Assemble, tmp_path: Path, linker: str) -> None:
    """Each word is the distance from itself to the call, and to the key."""
    source = key("y") + key("x") + TWO + "FRAME g\n bl __SCT__y\n li 3, 0\nLEAVE g\n"
    source += '.section .init.text, "ax"\nFRAME h\nCALL __SCT__x\nLEAVE h\n'
    for name in "xy":
        source += f".text\nTOC __SCT__{name}\n blr\nEND __SCT__{name}\n"
    image = tmp_path / "image"
    run(linker, "-e", "f", "-o", image, listed(assemble(source), no_nop="thunk"))
    words = _resolved(image)
    values = {value: name for name, value in _addresses(image).items()}
    assert [values[named] for _, named in words] == ["__SCK__y"] * 2 + ["__SCK__x"] * 3
    listing = run(CROSS + "objdump", "-d", "--no-show-raw-insn", image).stdout.splitlines()
    calls = {int(line.split(":")[0], 16): line for line in listing if "\tbl " in line}
    assert sorted(calls) == sorted(call for call, _ in words)
    for call, named in words:
        assert values[named].replace("__SCK__", "__SCT__") in calls[call]


def _addresses(image: Path) -> dict[str, int]:
    lines = run(CROSS + "nm", image).stdout.splitlines()
    return {line.split()[2]: int(line.split()[0], 16) for line in lines}


def _resolved(image: Path) -> list[tuple[int, int]]:
    """(call, key) of each entry of a linked table, as addresses."""
    with image.open("rb") as file:
        table: Any = ELFFile(file).get_section_by_name(TABLE)
        start, data = table["sh_addr"], table.data()
    ends = [
        start + at + int.from_bytes(data[at : at + 4], "little", signed=True)
        for at in range(0, len(data), 4)
    ]
    return list(zip(ends[::2], ends[1::2], strict=True))


FILES = ("sites.o", "refused.o", "calls-gcc.o", "calls-clang.o", "calls-sections.o", "merged.o")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("no_nop", ["refuse", "thunk"])
def test_of_all_fixtures_each_call_has_its_key(name: str, no_nop: str, tmp_path: Path) -> None:
    """The keys come from another object, by `ld -r`."""
    called = {site.trampoline for site in tools.scan_file(FIXTURES / name).sites}
    keys = tools.assemble(
        tmp_path, "".join(map(key, sorted(entry[7:] for entry in called))), "keys.o"
    )
    path = tmp_path / name
    run(LD, "-r", "-o", path, FIXTURES / name, keys)
    new = listed(path, no_nop=no_nop)
    sites = plan(path, no_nop=no_nop).objects[0].plan.sites
    left_out = (Common.REFUSED, Common.LOADER)
    kept = [site for site in sites if site.state not in left_out]
    kept = [site for site in kept if site.state is not Common.NOTOC or site.may_patch]
    wanted = Counter(site.trampoline for site in kept)
    assert Counter(row[2].replace("__SCK__", "__SCT__") for row in entries(new)) == wanted
    assert len({row[:2] for row in entries(new)}) == wanted.total()
    words = {where: code(new, where) for where, _, _ in entries(new)}
    for where, offset, _ in entries(new):
        assert words[where][offset // 4] & 0xFC000003 == tools.BL
    assert plan(new, no_nop=no_nop).outputs == ()


def test_members_of_archives(assemble: Assemble, tmp_path: Path) -> None:
    source = assemble(key("x") + "FRAME f\nCALL __SCT__x\nLEAVE f\n")
    once = listed(source)
    member = shutil.copy(source, tmp_path / "member.o")
    archives = {"": tmp_path / "regular.a", "T": tmp_path / "thin.a"}
    for form, archive in archives.items():
        run(CROSS + "ar", f"rcS{form}", archive.name, "member.o", cwd=tmp_path)
        write([plan(archive)], allow_refused=True)
        (tmp_path / "out").mkdir(exist_ok=True)
        if not form:
            run(CROSS + "ar", "x", archive, cwd=tmp_path / "out")
            assert (tmp_path / "out" / "member.o").read_bytes() == once.read_bytes()
    assert Path(member).read_bytes() == once.read_bytes()


_FUNCTION = st.tuples(
    st.sampled_from([".text", ".init.text", ".text.unlikely"]),
    st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=5),
)


@settings(max_examples=40, deadline=None)
@given(
    functions=st.lists(_FUNCTION, min_size=1, max_size=5), defined=st.sets(st.sampled_from("abcd"))
)
def test_any_object(
    tmp_path_factory: pytest.TempPathFactory,
    functions: list[tuple[str, list[tuple[str, bool]]]],
    defined: set[str],
) -> None:
    """Each call, with a nop or without, is listed once, under its key, and equal keys are side by
    side."""
    source = "".join(map(key, sorted(defined, reverse=True)))
    source += "".join(f".reloc 0, R_PPC64_NONE, __SCK__{name}\n" for name in "abcd")
    for number, (where, calls) in enumerate(functions):
        source += f'.section {where}, "ax"\nFRAME f{number}\n'
        for name, nop in calls:
            source += f" bl __SCT__{name}\n " + ("nop\n" if nop else "li 3, 0\n")
        source += f"LEAVE f{number}\n"
    path = tools.assemble(tmp_path_factory.mktemp("any"), source)
    if not any(calls for _, calls in functions):
        assert plan(path, no_nop="thunk").outputs == ()
        return
    new = listed(path, no_nop="thunk")
    rows = entries(new)
    wanted = Counter((where, f"__SCK__{name}") for where, calls in functions for name, _ in calls)
    assert Counter((where, name) for where, _, name in rows) == wanted
    assert len({row[:2] for row in rows}) == len(rows)
    order = [name for _, _, name in rows]
    runs = [name for at, name in enumerate(order) if at == 0 or order[at - 1] != name]
    assert len(runs) == len(set(runs))
    there = [name for name in runs if name[7:] in defined]
    assert there == sorted(there, key=lambda name: symbol(new, name).value)
    assert plan(new, no_nop="thunk").outputs == ()
