"""What `rewrite` makes of an object, word by word, as other tools read it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from scpatch.errors import ScpatchError
from scpatch.rewriter import Options, plan_file
from tests import elfwriter as ew
from tests.tools import (
    BL,
    BLR,
    CROSS,
    FIXTURES,
    LD,
    LD_R2,
    LLD,
    NOP,
    STD_R2,
    B,
    code,
    in_both,
    plan_all,
    relocations,
    rewrite,
    rewritten,
    run,
    section,
    sections,
    states,
    symbol,
    symbols,
)

Assemble = Callable[..., Path]
REWRITABLE = in_both(
    *("sites.o", "refused.o", "calls-gcc.o", "calls-gcc-dwarf.o", "calls-clang.o"),
    *("calls-clang-dwarf.o", "calls-sections.o", "merged.o", "module.ko", "unmarked.o"),
)


def test_a_stub(assemble: Assemble) -> None:
    path = assemble("FRAME f\nCALL __SCT__x\nCALL __SCT__x\nCALL __SCT__y\nLEAVE f\n")
    new = rewritten(path)
    before, after = code(path), code(new)
    assert before[5:11] == [BL, NOP] * 3
    assert after[5:11] == [BL, LD_R2] * 3
    assert after[:5] + after[11:15] == before[:5] + before[11:15]
    assert after[15:] == [STD_R2, B, STD_R2, B]
    calls = [entry for entry in relocations(new) if entry.type == "REL24"]
    names = [symbols(new)[entry.symbol].name for entry in calls]
    assert [entry.offset for entry in calls] == [20, 28, 36, 64, 72]
    assert re.fullmatch(r"r2save\.__SCT__x\.[0-9a-f]{12}", names[0])
    assert re.fullmatch(r"r2save\.__SCT__y\.[0-9a-f]{12}", names[2])
    assert names[1] == names[0]
    assert names[3:] == ["__SCT__x", "__SCT__y"]
    for name, value in ((names[0], 60), (names[2], 68)):
        stub = symbol(new, name)
        assert (stub.value, stub.size, stub.type) == (value, 8, "FUNC")
        assert (stub.bind, stub.visibility) == ("WEAK", "HIDDEN")


def test_saved_already(assemble: Assemble) -> None:
    path = assemble("FRAME f\n std 2, 24(1)\nCALL __SCT__x\nLEAVE f\n")
    new = rewritten(path, undefined="rewrite")
    assert code(new) == [LD_R2 if word == NOP else word for word in code(path)]
    assert relocations(new) == relocations(path)
    assert symbols(new) == symbols(path)
    (noted,) = sections(new)[len(sections(path)) :]
    header, names = 64, len(".comment") + 1
    grown = len(new.read_bytes()) - len(path.read_bytes())
    assert -8 < grown - header - names - noted.size < 8  # alignment


def test_the_strategy_is_noted_once(assemble: Assemble) -> None:
    """In an object without .comment, and in one that has it; no run adds a second note."""
    body = "FRAME f\nCALL __SCT__x\nCALL __SCT__x\nLEAVE f\n"
    for text in (body, f'{body}\n .ident "some compiler"\n'):
        path = assemble(text)
        new = rewritten(path)
        shown = run(CROSS + "readelf", "-p", ".comment", new).stdout
        assert re.findall(r"\] +(\S.*)", shown)[-1:] == ["scpatch strategy callsite"]
        assert shown.count("scpatch") == 1
        assert (".comment" in {entry.name for entry in sections(path)}) == (text != body)
        assert rewritten(new).read_bytes() == new.read_bytes()


@pytest.mark.parametrize("linker", [LD, LLD])
def test_the_note_survives_links(assemble: Assemble, tmp_path: Path, linker: str) -> None:
    parts = []
    for name in ("f", "g"):
        path = assemble(f'FRAME {name}\nCALL __SCT__x\nLEAVE {name}\n .ident "some compiler"\n')
        parts.append(rewritten(path).rename(tmp_path / f"{name}.part.o"))
    merged, image = tmp_path / "merged.o", tmp_path / "image"
    run(linker, "-r", "-o", merged, *parts)
    run(linker, "-e", "f", "--defsym", "__SCT__x=f", "-o", image, merged)
    for path in (merged, image):
        shown = run(CROSS + "readelf", "-p", ".comment", path).stdout
        assert "scpatch strategy callsite" in shown
    assert plan_file(merged, Options(strategy=None)).objects[0].scan.strategies == ("callsite",)


def test_a_second_strategy_is_refused(assemble: Assemble) -> None:
    path = assemble('FRAME f\nCALL __SCT__x\nLEAVE f\n .ident "scpatch strategy paca"\n')
    with pytest.raises(ScpatchError, match="already rewritten with --strategy paca") as caught:
        plan_file(path, Options())
    assert caught.value.code == "SCP114"


def test_a_thunk(assemble: Assemble) -> None:
    path = assemble("FRAME f\n bl __SCT__x\n addi 3, 3, 1\nLEAVE f\n")
    assert plan_file(path, Options(), None).outputs == ()
    new = rewritten(path, no_nop="thunk")
    before, after = code(path), code(new)
    assert after[:5] + after[6:11] == before[:5] + before[6:11]
    back = (24 - 56) & 0x3FFFFFC
    assert after[5:6] + after[11:] == [B, STD_R2, BL, LD_R2, B | back]
    jump, call = [entry for entry in relocations(new) if entry.type == "REL24"]
    thunk = symbols(new)[jump.symbol]
    assert (jump.offset, call.offset, thunk.value, thunk.size) == (20, 48, 44, 16)
    assert re.fullmatch(r"r2thunk\.__SCT__x\.[0-9a-f]{12}", thunk.name)
    assert symbols(new)[call.symbol].name == "__SCT__x"


def test_thunks_are_each_sites_own(assemble: Assemble) -> None:
    body = " bl __SCT__x\n addi 3, 3, 1\n" * 3
    new = rewritten(assemble(f"FRAME f\n{body}LEAVE f\n"), no_nop="thunk")
    names = [entry.name for entry in symbols(new) if entry.name.startswith("r2thunk.")]
    assert len(set(names)) == 3


def test_a_local_trampoline_by_section(assemble: Assemble) -> None:
    path = assemble(
        'FRAME f\nCALL __SCT__x\nLEAVE f\n.section .text.t, "ax"\n nop\n'
        ".type __SCT__x, @function\n__SCT__x: blr\n.size __SCT__x, 4\n"
    )
    (old,) = [entry for entry in relocations(path) if entry.type == "REL24"]
    new = rewritten(path)
    call, onward = [entry for entry in relocations(new) if entry.type == "REL24"]
    assert symbols(new)[call.symbol].bind == "GLOBAL"
    assert (onward.symbol, onward.addend) == (old.symbol, old.addend) == (old.symbol, 4)


@pytest.mark.parametrize(
    ("end", "lead"),
    [
        ("blr", []),
        ("b f", []),
        ("bctr", []),
        ("rfid", []),
        ("blr\n nop\n nop", []),
        ("beqlr", [B | 12]),
        ("bl f", [B | 12]),
        ("bctrl", [B | 12]),
        ("addi 3, 3, 1", [B | 12]),
        ("bdnz f", [B | 12]),
        ("stop", [B | 12]),
        (".long 0x12345678", [B | 12]),
    ],
)
def test_code_that_runs_off_the_end(assemble: Assemble, end: str, lead: list[int]) -> None:
    """As `.init` does, in pieces from several objects."""
    path = assemble(f'.section .init, "ax"\nFRAME f\nCALL __SCT__x\n {end}\n')
    old = code(path, ".init")
    assert code(rewritten(path), ".init")[len(old) :] == [*lead, STD_R2, B]


@pytest.mark.parametrize("odd", [1, 2, 3])
def test_stubs_are_aligned(assemble: Assemble, odd: int) -> None:
    path = assemble(f"FRAME f\nCALL __SCT__x\nLEAVE f\n .space {odd}, 0xff\n")
    new = rewritten(path)
    (stub,) = [entry for entry in symbols(new) if entry.name.startswith("r2save.")]
    assert stub.value % 4 == 0
    assert section(new, ".text").size == stub.value + 8
    assert code(new)[stub.value // 4 - 1] == (1 << 8 * odd) - 1


@pytest.mark.parametrize("name", REWRITABLE)
def test_nothing_else_changes(tmp_path: Path, name: str) -> None:
    path = tmp_path / Path(name).name
    path.write_bytes((FIXTURES / name).read_bytes())
    new = rewritten(path)
    count = len(symbols(path))
    assert symbols(new)[:count] == symbols(path)
    noted = [entry.name for entry in sections(new)[len(sections(path)) :]]
    assert noted == [".comment"] * (".comment" not in {entry.name for entry in sections(path)})
    for old, entry in zip(sections(path), sections(new), strict=False):
        assert (old.name, old.type, old.flags) == (entry.name, entry.type, entry.flags)
        assert (old.link, old.info, old.align, old.entsize) == (
            entry.link,
            entry.info,
            entry.align,
            entry.entsize,
        )
        before = path.read_bytes()[old.offset :][: old.size]
        after = new.read_bytes()[entry.offset :][: entry.size]
        if old.name == ".comment":
            assert after == before + b"scpatch strategy callsite\0"
        elif old.size == entry.size and "X" not in old.flags and old.type not in ("NOBITS", "RELA"):
            assert before == after
        if old.type == "STRTAB":
            assert after.startswith(before)
    flags = re.compile(r"Flags: .*")
    assert flags.findall(run("readelf", "-h", new).stdout) == flags.findall(
        run("readelf", "-h", path).stdout
    )


@pytest.mark.parametrize("name", REWRITABLE)
def test_relocations_keep_their_order(tmp_path: Path, name: str) -> None:
    path = tmp_path / Path(name).name
    path.write_bytes((FIXTURES / name).read_bytes())
    new = rewritten(path)
    old_by_table: dict[str, list[tuple[int, str]]] = {}
    for entry in relocations(path):
        old_by_table.setdefault(entry.table, []).append((entry.offset, entry.type))
    new_by_table: dict[str, list[tuple[int, str]]] = {}
    for entry in relocations(new):
        new_by_table.setdefault(entry.table, []).append((entry.offset, entry.type))
    for table, old in old_by_table.items():
        assert new_by_table[table][: len(old)] == old
        assert all(kind == "REL24" for _, kind in new_by_table[table][len(old) :])
    taken = [entry for entry in relocations(path) if entry.type != "REL24"]
    assert [entry for entry in relocations(new) if entry.type != "REL24"] == taken


@pytest.mark.parametrize("name", REWRITABLE)
@pytest.mark.parametrize("no_nop", ["refuse", "thunk"])
def test_a_second_run_changes_nothing(tmp_path: Path, name: str, no_nop: str) -> None:
    path = tmp_path / Path(name).name
    path.write_bytes((FIXTURES / name).read_bytes())
    first = rewrite(path, no_nop=no_nop)
    assert first.outputs
    inode, data = path.stat().st_ino, path.read_bytes()
    assert rewrite(path, no_nop=no_nop).outputs == ()
    assert (path.stat().st_ino, path.read_bytes()) == (inode, data)
    assert rewritten(path, no_nop=no_nop).read_bytes() == data


@pytest.mark.parametrize("name", REWRITABLE)
def test_growth(tmp_path: Path, name: str) -> None:
    """Stubs, their relocations, symbols and names; and alignment, once for each section behind."""
    path = tmp_path / Path(name).name
    path.write_bytes((FIXTURES / name).read_bytes())
    new = rewritten(path)
    added = symbols(new)[len(symbols(path)) :]
    stubs = sum(entry.size + 24 + 24 + len(entry.name) + 1 for entry in added)
    padding = sum(max(entry.align, 8) for entry in sections(path))
    grown = len(new.read_bytes()) - len(path.read_bytes())
    assert stubs <= grown <= stubs + 8 * len(sections(path)) + padding


def test_the_same_whatever_the_name_place_and_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for folder, order in (("a", 1), ("b/c", -1)):
        work = tmp_path / folder
        work.mkdir(parents=True)
        files = []
        for name in ("sites.o", "calls-gcc.o"):
            files.append(work / (folder[0] + name))
            files[-1].write_bytes((FIXTURES / name).read_bytes())
        monkeypatch.chdir(work)
        named = [Path(os.path.relpath(file)) if order > 0 else file for file in files]
        plans, errors = plan_all(named[::order], Options(), None)
        assert not errors
        from scpatch.rewriter import write

        write(plans)
        results.append([file.read_bytes() for file in files])
    assert results[0] == results[1]


def test_a_file_named_twice(tmp_path: Path) -> None:
    path = tmp_path / "x.o"
    path.write_bytes((FIXTURES / "sites.o").read_bytes())
    (tmp_path / "link.o").symlink_to("x.o")
    plans, errors = plan_all([path, path, tmp_path / "link.o"], Options(), None)
    assert (len(plans), errors) == (1, [])


def test_names_that_are_not_text(assemble: Assemble) -> None:
    path = assemble("FRAME f\nCALL __SCT__ab\nLEAVE f\n")
    path.write_bytes(path.read_bytes().replace(b"__SCT__ab", b"__SCT__\xff\x80"))
    new = rewritten(path)
    assert re.search(rb"\0r2save\.__SCT__\xff\x80\.[0-9a-f]{12}\0", new.read_bytes())
    assert states(new) == {"f": ["done"]}


def test_different_objects_have_different_stubs(tmp_path: Path) -> None:
    names: Counter[str] = Counter()
    for name in REWRITABLE:
        path = tmp_path / Path(name).name
        path.write_bytes((FIXTURES / name).read_bytes())
        names.update(
            {entry.name for entry in symbols(rewritten(path)) if entry.name.startswith("r2save.")}
        )
    assert max(names.values()) == 1


MEGABYTE = 1 << 20


def giant(before: int, between: int) -> ew.Elf:
    """A call, `between` bytes of nops, and another call."""

    def content() -> list[bytes]:
        nops = ew.words(NOP) * (MEGABYTE // 4)
        call = ew.words(BL, NOP)
        return [nops] * before + [call] + [nops] * between + [call, ew.words(BLR)]

    first = before * MEGABYTE
    size = (before + between) * MEGABYTE + 20
    offsets = (first, size - 12)
    text = ew.Section(
        name=".text",
        flags=ew.SHF_ALLOC | ew.SHF_EXECINSTR,
        data=ew.Stream(size=size, chunks=content),
        addralign=4,
        relocations=[
            ew.Relocation(offset=at, type=ew.R_PPC64_REL24, symbol="__SCT__x") for at in offsets
        ],
    )
    names = [
        ew.Symbol(name=f"f{number}", type=ew.STT_FUNC, section=".text", value=at, size=8)
        for number, at in enumerate(offsets)
    ]
    return ew.Elf(sections=[text], symbols=[*names, ew.Symbol(name="__SCT__x", bind=1)])


@pytest.mark.parametrize(
    ("between", "first"), [(31, "rewrite"), (32, "refused SCP204"), (40, "refused SCP204")]
)
def test_out_of_reach(tmp_path: Path, between: int, first: str) -> None:
    path = tmp_path / "x.o"
    with path.open("wb") as out:
        ew.write(giant(1, between), out)
    assert states(path)["f1"] == ["rewrite"]
    plan = plan_file(path, Options(), None).objects[0].plan
    outcomes = [f"{site.state} {site.code}".strip() for site in plan.sites]
    assert outcomes == [first, "rewrite"]


@pytest.mark.parametrize(("size", "state"), [((1 << 25) - 20, "rewrite"), (1 << 25, "refused")])
def test_the_farthest_that_is_in_reach(tmp_path: Path, size: int, state: str) -> None:
    """A branch reaches 32 MiB - 4; the last words before that are left for lack of need."""
    text = ew.Section(
        name=".text",
        flags=ew.SHF_ALLOC | ew.SHF_EXECINSTR,
        data=ew.words(BL, NOP) + ew.words(NOP) * (size // 4 - 3) + ew.words(BLR),
        addralign=4,
        relocations=[ew.Relocation(offset=0, type=ew.R_PPC64_REL24, symbol="__SCT__x")],
    )
    path = tmp_path / "x.o"
    trampoline = ew.Symbol(name="__SCT__x", bind=ew.STB_GLOBAL)
    path.write_bytes(ew.build(ew.Elf(sections=[text], symbols=[trampoline])))
    (site,) = plan_file(path, Options(), None).objects[0].plan.sites
    assert site.state == state
    if state == "rewrite":
        command = ["--defsym", "__SCT__x=0x11000000", "-e", "0"]
        run(LD, *command, "-o", tmp_path / "x", rewritten(path))
