"""Relocation types of the ELFv2 ABI that scpatch distinguishes (psABI section 3.5.3)."""

from typing import Final

R_PPC64_NONE: Final = 0
R_PPC64_ADDR24: Final = 2
R_PPC64_ADDR16_LO: Final = 4
R_PPC64_ADDR16_HA: Final = 6
R_PPC64_REL24: Final = 10
R_PPC64_RELATIVE: Final = 22
R_PPC64_REL32: Final = 26
R_PPC64_ADDR64: Final = 38
R_PPC64_REL64: Final = 44
R_PPC64_TLS: Final = 67
R_PPC64_TLSGD: Final = 107
R_PPC64_TLSLD: Final = 108
R_PPC64_TOCSAVE: Final = 109
R_PPC64_REL24_NOTOC: Final = 116
R_PPC64_ENTRY: Final = 118
R_PPC64_PLTSEQ: Final = 119
R_PPC64_PLTCALL: Final = 120
R_PPC64_PLTSEQ_NOTOC: Final = 121
R_PPC64_PLTCALL_NOTOC: Final = 122
R_PPC64_PCREL_OPT: Final = 123
R_PPC64_REL24_P9NOTOC: Final = 124
R_PPC64_REL16_LO: Final = 250
R_PPC64_REL16_HA: Final = 252

NOTOC: Final = frozenset({R_PPC64_REL24_NOTOC, R_PPC64_PLTCALL_NOTOC, R_PPC64_REL24_P9NOTOC})
"""Calls from code that does not use r2."""

CONDITIONAL: Final = frozenset({*range(7, 10), *range(11, 14)})
"""The ADDR14 and REL14 families: targets of conditional branches."""

BRANCHES: Final = frozenset({R_PPC64_REL24, R_PPC64_ADDR24, R_PPC64_PLTCALL}) | NOTOC | CONDITIONAL
"""Every relocation of a branch instruction. PLTCALL marks the `bctrl` of an inline PLT call, which
the linker turns into a `bl` if the callee is in reach."""

PLT_CALLS: Final = frozenset({R_PPC64_PLTCALL, R_PPC64_PLTCALL_NOTOC})
"""Mark the `bctrl` of an inline PLT call. If the callee has the same TOC, a linker turns it into a
`bl` and the next word into a nop."""

TLS_CALLS: Final = frozenset({R_PPC64_TLSGD, R_PPC64_TLSLD})
"""Mark the call of __tls_get_addr, which has a relocation of its own. If the offset from the thread
pointer is known, a linker replaces the call and the next word."""

MARKERS: Final = frozenset(
    {
        *(R_PPC64_TLS, R_PPC64_TOCSAVE, R_PPC64_ENTRY, R_PPC64_PCREL_OPT),
        *(R_PPC64_PLTSEQ, R_PPC64_PLTSEQ_NOTOC),
    }
    | PLT_CALLS
    | TLS_CALLS
)
"""Tell a linker that it may replace the instruction, often by a nop. They fill in no field.
GNU ld: ppc64_elf_relocate_section, ppc64_elf_inline_plt, ppc64_elf_tls_optimize."""

PC_RELATIVE_DATA: Final = {R_PPC64_REL32: 4, R_PPC64_REL64: 8}
"""Distances in data -> their bytes. In a jump table they count from the start of the table."""

PC_RELATIVE_CODE: Final = frozenset({*range(240, 247), *range(249, 253)})
"""The REL16 family: parts of a distance that instructions add to an address. The distance counts
from that address, some instructions earlier."""

PREFIXED_PC_RELATIVE: Final = frozenset({*range(132, 136), 145, *range(148, 152)})
"""The PCREL34 and PCREL28 families: distances in Power10's prefixed instructions."""

TOC_RELATIVE: Final = frozenset({*range(14, 18), *range(47, 51), 59, 60, 63, 64, *range(79, 95)})
"""Offsets from r2: the GOT16, TOC16 and GOT_TLS... families."""
