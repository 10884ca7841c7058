"""What is written of an object with an odd field is what the proof takes, or neither takes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from scpatch.errors import ScpatchError
from scpatch.rewriter import plan_file, write
from scpatch.verifier.proof import prove
from tests.elfwriter import R_PPC64_REL24, SHT_NOBITS, Elf, Relocation, Section, build
from tests.relocated import call
from tests.tools import options


def with_section(**fields: object) -> Elf:
    elf = call()
    other = Section(name=".other", **{"flags": 2, "data": bytes(9), **fields})  # type: ignore[arg-type]
    return replace(elf, sections=[*elf.sections, other])


def header(name: str, **fields: int) -> Elf:
    return replace(with_section(), section_headers={name: fields})


def with_relocation(symbol: int) -> Elf:
    elf, one = call(), Relocation(offset=0, type=R_PPC64_REL24, symbol=symbol)
    (text,) = elf.sections
    return replace(elf, sections=[replace(text, relocations=[*(text.relocations or ()), one])])


TAKEN = {
    "no alignment": header(".symtab", sh_addralign=3),
    "largest alignment": header(".strtab", sh_addralign=1 << 63),
    "bss past the end": replace(
        with_section(type=SHT_NOBITS, data=b"", size=64),
        section_headers={".other": {"sh_offset": 1 << 40}},
    ),
    "bss just past the end": replace(
        with_section(type=SHT_NOBITS, data=b"", size=64),
        section_headers={".other": {"sh_offset": 1 + len(build(with_section()))}},
    ),
    "executable names": header(".strtab", sh_flags=6),
    "executable relocations": header(".rela.text", sh_flags=0x46),
}
REFUSED = {
    "code of no type": (header(".text", sh_type=0), "SCP118"),
    "no such symbol": (with_relocation(9), "SCP107"),
    "no symbol table": (header(".symtab", sh_type=1), "SCP107"),
    "no symbols": (header(".symtab", sh_size=0), "SCP107"),
    "symbol without its number": (
        replace(
            call(),
            symbols=[
                replace(one, st_shndx=0xFFFF) if one.name.startswith("__SCT__") else one
                for one in call().symbols
            ],
        ),
        "SCP107",
    ),
    "no section headers": (replace(call(), header={"e_shoff": 0}), "SCP107"),
    "program headers": (replace(call(), header={"e_phnum": 0xFFFF}), "SCP117"),
}


@pytest.mark.parametrize("name", TAKEN)
def test_both_take_it(tmp_path: Path, name: str) -> None:
    path, new = tmp_path / "x.o", tmp_path / "new.o"
    path.write_bytes(build(TAKEN[name]))
    plan = plan_file(path, options(), new)
    assert len(plan.objects[0].plan.changed) == 1
    write([plan])
    proof = prove(path, new)
    assert proof.errors == ()
    assert [site.right for site in proof.sites] == [True]


@pytest.mark.parametrize("name", REFUSED)
def test_neither_takes_it(tmp_path: Path, name: str) -> None:
    elf, code = REFUSED[name]
    path = tmp_path / "x.o"
    path.write_bytes(build(elf))
    with pytest.raises(ScpatchError) as caught:
        plan_file(path, options())
    assert caught.value.code == code
    assert prove(path, path).errors
