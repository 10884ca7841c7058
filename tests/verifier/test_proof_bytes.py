"""Every flipped byte of either object is found, and every changed table.

Each byte of both files is flipped once, in a bit that a seed chooses.
"""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from tests.elfwriter import (
    STB_LOCAL,
    Elf,
    Symbol,
    build,
)
from tests.verifier.proof_support import STUB, apply, assemble, prove_data
from tests.verifier.test_proof import DATA, SOURCE, right_change


@pytest.fixture
def before(tmp_path: Path) -> Elf:
    return assemble(tmp_path, SOURCE + DATA)


def free_bytes(path: Path) -> set[int]:
    """File offsets that hold nothing: the low half of where SHT_NOBITS sections claim to lie."""
    with path.open("rb") as file:
        elf: Any = ELFFile(file)
        headers = [
            elf["e_shoff"] + 64 * number
            for number, section in enumerate(elf.iter_sections())
            if section["sh_type"] == "SHT_NOBITS"
        ]
    return {header + 24 + byte for header in headers for byte in range(2)}


def digits(path: Path) -> set[int]:
    """File offsets of the end of the stub's name: any hexadecimal digits will do."""
    with path.open("rb") as file:
        table: Any = ELFFile(file).get_section_by_name(".strtab")
        start = table["sh_offset"] + table.data().index(STUB.encode()) + len(STUB) - 12
    return set(range(start, start + 12))


@pytest.mark.parametrize("extended", [False, True])
def test_every_flipped_byte_is_an_error(tmp_path: Path, before: Elf, extended: bool) -> None:
    before = replace(before, extended=extended)
    one, two = build(before), build(apply(before, *right_change(before)))
    assert prove_data(tmp_path, one, two).errors == ()
    free = [free_bytes(tmp_path / name) for name in ("before.o", "after.o")]
    free_digits = digits(tmp_path / "after.o")
    chosen = random.Random(20221001)
    missed = []
    # Nor may the first file be another one than what the second was made of.
    for which, data in enumerate((one, two)):
        for offset in range(len(data)):
            pair = [one, two]
            pair[which] = flipped(data, offset, 1 << chosen.randrange(8))
            name_is_good = chr(pair[which][offset]) in "0123456789abcdef"
            harmless = offset in free[which] or (which and offset in free_digits and name_is_good)
            if not prove_data(tmp_path, *pair).errors and not harmless:
                missed.append((which, offset))
    assert missed == []


def flipped(data: bytes, offset: int, mask: int) -> bytes:
    return data[:offset] + bytes([data[offset] ^ mask]) + data[offset + 1 :]


def test_bytes_at_the_end_and_between_are_errors(tmp_path: Path, before: Elf) -> None:
    one, two = build(before), build(apply(before, *right_change(before)))
    assert prove_data(tmp_path, one, two + b"\0" * 3).errors == ()
    assert "belong to nothing" in prove_data(tmp_path, one, two + b"x").errors[0]
    # What followed the old file must follow the new one.
    assert prove_data(tmp_path, one + b"note", two + b"note").errors == ()
    assert prove_data(tmp_path, one + b"note", two).errors
    assert prove_data(tmp_path, one + b"note", two + b"nose").errors


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
        assert proof.errors, symbol.name


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
        assert proof.errors, symbol.name


def test_sections_keep_their_headers(tmp_path: Path, before: Elf) -> None:
    right = apply(before, *right_change(before))
    for field in ("sh_flags", "sh_type", "sh_addr", "sh_link", "sh_info", "sh_addralign"):
        for name in (".text", ".data", ".rela.text", ".symtab", ".strtab"):
            lying = replace(right, section_headers={name: {field: 512}})
            assert prove_data(tmp_path, build(before), build(lying)).errors, (name, field)
