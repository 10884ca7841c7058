"""Every flipped byte of either object is an error, and every changed table.

Each byte of both files is flipped once, in a bit that a seed chooses.
"""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from tests.bigendian import twin
from tests.elfwriter import (
    STB_LOCAL,
    Elf,
    Symbol,
    build,
)
from tests.verifier.proof.support import STUB, apply, assemble, prove_alone, prove_data
from tests.verifier.proof.test_prove import DATA, SOURCE, right_change


@pytest.fixture
def before(tmp_path: Path) -> Elf:
    return assemble(tmp_path, SOURCE + DATA)


def free_bytes(path: Path) -> set[int]:
    """File offsets that hold nothing: the low half of where SHT_NOBITS sections claim to lie."""
    with path.open("rb") as file:
        elf: Any = ELFFile(file)
        low = (0, 1) if elf.little_endian else (6, 7)
        headers = [
            elf["e_shoff"] + 64 * number
            for number, section in enumerate(elf.iter_sections())
            if section["sh_type"] == "SHT_NOBITS"
        ]
    return {header + 24 + byte for header in headers for byte in low}


def digits(path: Path) -> set[int]:
    """File offsets of the end of the stub's name: any hexadecimal digits will do."""
    with path.open("rb") as file:
        table: Any = ELFFile(file).get_section_by_name(".strtab")
        start = table["sh_offset"] + table.data().index(STUB.encode()) + len(STUB) - 12
    return set(range(start, start + 12))


CALL = r"this branch is no longer a call|this branch was not a call|the call was changed"
SAME = r"bytes were changed that do not belong to a static call"
NAME = r"a name is not inside its string table"
EXPECTED = {
    "the file header": rf"file header was changed|not an? |table is not|program headers|{NAME}",
    "the section headers": r"section|reloca|symbol|name|static call|code|string table",
    ".text": rf"\.text\+0x.*({SAME}|{CALL}|overwrote|must not become a save|may run on)",
    ".rela.text": rf"relocation|{CALL}|this call must not be changed",
    ".data": rf"\.data\+0x.*{SAME}",
    ".rela.data": r"\.data.*relocation|names no symbol|its address is taken",
    ".tramp": rf"\.tramp\+0x.*{SAME}",
    ".symtab": rf"\.symtab: an old entry|{NAME}|symbol \d+|{CALL}",
    ".symtab_shndx": rf"symbol \d+ is in no section|an old entry|{CALL}",
    ".strtab": rf"\.strtab: an old entry|{NAME}|{CALL}|it leads to __SCT__x",
    ".shstrtab": rf"{SAME}|{NAME}",
    "nothing": r"bytes after section .* that belong to (nothing|no section are gone)",
}
"""What the error says of a flipped byte, by what the byte belongs to."""


def parts(path: Path) -> list[tuple[range, str]]:
    """The parts of a file: file offsets, and the name in EXPECTED."""
    with path.open("rb") as file:
        elf: Any = ELFFile(file)
        table, count = elf["e_shoff"], elf.num_sections()
        spans = [(range(64), "the file header")]
        spans.append((range(table, table + 64 * count), "the section headers"))
        for section in elf.iter_sections():
            if section["sh_type"] != "SHT_NOBITS":
                start = section["sh_offset"]
                spans.append((range(start, start + section["sh_size"]), section.name))
    return spans


@pytest.mark.parametrize(("extended", "form"), [(False, bytes), (True, bytes), (False, twin)])
def test_every_flipped_byte_is_an_error(
    tmp_path: Path, before: Elf, extended: bool, form: Callable[[bytes], bytes]
) -> None:
    before = replace(before, extended=extended)
    old, new = form(build(before)), form(build(apply(before, *right_change(before))))
    assert prove_alone(tmp_path, old, new).errors == ()
    paths = tmp_path / "before.o", tmp_path / "after.o"
    free, layout = [free_bytes(path) for path in paths], [parts(path) for path in paths]
    free[1] |= digits(paths[1])
    chosen = random.Random(20221001)
    wrong = []
    # Nor may the first file be another than what the second was made of.
    for which, data in enumerate((old, new)):
        for offset in range(len(data)):
            pair = [old, new]
            pair[which] = flipped(data, offset, 1 << chosen.randrange(8))
            errors = prove_alone(tmp_path, *pair).errors
            part = next((name for span, name in layout[which] if offset in span), "nothing")
            harmless = offset in free[which] and not errors
            if not harmless and not any(re.search(EXPECTED[part], error) for error in errors):
                wrong.append((which, offset, part, errors[:1]))
    assert wrong == []


def flipped(data: bytes, offset: int, mask: int) -> bytes:
    return data[:offset] + bytes([data[offset] ^ mask]) + data[offset + 1 :]


def test_bytes_at_the_end_and_between_are_errors(tmp_path: Path, before: Elf) -> None:
    old, new = build(before), build(apply(before, *right_change(before)))
    assert prove_data(tmp_path, old, new + b"\0" * 3).errors == ()
    assert "belong to nothing" in prove_data(tmp_path, old, new + b"x").errors[0]
    # What followed the old file must follow the new one.
    assert prove_data(tmp_path, old + b"note", new + b"note").errors == ()
    (gone,) = prove_data(tmp_path, old + b"note", new).errors
    assert gone.endswith("that belong to no section are gone.")
    (other,) = prove_data(tmp_path, old + b"note", new + b"nose").errors
    assert other.endswith("that belong to nothing.")


MARKED = r"no linker accepts a branch without nop|is not a nop that every linker knows"
UNREADABLE = {
    (".rela.text", "sh_type"): ".text has relocations of another form",
    (".rela.text", "sh_link"): "relocations that name another symbol table",
    (".rela.text", "sh_info"): "relocations for a section that does not exist",
    (".symtab", "sh_type"): "relocations that name another symbol table",
    (".symtab", "sh_link"): "the symbol table is damaged",
}
"""The headers without which an object cannot be read, and what the proof says then."""


def old_symbols(elf: Elf) -> Iterator[tuple[int, Symbol]]:
    for number, symbol in enumerate(elf.symbols):
        if symbol.name and symbol.name != STUB:
            yield number, symbol


@pytest.mark.parametrize(
    "fields",
    [{"other": 0x20}, {"size": 99}, {"type": 1}, {"value": 2}],
    ids=lambda f: next(iter(f)),
)
def test_old_symbols_stay_as_they_are(tmp_path: Path, before: Elf, fields: dict[str, int]) -> None:
    right = apply(before, *right_change(before))
    for number, symbol in old_symbols(right):
        changed = replace(symbol, **fields)  # type: ignore[arg-type]
        if changed == symbol:
            continue
        symbols = [*right.symbols[:number], changed, *right.symbols[number + 1 :]]
        proof = prove_data(tmp_path, build(before), build(replace(right, symbols=symbols)))
        # A mark of a trampoline could be meant, but not so.
        marked = "other" in fields and symbol.name.startswith("__SCT__")
        wanted = MARKED if marked else ".symtab: an old entry of the symbol table was changed"
        assert re.search(wanted, "\n".join(proof.errors)), (symbol.name, proof.errors)


def test_symbols_keep_their_places(tmp_path: Path, before: Elf) -> None:
    right = apply(before, *right_change(before))
    last = len(right.symbols) - 1
    for number, symbol in old_symbols(right):
        if symbol.bind == STB_LOCAL:
            continue
        order = [*range(number), *range(number + 1, last), number, last]
        if order == list(range(last + 1)):
            continue
        symbols = [right.symbols[n] for n in order]
        proof = prove_data(tmp_path, build(before), build(replace(right, symbols=symbols)))
        error = proof.errors[0]
        assert re.match(r"\.(symtab|strtab): an old entry of the", error), (symbol.name, error)


def test_sections_keep_their_headers(tmp_path: Path, before: Elf) -> None:
    right = apply(before, *right_change(before))
    for field in ("sh_flags", "sh_type", "sh_addr", "sh_link", "sh_info", "sh_addralign"):
        for name in (".text", ".data", ".rela.text", ".symtab", ".strtab"):
            lying = replace(right, section_headers={name: {field: 512}})
            (error, *_) = prove_data(tmp_path, build(before), build(lying)).errors
            assert UNREADABLE.get((name, field), f"({name}) was changed.") in error
