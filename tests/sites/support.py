"""Objects with static calls and their keys, and the table of call sites as readelf shows it."""

from __future__ import annotations

from pathlib import Path

from scpatch.rewriter import FilePlan, Options, plan_file, write
from tests.tools import relocations, section, sections, symbols

TABLE = ".static_call_sites"


def key(name: str) -> str:
    """A static call's key as the compiler writes it: struct static_call_key."""
    return f"""
        .data
        .balign 8
        .globl "__SCK__{name}"
        .type "__SCK__{name}", @object
        .size "__SCK__{name}", 16
"__SCK__{name}": .quad 0, 1
        .text
"""


def plan(path: Path, target: Path | None = None, **choices: object) -> FilePlan:
    options = Options(emit_sites=True, **choices)  # type: ignore[arg-type]
    return plan_file(path, options, target)


def listed(path: Path, **choices: object) -> Path:
    """A copy beside `path`, rewritten and with its table."""
    target = path.with_name(f"{path.stem}.listed{path.suffix}")
    write([plan(path, target, **choices)], allow_refused=True)
    return target


def entries(path: Path, *, tails: bool = False) -> list[tuple[str, int, str]]:
    """(section and offset of the `bl`, key) of each entry, as readelf has them. The key is followed
    by ` + 1` for a `b`, which only `tails` allow.

    Also checks the form: two relocated words an entry, without other flags, in a section that the
    kernel can sort in place.
    """
    headers, names = sections(path), symbols(path)
    table = section(path, TABLE)
    assert (table.type, table.flags, table.entsize, table.align) == ("PROGBITS", "WA", 8, 4)
    result = [relocation for relocation in relocations(path) if relocation.table == ".rela" + TABLE]
    assert {entry.type for entry in result} == {"REL32"}
    assert [entry.offset for entry in result] == list(range(0, table.size, 4))
    assert not any(path.read_bytes()[table.offset : table.offset + table.size])
    rows = []
    for call, named in zip(result[::2], result[1::2], strict=True):
        base = names[call.symbol]
        assert named.addend in ((0, 1) if tails else (0,))
        flags = " + 1" if named.addend else ""
        where = headers[int(base.section)].name
        rows.append((where, base.value + call.addend, names[named.symbol].name + flags))
    return rows
