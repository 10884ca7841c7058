"""What `scpatch explain paca` prints."""

TEXT = """\
Each `bl __SCT__x; nop` becomes

            bl      __SCT__x
            ld      r2,PACATOC(r13)

and nothing else changes: the kernel keeps its TOC pointer in each processor's PACA, to which r13
points. No code is added, so that it can also be done in place to a linked vmlinux, whose call sites
are found by decoding its branches.

PACATOC depends on the kernel's configuration. It is read from include/generated/asm-offsets.h of
the same build (--asm-offsets FILE), or given as a number (--paca-toc-offset N).

It is right in the kernel image only. In a module it would load the kernel's TOC pointer instead of
the module's, so that a .ko is refused; modules take the default strategy. Of an object that is not
linked yet nobody can say where it will end up: that it goes into the image is for the user to know.
It is option 4 of the thread "Out-of-line static calls for powerpc64 ELF V2" (linuxppc-dev,
September 2022), where Christophe Leroy named it."""
