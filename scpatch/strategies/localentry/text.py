"""What `scpatch explain localentry` prints."""

TEXT = """\
Each trampoline that the object defines is marked as a function that does not preserve r2 (st_other
bits 5-7 = 1, the assembler's `.localentry NAME,1`). GNU ld and lld then send every call of it
through a stub `std r2,24(r1); b __SCT__x`, also calls from other objects, and turn the nop after
the call into `ld r2,24(r1)`. The call sites stay as they are, with two exceptions. A nop becomes
the one that lld knows. A relocation that names a section names the trampoline instead, because no
linker sees the mark otherwise.

A marked trampoline is entered with the caller's r2 and anything in r12, so scpatch replaces a
prologue that computes r2 from r12. With --asm-offsets or --paca-toc-offset, for a kernel image, it
loads r2 from the PACA: `ld r2,PACATOC(r13)`. Without either it branches to code at the end of the
section that computes r2 from its own address. Do not give an offset for code that runs with
another PACA. A .ko is refused: no linker follows, and the module loader of Linux 6.1 ignores the
mark. Rewrite modules with the default strategy.

The linkers silently leave some calls without a stub or a restore. scpatch refuses those, and
`scpatch verify IMAGE` finds them in the linked image. It is option 3 of the thread "Out-of-line
static calls for powerpc64 ELF V2" (linuxppc-dev, September 2022), and what its version 4 did."""
