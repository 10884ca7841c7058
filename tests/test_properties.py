"""Random objects with call sites: what is planned is foreseeable, and done once for all.

Each object has some code sections, each section some sites whose state follows from how they were
made. pyelftools reads the result.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection
from hypothesis import given, settings
from hypothesis import strategies as st

from scpatch.rewriter import Options, plan_object
from scpatch.sites.model import Site
from tests import elfwriter as ew
from tests.tools import LD_R2, NOP, STD_R2, apply, options

ADDI, CROR_15, CROR_31 = 0x38630001, 0x4DEF7B82, 0x4FFFFB82
NAMES = ("__SCT__a", "__SCT__b", "__SCT__c")


@dataclass(frozen=True)
class Kind:
    words: tuple[int, int]
    type: int
    state: str
    addend: int = 0


KINDS = (
    Kind((ew.BL, NOP), ew.R_PPC64_REL24, "rewrite"),
    Kind((ew.BL, CROR_15), ew.R_PPC64_REL24, "rewrite"),
    Kind((ew.BL, CROR_31), ew.R_PPC64_REL24, "rewrite"),
    Kind((ew.BL, LD_R2), ew.R_PPC64_REL24, "done"),
    Kind((ew.BL, ADDI), ew.R_PPC64_REL24, "SCP201"),
    Kind((ew.B, NOP), ew.R_PPC64_REL24, "SCP203"),
    Kind((ew.BL, NOP), ew.R_PPC64_REL24, "SCP205", 8),
    Kind((ew.BL, NOP), ew.R_PPC64_REL24_NOTOC, "notoc"),
    Kind((0x41820000, NOP), ew.R_PPC64_REL14, "SCP209"),
)

Made = list[list[tuple[Kind, str]]]
made = st.lists(
    st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(NAMES)), max_size=8),
    min_size=1,
    max_size=4,
)


def build(sections: Made, padding: int) -> bytes:
    """Every site between two other instructions, every section with another after it."""
    parts = []
    for number, sites in enumerate(sections):
        words = [ADDI]
        calls = []
        for kind, name in sites:
            calls.append(
                ew.Relocation(
                    offset=4 * len(words), type=kind.type, symbol=name, addend=kind.addend
                )
            )
            words += [*kind.words, ADDI]
        parts.append(
            ew.Section(
                name=f".text.{number}",
                flags=ew.SHF_ALLOC | ew.SHF_EXECINSTR,
                data=ew.words(*words, ew.BLR),
                addralign=16,
                relocations=calls,
            )
        )
        parts.append(ew.Section(name=f".data.{number}", flags=3, data=bytes(padding), addralign=8))
    names = [ew.Symbol(name=name, bind=ew.STB_GLOBAL) for name in NAMES]
    return ew.build(ew.Elf(sections=parts, symbols=names))


def named(site: Site) -> str:
    return site.code if site.state == "refused" else str(site.state)


def bytes_of(file: ELFFile, name: str) -> bytes:
    section = file.get_section_by_name(name)
    assert section is not None
    return section.data()


def words_of(file: ELFFile, name: str) -> list[int]:
    data = bytes_of(file, name)
    return [int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data), 4)]


@settings(max_examples=150, deadline=None)
@given(made, st.integers(0, 9))
def test_states(sections: Made, padding: int) -> None:
    plan, _ = plan_object(memoryview(build(sections, padding)), "x", Options())
    assert [named(site) for site in plan.plan.sites] == [
        kind.state for sites in sections for kind, _ in sites
    ]


@settings(max_examples=150, deadline=None)
@given(made, st.integers(0, 9), st.sampled_from(("refuse", "thunk")))
def test_rewritten(sections: Made, padding: int, no_nop: str) -> None:
    data = build(sections, padding)
    _, layout = plan_object(memoryview(data), "x", options(no_nop=no_nop))
    wanted = {"rewrite"} | ({"SCP201"} if no_nop == "thunk" else set())
    changes = sum(kind.state in wanted for sites in sections for kind, _ in sites)
    assert (layout is None) == (changes == 0)
    if layout is None:
        return
    new = apply(data, layout)
    file = ELFFile(io.BytesIO(new))
    for number, sites in enumerate(sections):
        check_section(file, number, sites, no_nop)
        assert bytes_of(file, f".data.{number}") == bytes(padding)
    _, again = plan_object(memoryview(new), "x", options(no_nop=no_nop))
    assert again is None


def check_section(file: ELFFile, number: int, sites: list[tuple[Kind, str]], no_nop: str) -> None:
    """The words and calls of one section, and where each call ends up."""
    words = words_of(file, f".text.{number}")
    table = file.get_section_by_name(f".rela.text.{number}")
    symtab = file.get_section_by_name(".symtab")
    assert isinstance(table, RelocationSection)
    assert isinstance(symtab, SymbolTableSection)
    calls = {entry["r_offset"]: entry for entry in table.iter_relocations()}
    for at, (kind, name) in enumerate(sites):
        place = 1 + 3 * at
        target = symtab.get_symbol(calls[4 * place]["r_info_sym"])
        if kind.state == "rewrite":
            assert words[place : place + 2] == [ew.BL, LD_R2]
            stub = target["st_value"] // 4
            assert words[stub : stub + 2] == [STD_R2, ew.B]
            onward = calls[4 * stub + 4]
        elif kind.state == "SCP201" and no_nop == "thunk":
            assert words[place : place + 2] == [ew.B, ADDI]
            thunk = target["st_value"] // 4
            assert words[thunk : thunk + 3] == [STD_R2, ew.BL, LD_R2]
            assert words[thunk + 3] == ew.B | 4 * (place + 1 - thunk - 3) & 0x3FFFFFC
            onward = calls[4 * thunk + 4]
        else:
            assert tuple(words[place : place + 2]) == kind.words
            onward = calls[4 * place]
        assert symtab.get_symbol(onward["r_info_sym"]).name == name
        assert onward["r_addend"] == kind.addend
