"""The text of instructions, held against objdump's."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from scpatch.differ.disassembly import shows, suffixes, text_of
from scpatch.differ.model import Instruction, NamedRelocation, Role, Token
from scpatch.differ.names import CodeSection, ObjectNames
from scpatch.ppc64.reloc_names import NAMES, SUFFIXES, name
from tests import elfwriter
from tests.report.support import (
    FIXTURES,
    PREFIX,
    Listed,
    compare,
    objdump,
    opened,
    rewritten,
    rows,
    run,
)
from tests.tools import LIBC

SYNONYMS = {
    ("mtvsrd", "mtfprd"),
    ("mtvsrd", "mtvrd"),
    ("mfvsrd", "mffprd"),
    ("mfvsrd", "mfvrd"),
    ("mtvsrwz", "mtfprwz"),
    ("mtvsrwa", "mtfprwa"),
    ("mfvsrwz", "mffprwz"),
    ("cror", "crmove"),
}
"""(capstone's or our mnemonic, objdump's): two names of one instruction, the operands as well."""


def joined(segments: tuple[Token, ...]) -> str:
    return Instruction(0, 0, 0, segments).text


def agree(ours: str, listed: Listed) -> bool:
    """Whether a line says what objdump says, `.long` and synonyms apart."""
    theirs = re.sub(r" <.*>$", "", listed.text)
    if ours == theirs:
        return True
    pair = ours.split(" ")[0], theirs.split(" ")[0]
    if pair == (".long", ".long"):
        return int(ours.split()[1], 16) == int(theirs.split()[1], 16) == listed.word
    return pair in SYNONYMS


def disagreements(path: Path) -> tuple[int, list[tuple[str, Listed]]]:
    """How many words without a relocation were compared, and those whose texts differ."""
    listing = objdump(path)
    differing: list[tuple[str, Listed]] = []
    compared = 0
    with opened(path) as elf:
        names = ObjectNames(elf)
        for section in [i for i, s in enumerate(elf.sections) if s.sh_flags & 4]:
            code = CodeSection(names, section)
            for part in names.ranges(section):
                words = code.words(part)
                relocations = code.relocations(part)
                for index, suffix in enumerate(suffixes(words)):
                    offset = part.start + 4 * index
                    listed = listing.get((part.section_name, offset))
                    if listed is None or relocations[index]:
                        continue
                    segments = text_of(
                        words[index], offset, (), lambda at: f"{at:x}", suffix=suffix
                    )
                    compared += 1
                    if not agree(joined(segments), listed):
                        differing.append((joined(segments), listed))
    return compared, differing


@pytest.mark.parametrize(
    "fixture", ["sites.o", "refused.o", "calls-gcc.o", "calls-clang.o", "merged.o", "module.ko"]
)
def test_fixtures_read_as_in_objdump(fixture: str) -> None:
    compared, differing = disagreements(FIXTURES / fixture)
    assert compared > 40
    assert differing == []


@pytest.mark.parametrize(
    "member", ["malloc.o", "vfprintf-internal.o", "printf_fp.o", "memcpy-power8-cached.o"]
)
def test_the_c_library_reads_as_in_objdump(member: str, tmp_path: Path) -> None:
    """Real code: floating point, vectors, string instructions."""
    run(PREFIX + "ar", "x", "--output", tmp_path, LIBC, member)
    compared, differing = disagreements(tmp_path / member)
    assert compared > 100
    assert differing == []


@pytest.mark.parametrize("fixture", ["calls-gcc.o", "calls-clang.o", "sites.o"])
def test_rows_read_as_in_objdump(fixture: str, tmp_path: Path) -> None:
    """Whole functions of both versions: words, texts, branch targets, relocations."""
    before, after = FIXTURES / fixture, rewritten(fixture, tmp_path)
    listings = objdump(before), objdump(after)
    compared = 0
    for function in compare(before, after, context=1 << 20).functions:
        for row in rows(function):
            for listing, instruction, inside in (
                (listings[0], row.before, function.before),
                (listings[1], row.after, function.after),
            ):
                if instruction is None or inside is None or instruction.size < 4:
                    continue
                compared += 1
                listed = listing[inside.section_name, instruction.offset]
                assert instruction.word == listed.word
                assert [(name(r.type), r.target) for r in instruction.relocations] == [
                    (kind, target) for kind, target in listed.relocations
                ]
                if not instruction.relocations:
                    ours = re.sub(
                        r"\+0x([0-9a-f]+)$",
                        lambda m, start=inside.start: f"{start + int(m[1], 16):x}",  # type: ignore[misc]
                        instruction.text,
                    )
                    assert agree(ours.replace(inside.section_name, ""), listed)
                elif any(r.type == 10 for r in instruction.relocations):
                    assert instruction.text.endswith(" " + listed.relocations[0][1])
    assert compared > 250


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        (0xE8410018, "ld r2,24(r1)"),
        (0xF8410018, "std r2,24(r1)"),
        (0x60000000, "nop"),
        (0x4DEF7B82, "cror 15,15,15"),
        (0x4FFFFB82, "cror 31,31,31"),
        (0xF821FFD1, "stdu r1,-48(r1)"),
        (0x7C0802A6, "mflr r0"),
        (0x4E800020, "blr"),
        (0x00000000, ".long 0x00000000"),
        (0x00000001, ".long 0x00000001"),
        (0x48000009, "bl 1008"),
        (0x4BFFFFF8, "b ff8"),
        (0x41820010, "beq 1010"),
        (0x409EFFF0, "bne cr7,ff0"),
        (0x4082FFFC, "bne ffc"),
        (0x40820000, "bne 1000"),
        (0x44000002, "sc"),
        (0x44000001, "scv 0"),
        (0x44000FE1, "scv 127"),
        (0x44010001, ".long 0x44010001"),
    ],
)
def test_text_of_single_words(word: int, shown: str) -> None:
    assert joined(text_of(word, 0x1000, (), lambda at: f"{at:x}")) == shown


@pytest.mark.parametrize(
    ("word", "reference", "shown"),
    [
        (0x48000001, NamedRelocation(10, "f", 0), "bl f"),
        (0x48000001, NamedRelocation(10, ".text", 0x40), "bl .text+0x40"),
        (0x48000000, NamedRelocation(116, "f", 0), "b f"),
        (0x41820000, NamedRelocation(11, "f", -4), "beq f-0x4"),
        (0x409E0000, NamedRelocation(11, "f", 0), "bne cr7,f"),
        (0x3D220000, NamedRelocation(50, "x", 8), "addis r9,r2,x+0x8@toc@ha"),
        (0xE9290000, NamedRelocation(64, "x", 8), "ld r9,x+0x8@toc@l(r9)"),
        (0x3C4C0000, NamedRelocation(252, ".TOC.", 0), "addis r2,r12,.TOC.@ha"),
        (0x38420000, NamedRelocation(250, ".TOC.", 4), "addi r2,r2,.TOC.+0x4@l"),
        (0x3C600000, NamedRelocation(6, "x", 0), "lis r3,x@ha"),
        (0x38600000, NamedRelocation(4, "x", 0), "li r3,x@l"),
        (0x3D220000, NamedRelocation(90, "t", 0), "addis r9,r2,t@got@tprel@ha"),
    ],
)
def test_symbols_take_the_place_of_relocated_operands(
    word: int, reference: NamedRelocation, shown: str
) -> None:
    segments = text_of(word, 0, (reference,), lambda at: f"{at:x}")
    assert joined(segments) == shown
    assert shows(segments, reference)
    assert [s.text for s in segments if s.role is Role.SYMBOL] == [
        reference.target + SUFFIXES.get(reference.type, "")
    ]


def test_a_relocation_that_only_marks_is_not_in_the_text() -> None:
    reference = NamedRelocation(109, ".text", 0x40)
    segments = text_of(0x60000000, 0, (reference,), hex)
    assert joined(segments) == "nop"
    assert not shows(segments, reference)


def test_prefixed_instructions_are_not_taken_for_two_others() -> None:
    words = [0x04100000, 0xE4600000, 0x60000000, 0x06000000, 0x38600005]
    flags = list(suffixes(words))
    assert flags == [False, True, False, False, True]
    shown = [joined(text_of(w, 0, (), hex, suffix=s)) for w, s in zip(words, flags, strict=True)]
    assert shown == [
        ".long 0x04100000",
        ".long 0xe4600000",
        "nop",
        ".long 0x06000000",
        ".long 0x38600005",
    ]


def test_relocation_names_are_those_of_readelf(tmp_path: Path) -> None:
    relocations = [elfwriter.Relocation(offset=4 * n, type=n) for n in range(256)]
    section = elfwriter.Section(
        name=".data", flags=3, data=bytes(1024), addralign=4, relocations=relocations
    )
    path = tmp_path / "all.o"
    path.write_bytes(elfwriter.build(elfwriter.Elf(sections=[section])))
    listed = {
        int(m[1], 16) // 4: m[2]
        for m in re.finditer(
            r"^([0-9a-f]{16})\s+[0-9a-f]{16} (R_PPC64_\w+|unrecognized)",
            run(PREFIX + "readelf", "-rW", path),
            re.M,
        )
    }
    assert len(listed) == 256
    ours = {n: "R_PPC64_" + NAMES[n] if n in NAMES else "unrecognized" for n in range(256)}
    assert (ours.pop(37), listed.pop(37)) == ("R_PPC64_ADDR30", "R_PPC64_REL30")  # the psABI's name
    assert {n: (ours[n], listed[n]) for n in listed if ours[n] != listed[n]} == {}
    assert Counter(NAMES.values()).most_common(1)[0][1] == 1
    assert name(200) == "type 200"
