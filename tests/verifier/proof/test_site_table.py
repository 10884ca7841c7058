"""The proof of the table of call sites: each wrong field, and each missing entry, is an error."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from scpatch.linux.offsets import Offsets
from scpatch.rewriter import Options, plan_file, write
from scpatch.verifier.proof import prove
from scpatch.verifier.types import Proof
from tests import tools
from tests.sites.support import TABLE, entries, key, listed
from tests.strategies import livepatch_support
from tests.tools import FIXTURES, LD, run

SOURCE = key("y") + key("x")
SOURCE += "FRAME f\nCALL __SCT__x\nCALL __SCT__y\n bl __SCT__x\n li 3, 0\nCALL __SCT__x\nLEAVE f\n"
SOURCE += '.section .init.text, "ax"\nFRAME g\n bl __SCT__x@notoc + 4\nCALL __SCT__x\nLEAVE g\n'
ENTRIES = 5

Assemble = Callable[..., Path]


@pytest.fixture
def pair(assemble: Assemble) -> tuple[Path, Path]:
    before = assemble(SOURCE)
    return before, listed(before, no_nop="thunk")


def test_a_right_table(pair: tuple[Path, Path]) -> None:
    assert prove(*pair).errors == ()


@pytest.mark.parametrize("name", ["sites.o", "refused.o", "calls-gcc.o", "merged.o"])
def test_of_fixtures(name: str, tmp_path: Path) -> None:
    called = {site.trampoline for site in tools.scan_file(FIXTURES / name).sites}
    keys = tools.assemble(
        tmp_path, "".join(map(key, sorted(symbol[7:] for symbol in called))), "keys.o"
    )
    path = tmp_path / name
    run(LD, "-r", "-o", path, FIXTURES / name, keys)
    for no_nop in ("refuse", "thunk"):
        # An undefined trampoline of an image needs no stub where r2 is saved.
        new = listed(path, no_nop=no_nop, undefined="rewrite")
        assert prove(path, new).errors == ()
        assert prove(new, new).errors == ()


PC_RELATIVE = key("x") + "FUNC __SCT__x\n b target@notoc\nEND __SCT__x\n"
PC_RELATIVE += "FUNC f\n bl __SCT__x@notoc\n b __SCT__x@notoc\nEND f\n"


@pytest.mark.parametrize(("entry", "wanted"), [(0, "0"), (1, "1")])
def test_flags_of_calls_without_r2(assemble: Assemble, entry: int, wanted: str) -> None:
    before = assemble(PC_RELATIVE)
    table = Table(listed(before))
    assert prove(before, table.path).errors == ()
    path = before.with_name("broken.o")
    table.set(2 * entry + 1, "addend", 1 - entry)
    path.write_bytes(table.data)
    (error,) = prove(before, path).errors
    assert f"has other flags than 0x{wanted}" in error


@pytest.mark.parametrize("defined", [True, False])
def test_a_missing_call_without_r2(assemble: Assemble, defined: bool) -> None:
    """With `--undefined skip` no call of a trampoline elsewhere is listed."""
    source = PC_RELATIVE.replace("bl __SCT__x", "bl __SCT__y").replace("b __SCT__x", "b __SCT__y")
    before = assemble(PC_RELATIVE if defined else key("y") + source)
    table = Table(listed(before))
    table.header(table.table.index, 32, 8)
    table.header(table.relocations.index, 32, 48)
    path = before.with_name("broken.o")
    path.write_bytes(table.data)
    missing = [error for error in prove(before, path).errors if "is missing in" in error]
    assert len(missing) == defined


def test_a_table_that_is_added_later(assemble: Assemble) -> None:
    once = tools.rewritten(assemble(SOURCE), no_nop="thunk")
    assert prove(once, listed(once, no_nop="thunk")).errors == ()


_MODULE = key("x") + "FRAME f\nCALL __SCT__x\nCALL __SCT__k\nLEAVE f\n"
_MODULE += "FUNC __SCT__x\n blr\nEND __SCT__x\n"
_MODULE += '.section .gnu.linkonce.this_module, "aw"\n.quad 0\n.text\n'


@pytest.mark.parametrize("undefined", ["auto", "rewrite"])
@pytest.mark.parametrize("seen", ["", ".reloc 0, R_PPC64_NONE, __SCK__k\n"])
def test_a_module(assemble: Assemble, undefined: str, seen: str) -> None:
    before = assemble(_MODULE + seen, name="m.ko")
    assert prove(before, listed(before, undefined=undefined)).errors == ()


def test_a_module_that_sees_the_key_names_it(assemble: Assemble) -> None:
    before = assemble(_MODULE + ".reloc 0, R_PPC64_NONE, __SCK__k\n", name="m.ko")
    table = Table(listed(before, undefined="rewrite"))
    assert table.get(1, "symbol") == table.symbols["__SCK__k"]
    table.set(1, "symbol", table.symbols["__SCT__k"])
    path = before.with_name("broken.ko")
    path.write_bytes(table.data)
    (error,) = prove(before, path).errors
    assert "has the key __SCT__k, not __SCK__k" in error


_STRATEGIES = {
    "localentry": Options("localentry", offsets=Offsets(paca_toc=16), emit_sites=True),
    "paca": Options("paca", offsets=Offsets(paca_toc=16), emit_sites=True),
    "livepatch-stack": livepatch_support.options()._replace(emit_sites=True),
}


@pytest.mark.parametrize("options", _STRATEGIES.values(), ids=_STRATEGIES)
def test_with_other_strategies(assemble: Assemble, options: Options) -> None:
    """In one run and in two."""
    source = key("x") + "FRAME f\nCALL __SCT__x\nCALL __SCT__x\nLEAVE f\n"
    before = assemble(source + livepatch_support.trampoline())
    once, first, second = (before.with_name(name) for name in ("once.o", "first.o", "second.o"))
    write([plan_file(before, options, once)], allow_refused=True)
    assert entries(once) == [(".text", 20, "__SCK__x"), (".text", 28, "__SCK__x")]
    assert prove(before, once).errors == ()
    write([plan_file(before, options._replace(emit_sites=False), first)], allow_refused=True)
    write([plan_file(first, options, second)], allow_refused=True)
    assert second.read_bytes() == once.read_bytes()
    assert plan_file(second, options).outputs == ()
    assert prove(first, second).errors == ()


def test_the_table_outlives_the_unmarking(assemble: Assemble) -> None:
    """The calls stay where they are when callsite takes over from localentry."""
    source = key("x") + "FRAME f\nCALL __SCT__x\nCALL __SCT__x\nLEAVE f\n"
    before = assemble(source + livepatch_support.trampoline())
    marked, other = (before.with_name(name) for name in ("marked.o", "other.o"))
    write([plan_file(before, _STRATEGIES["localentry"], marked)], allow_refused=True)
    for emit_sites in (True, False):
        options = Options(offsets=Offsets(paca_toc=16), unmark=True, emit_sites=emit_sites)
        write([plan_file(marked, options, other)], allow_refused=True)
        assert entries(other) == entries(marked)
        assert prove(marked, other).errors == ()


class Table:
    """The bytes of a rewritten object, and where its table is in them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = bytearray(path.read_bytes())
        self.table = tools.section(path, TABLE)
        self.relocations = tools.section(path, ".rela" + TABLE)
        self.symbols = {symbol.name: symbol.index for symbol in tools.symbols(path)}
        self.headers = struct.unpack_from("<Q", self.data, 40)[0]

    def field(self, word: int, what: str) -> tuple[str, int]:
        at = self.relocations.offset + 24 * word
        return {"offset": ("<Q", at), "type": ("<I", at + 8), "symbol": ("<I", at + 12)}.get(
            what, ("<q", at + 16)
        )

    def get(self, word: int, what: str) -> int:
        number = struct.unpack_from(*self._swap(self.field(word, what)))[0]
        assert isinstance(number, int)
        return number

    def _swap(self, field: tuple[str, int]) -> tuple[str, bytearray, int]:
        return field[0], self.data, field[1]

    def set(self, word: int, what: str, value: int) -> None:
        form, at = self.field(word, what)
        struct.pack_into(form, self.data, at, value)

    def header(self, index: int, offset: int, value: int, form: str = "<Q") -> None:
        struct.pack_into(form, self.data, self.headers + 64 * index + offset, value)

    def swap(self, index: int, other: int) -> None:
        """Two entries change places."""
        for word in (0, 1):
            for what in ("symbol", "addend"):
                first, second = self.get(2 * index + word, what), self.get(2 * other + word, what)
                self.set(2 * index + word, what, second)
                self.set(2 * other + word, what, first)


def _shorter(table: Table) -> None:
    """The last entry is missing: both sections end before it."""
    table.header(table.table.index, 32, 8 * (ENTRIES - 1))
    table.header(table.relocations.index, 32, 48 * (ENTRIES - 1))


def _twice(table: Table) -> None:
    for what in ("symbol", "addend"):
        table.set(2 * 2, what, table.get(2, what))


BROKEN: dict[str, tuple[Callable[[Table], None], str]] = {
    "another call": (lambda t: t.set(2, "addend", t.get(2, "addend") + 4), "names no call"),
    "the site of a thunk": (lambda t: t.set(2, "addend", 36), "names no call"),
    "one into a trampoline": (lambda t: t.set(8, "addend", 20), "names no call"),
    "another key": (lambda t: t.set(3, "symbol", t.symbols["__SCK__y"]), "has the key __SCK__y"),
    "a trampoline": (lambda t: t.set(3, "symbol", t.symbols["__SCT__x"]), "has the key __SCT__x"),
    "tail": (lambda t: t.set(3, "addend", 1), "has other flags"),
    "init": (lambda t: t.set(9, "addend", 2), "has other flags"),
    "off": (lambda t: t.set(3, "addend", 8), "0x8 bytes off"),
    "order of keys": (lambda t: t.swap(0, 1), "not in the order"),
    "order of calls": (lambda t: t.swap(1, 2), "not in the order"),
    "missing": (_shorter, "the call is missing"),
    "twice": (_twice, "there twice"),
    "type": (lambda t: t.set(2, "type", 44), "two relative words"),
    "place": (lambda t: t.set(2, "offset", 12), "not each has one relocation"),
    "a word": (lambda t: t.data.__setitem__(t.table.offset + 5, 1), "are not zero"),
    "flags": (lambda t: t.header(t.table.index, 8, 6), "was added"),
    "type of section": (lambda t: t.header(t.table.index, 4, 8, "<I"), "was added"),
    "alignment": (lambda t: t.header(t.table.index, 48, 1), "was added"),
    "offset": (lambda t: t.header(t.table.index, 24, t.table.offset + 2), "is not aligned"),
    "address": (lambda t: t.header(t.table.index, 16, 8), "with an address"),
    "entry size": (lambda t: t.header(t.table.index, 56, 16), "was added"),
    "info": (lambda t: t.header(t.relocations.index, 44, 1, "<I"), "has two tables"),
    "symbol table": (lambda t: t.header(t.relocations.index, 40, 1, "<I"), "another symbol table"),
}


def broken(pair: tuple[Path, Path], change: Callable[[Table], None]) -> Proof:
    table = Table(pair[1])
    change(table)
    path = pair[1].with_name("broken.o")
    path.write_bytes(table.data)
    return prove(pair[0], path)


@pytest.mark.parametrize(("change", "what"), BROKEN.values(), ids=BROKEN)
def test_a_broken_table(
    pair: tuple[Path, Path], change: Callable[[Table], None], what: str
) -> None:
    errors = broken(pair, change).errors
    assert any(what in text for text in errors), errors


def test_nothing_changed_is_nothing_broken(pair: tuple[Path, Path]) -> None:
    assert broken(pair, lambda table: None).errors == ()


def test_a_weak_symbol(assemble: Assemble) -> None:
    source = key("x") + ".weak w\nw: nop\nFRAME f\nCALL __SCT__x\nLEAVE f\n"
    before = assemble(source)
    table = Table(listed(before))
    table.set(0, "symbol", table.symbols["w"])
    path = before.with_name("broken.o")
    path.write_bytes(table.data)
    (error,) = prove(before, path).errors
    assert "by a weak symbol" in error


def test_a_table_where_there_was_one(pair: tuple[Path, Path]) -> None:
    """A rewrite adds no second table of the same sites."""
    run(tools.CROSS + "objcopy", f"--rename-section={TABLE}=.other", pair[1])
    second = listed(pair[1], no_nop="thunk")
    third = second.with_name("third.o")
    run(tools.CROSS + "objcopy", f"--rename-section=.other={TABLE}", pair[1], third)
    assert prove(pair[1], second).errors == ()
    run(tools.CROSS + "objcopy", f"--rename-section=.other={TABLE}", second)
    assert any("was added" in text for text in prove(third, second).errors)
