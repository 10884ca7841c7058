"""More than 65,279 sections: counts and section numbers are then elsewhere (gABI, e_shnum)."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from scpatch.errors import ScpatchError
from scpatch.rewriter import plan_file
from scpatch.verifier.proof import prove
from tests.elfwriter import (
    R_PPC64_REL24,
    SHF_ALLOC,
    SHT_PROGBITS,
    STB_GLOBAL,
    STT_SECTION,
    Elf,
    Number,
    Relocation,
    Section,
    Symbol,
    build,
    code_section,
    function,
)
from tests.relocated import CALL, CODE
from tests.sites.support import entries, listed
from tests.tools import CROSS, options, run, symbols


def many(sections: int, *, named: bool = True) -> Elf:
    """An object of so many sections, the first and the last with a call; `named`: the last one
    has symbols."""
    call = Relocation(offset=CALL, type=R_PPC64_REL24, symbol="__SCT__x")
    code = [code_section(CODE, call, name=name) for name in (".text.first", ".text.last")]
    # Section 0, two tables of relocations, .symtab, .symtab_shndx, .strtab and .shstrtab.
    others = sections - 9 + (sections < 65284)
    few = Section(name=".d", flags=SHF_ALLOC, data=b"x")
    homes = {"f": ".text.first", "g": ".text.last"} if named else {"f": ".text.first"}
    return Elf(
        sections=[code[0], *[few] * others, code[1]],
        symbols=[
            *(Symbol(type=STT_SECTION, section=home) for home in homes.values()),
            *(function(name, len(CODE), section=home) for name, home in homes.items()),
            Symbol(name="__SCT__x", bind=STB_GLOBAL),
            Symbol(name="__SCK__x", bind=STB_GLOBAL),
        ],
    )


def count(path: Path) -> str:
    done = run(CROSS + "readelf", "-hW", path)
    assert done.stderr == ""
    count = re.search(r"Number of section headers: +(.*)", done.stdout)
    assert count is not None
    return count[1]


@pytest.mark.parametrize(
    ("sections", "before", "after"),
    [
        # Three sections come in addition: the table, its relocations, and .comment.
        (65277, "65277", "0 (65280)"),
        (65300, "0 (65300)", "0 (65303)"),
    ],
)
def test_the_table_of_call_sites(tmp_path: Path, sections: int, before: str, after: str) -> None:
    path = tmp_path / "x.o"
    path.write_bytes(build(many(sections)))
    assert count(path) == before
    new = listed(path)
    assert count(new) == after
    assert entries(new) == [
        (".text.first", CALL, "__SCK__x"),
        (".text.last", CALL, "__SCK__x"),
    ]
    stubs = [symbol for symbol in symbols(new) if symbol.name.startswith("r2save.")]
    assert len(stubs) == 2
    homes = {symbol.name: symbol.section for symbol in symbols(new)}
    assert [stub.section for stub in stubs] == [homes["f"], homes["g"]]
    proof = prove(path, new)
    assert proof.errors == ()
    assert [site.state for site in proof.sites] == ["stub", "stub"]


def test_a_stub_that_no_symbol_can_name(tmp_path: Path) -> None:
    """The number of its section does not fit, and the table for those that do not is missing."""
    elf = many(65300, named=False)
    other: dict[Number, dict[str, int]] = {".symtab_shndx": {"sh_type": SHT_PROGBITS, "sh_link": 0}}
    path = tmp_path / "x.o"
    path.write_bytes(build(replace(elf, section_headers=other)))
    assert count(path) == "0 (65300)"
    with pytest.raises(ScpatchError) as caught:
        plan_file(path, options())
    assert "SHT_SYMTAB_SHNDX" in caught.value.message
    assert "ld -r" in caught.value.hint
