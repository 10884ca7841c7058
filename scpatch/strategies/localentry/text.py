"""What `scpatch explain localentry` prints."""

TEXT = """\
Each trampoline that the object defines is marked as a function that does not preserve r2 (st_other
bits 5-7 = 1, the assembler's `.localentry NAME,1`). GNU ld and lld then send every call of it
through a stub `std r2,24(r1); b __SCT__x`, also those of other objects, and make `ld r2,24(r1)` of
the nop behind it. The call sites stay as they are, but for the nop, which becomes the one that lld
knows, and relocations by section, in which no linker sees the mark.

Control comes to a marked trampoline with the caller's r2 and anything in r12. A prologue that
computes r2 from r12 is replaced in place: with --asm-offsets or --paca-toc-offset, for a kernel
image, by a load from the PACA, `ld r2,PACATOC(r13)`; without either by a branch to code at the end
of the section, which computes r2 from its own address. Anything that would run with another unit's
PACA must not be given an offset. A .ko is refused: no linker follows, and the module loader of
Linux 6.1 ignores the mark. Rewrite those with the
default strategy.

The linkers leave some calls without stub or restore, silently; they are refused here, and
`scpatch verify IMAGE` finds them in what was linked. It is option 3 of the thread "Out-of-line
static calls for powerpc64 ELF V2" (linuxppc-dev, September 2022), and what its version 4 did."""
