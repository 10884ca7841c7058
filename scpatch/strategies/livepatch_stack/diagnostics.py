"""The diagnostics of the strategy `livepatch-stack`."""

from scpatch.diagnostics import Diagnostic

DIAGNOSTICS = {
    "SCP230": Diagnostic(
        "a trampoline without a cross-TOC path",
        "livepatch-stack patches the path that a trampoline takes to a target out of reach "
        "of a branch: the `bctr` after `mtctr r12`, with the target's global entry in r12. "
        "This trampoline has no such path to patch, or its symbol has no size, so its end "
        "is unknown. After the kernel patches it, calls would lose r2 as before. A trampoline in "
        "pc-relative code stays as it is, and a call of it from code that uses r2 is refused: "
        "its targets need not preserve r2 on any path.",
        "use the default strategy, which needs nothing from the trampolines",
    ),
    "SCP231": Diagnostic(
        "a trampoline with an unrecognised exit",
        "livepatch-stack replaces a `bctr` that follows `mtctr r12`, and saves the r2 and "
        "LR that the trampoline was entered with. In this trampoline another branch goes "
        "through CTR, or an earlier instruction may write r1, r2 or LR.",
        "use the default strategy, or write the trampoline as docs/reference/strategies.md shows",
    ),
    "SCP232": Diagnostic(
        "rewritten for another kernel",
        "The code that saves r2 on the livepatch stack is already there, but with other "
        "offsets than in the kernel's asm-offsets.h. It would write to the wrong place.",
        "start from the object that the compiler or `ld -r` wrote",
    ),
    "SCP233": Diagnostic(
        "not a valid offset",
        "An offset in the PACA is a multiple of 8 below 32 KiB; an offset in the "
        "thread_info is a multiple of 8 below 1024. Another value cannot come from the "
        "asm-offsets.h of a ppc64 kernel.",
        "give --asm-offsets FILE, the include/generated/asm-offsets.h of the same build",
    ),
}
