"""What `scpatch explain callsite` prints."""

TEXT = """\
Each `bl __SCT__x; nop` becomes a call that saves r2 in the TOC save doubleword, 24(r1), with
`ld r2,24(r1)` in place of the nop. A stub at the end of the caller's section saves r2:

    r2save.__SCT__x.DIGEST:
            std     r2,24(r1)
            b       __SCT__x

If r2 is at 24(r1) already on every path to the call, in the same stack frame, the call needs no
stub and only the nop changes. The same holds if the nop after an earlier call of the function can
become `std r2,24(r1)` (`--hoist`).

--unmark removes marks that another strategy has made, or that the kernel has in its source:
trampolines with st_other bits 5-7 = 1 become functions with one entry point. Then no linker makes
stubs for their calls, and scpatch rewrites the calls. Treat all objects of a link alike, before
that link.

It works on any object at build time, and needs nothing from the trampolines, the kernel or the
module loader. Each call executes an extra store and branch, also if the target has the caller's
TOC. If r2 was saved already, it executes no extra instruction. It is option 1 of the thread
"Out-of-line static calls for powerpc64 ELF V2" (linuxppc-dev, September 2022)."""
