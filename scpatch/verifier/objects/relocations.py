"""The relocation types that the proof knows by name (ELFv2 ABI, table of relocation types)."""

from __future__ import annotations

NONE, ADDR16_LO, ADDR16_HA, REL32, ADDR64, REL64 = 0, 4, 6, 26, 38, 44
ADDR24, ADDR14, ADDR14_T, ADDR14_N = 2, 7, 8, 9
REL24, REL14, REL14_T, REL14_N = 10, 11, 12, 13
REL16_LO, REL16_HA = 250, 252
TOCSAVE, REL24_NOTOC, REL24_P9NOTOC = 109, 116, 124
PLTCALL, PLTCALL_NOTOC, PCREL_OPT = 120, 122, 123

BRANCHES = frozenset(
    (
        *(ADDR24, ADDR14, ADDR14_T, ADDR14_N, REL24, REL14, REL14_T, REL14_N),
        *(REL24_NOTOC, REL24_P9NOTOC, PLTCALL, PLTCALL_NOTOC),
    )
)
"""Those that only a branch instruction has."""
NEED_NO_TOC = frozenset((REL24_NOTOC, REL24_P9NOTOC, PLTCALL_NOTOC))
"""Those of calls whose code does not use r2."""
MARKED_CALLS = (107, 108, PLTCALL, PLTCALL_NOTOC)
"""R_PPC64_TLSGD and R_PPC64_TLSLD on the call of __tls_get_addr, and inline PLT calls: a linker
replaces the word after the call as well."""
MARKERS = (67, TOCSAVE, 118, 119, 121, PCREL_OPT, *MARKED_CALLS)
"""They fill in no field: TLS, TOCSAVE, ENTRY, PLTSEQ, PLTSEQ_NOTOC, PCREL_OPT and the above."""
DOUBLEWORDS = (ADDR64, 43, REL64, 51)
"""ADDR64, UADDR64, REL64, TOC: data of two words."""
DISTANCES = {REL32: 4, REL64: 8}
"""Distances in data: the bytes of a field."""
PARTS_OF_DISTANCES = frozenset((*range(240, 247), *range(249, 253)))
"""The R_PPC64_REL16 family: instructions add up a distance from an address before them."""
FROM_TOC = frozenset((*range(14, 18), *range(47, 51), 59, 60, 63, 64, *range(79, 95)))
"""Offsets from r2."""
