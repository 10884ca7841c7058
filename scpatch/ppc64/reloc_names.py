"""Names of the relocation types, without their common R_PPC64_ (psABI section 3.5.3).

`R_PPC64_TOC16_HA` reads `@toc@ha` in assembly. The reports show the symbol with that suffix instead
of a relocated immediate.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

_RANGES: Final = (
    (0, "NONE ADDR32 ADDR24 ADDR16 ADDR16_LO ADDR16_HI ADDR16_HA"),
    (7, "ADDR14 ADDR14_BRTAKEN ADDR14_BRNTAKEN"),
    (10, "REL24 REL14 REL14_BRTAKEN REL14_BRNTAKEN GOT16 GOT16_LO GOT16_HI GOT16_HA"),
    (19, "COPY GLOB_DAT JMP_SLOT RELATIVE"),
    (24, "UADDR32 UADDR16 REL32 PLT32 PLTREL32 PLT16_LO PLT16_HI PLT16_HA"),
    (33, "SECTOFF SECTOFF_LO SECTOFF_HI SECTOFF_HA"),
    (37, "ADDR30 ADDR64 ADDR16_HIGHER ADDR16_HIGHERA ADDR16_HIGHEST ADDR16_HIGHESTA"),
    (43, "UADDR64 REL64 PLT64 PLTREL64 TOC16 TOC16_LO TOC16_HI TOC16_HA TOC"),
    (52, "PLTGOT16 PLTGOT16_LO PLTGOT16_HI PLTGOT16_HA ADDR16_DS ADDR16_LO_DS"),
    (58, "GOT16_DS GOT16_LO_DS PLT16_LO_DS SECTOFF_DS SECTOFF_LO_DS"),
    (63, "TOC16_DS TOC16_LO_DS PLTGOT16_DS PLTGOT16_LO_DS TLS DTPMOD64"),
    (69, "TPREL16 TPREL16_LO TPREL16_HI TPREL16_HA TPREL64"),
    (74, "DTPREL16 DTPREL16_LO DTPREL16_HI DTPREL16_HA DTPREL64"),
    (79, "GOT_TLSGD16 GOT_TLSGD16_LO GOT_TLSGD16_HI GOT_TLSGD16_HA"),
    (83, "GOT_TLSLD16 GOT_TLSLD16_LO GOT_TLSLD16_HI GOT_TLSLD16_HA"),
    (87, "GOT_TPREL16_DS GOT_TPREL16_LO_DS GOT_TPREL16_HI GOT_TPREL16_HA"),
    (91, "GOT_DTPREL16_DS GOT_DTPREL16_LO_DS GOT_DTPREL16_HI GOT_DTPREL16_HA"),
    (95, "TPREL16_DS TPREL16_LO_DS TPREL16_HIGHER TPREL16_HIGHERA TPREL16_HIGHEST"),
    (100, "TPREL16_HIGHESTA DTPREL16_DS DTPREL16_LO_DS DTPREL16_HIGHER DTPREL16_HIGHERA"),
    (105, "DTPREL16_HIGHEST DTPREL16_HIGHESTA TLSGD TLSLD TOCSAVE ADDR16_HIGH ADDR16_HIGHA"),
    (112, "TPREL16_HIGH TPREL16_HIGHA DTPREL16_HIGH DTPREL16_HIGHA REL24_NOTOC ADDR64_LOCAL"),
    (118, "ENTRY PLTSEQ PLTCALL PLTSEQ_NOTOC PLTCALL_NOTOC PCREL_OPT REL24_P9NOTOC"),
    (128, "D34 D34_LO D34_HI30 D34_HA30 PCREL34 GOT_PCREL34 PLT_PCREL34 PLT_PCREL34_NOTOC"),
    (136, "ADDR16_HIGHER34 ADDR16_HIGHERA34 ADDR16_HIGHEST34 ADDR16_HIGHESTA34"),
    (140, "REL16_HIGHER34 REL16_HIGHERA34 REL16_HIGHEST34 REL16_HIGHESTA34 D28 PCREL28"),
    (146, "TPREL34 DTPREL34 GOT_TLSGD_PCREL34 GOT_TLSLD_PCREL34 GOT_TPREL_PCREL34"),
    (151, "GOT_DTPREL_PCREL34"),
    (240, "REL16_HIGH REL16_HIGHA REL16_HIGHER REL16_HIGHERA REL16_HIGHEST REL16_HIGHESTA"),
    (246, "REL16DX_HA JMP_IREL IRELATIVE REL16 REL16_LO REL16_HI REL16_HA"),
    (253, "GNU_VTINHERIT GNU_VTENTRY"),
)


NAMES: Final[Mapping[int, str]] = MappingProxyType(
    {kind: name for first, names in _RANGES for kind, name in enumerate(names.split(), first)}
)

_IMMEDIATE: Final = re.compile(
    r"(?:ADDR16|REL16|(SECTOFF|(?:TOC|GOT|PLT|TPREL|DTPREL|GOT_[A-Z]+)16))"
    r"(?:_(LO|HI|HA|HIGHA?|HIGHERA?|HIGHESTA?))?(?:_DS)?"
)
"""What the value is relative to, and which part of it."""


def name(kind: int) -> str:
    """`REL24` for 10; `type 200` for a number that the psABI does not name."""
    return NAMES.get(kind, f"type {kind}")


def _suffixes() -> Iterator[tuple[int, str]]:
    short = {"LO": "l", "HI": "h"}
    for kind, full in NAMES.items():
        if match := _IMMEDIATE.fullmatch(full):
            base, part = match.groups(default="")
            words = [*base.removesuffix("16").split("_"), short.get(part, part)]
            yield kind, "".join(f"@{word.lower()}" for word in words if word)


SUFFIXES: Final[Mapping[int, str]] = MappingProxyType(dict(_suffixes()))
"""Type -> the assembler's suffix, for relocations of a 16-bit immediate."""
