"""The diagnostics of the strategy `localentry`."""

from scpatch.diagnostics import Diagnostic

DIAGNOSTICS = {
    "SCP225": Diagnostic(
        "a module cannot use localentry",
        "`localentry` leaves it to the linker to save and restore r2. A .ko is already "
        "linked, and the module loader ignores st_other = 1 (Linux 6.1), so marks on its "
        "trampolines have no effect. The image may still be marked: the loader makes stubs "
        "for a module's calls of the image's trampolines.",
        "rewrite the module with the default strategy, and only the image with localentry",
    ),
    "SCP227": Diagnostic(
        "unrecognised prologue",
        "A marked trampoline is entered with anything in r12, so its prologue must not "
        "compute r2 from r12. scpatch replaces `addis r2,r12; addi r2,r2` with "
        "R_PPC64_REL16_HA and REL16_LO of .TOC., and `ld r2,d(r12); add r2,r2,r12`. It "
        "leaves alone `lis r2; addi r2,r2`, and trampolines that do not use r2. This "
        "trampoline starts with something else.",
        "write the trampoline with one of these prologues, or use another strategy",
    ),
    "SCP228": Diagnostic(
        "no replacement for the prologue",
        "A marked trampoline loads r2 from the PACA at an offset that is a multiple of 4 "
        "below 32768. Without that offset it branches to code at the end of its section "
        "that computes r2 from its own address and the symbol .TOC.; a branch reaches 32 "
        "MiB.",
        "for a kernel image give --asm-offsets or --paca-toc-offset, else keep sections smaller",
    ),
    "SCP229": Diagnostic(
        "a call of a trampoline that stays unmarked",
        "A linker cannot fix another call of the same trampoline, so scpatch does not mark "
        "the trampoline. For that other call the linker would end the link, or save r2 in "
        "the wrong frame. Unmarked, all calls of the trampoline lose r2, also those from "
        "other objects.",
        "look at the other refused call first",
    ),
}
