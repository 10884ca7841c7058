"""The diagnostics of the strategy `paca`."""

from scpatch.diagnostics import Diagnostic

DIAGNOSTICS = {
    "SCP221": Diagnostic(
        "the offset does not fit an `ld` instruction",
        "`ld` is a DS-form instruction: its offset is a signed 16-bit multiple of 4. "
        "PACATOC is a small multiple of 8 in every kernel.",
        "give --asm-offsets FILE, the include/generated/asm-offsets.h of the same build",
    ),
    "SCP223": Diagnostic(
        "restored from another offset of the PACA",
        "A call site already loads r2 from the PACA, but from another offset than the "
        "given one. One of the two offsets belongs to another kernel.",
        "compare PACATOC in include/generated/asm-offsets.h; start from the unpatched file",
    ),
}
