"""What `scpatch explain paca` prints."""

TEXT = """\
Each `bl __SCT__x; nop` becomes

            bl      __SCT__x
            ld      r2,PACATOC(r13)

and nothing else changes. r13 points to the processor's PACA, and the kernel keeps its TOC pointer
there. scpatch adds no code, so it can also patch a linked vmlinux in place. It finds the call sites
of an image by decoding its branches.

PACATOC depends on the kernel's configuration. Give the include/generated/asm-offsets.h of the same
build (--asm-offsets FILE), or the number (--paca-toc-offset N).

It is right in the kernel image only. In a module it would load the kernel's TOC pointer instead of
the module's, so a .ko is refused; rewrite modules with the default strategy. An object that is not
linked yet does not say where it will end up: you must know that it goes into the image. It is
option 4 of the thread "Out-of-line static calls for powerpc64 ELF V2" (linuxppc-dev, September
2022), where Christophe Leroy named it."""
