"""What `scpatch explain livepatch-stack` prints."""

TEXT = """\
The call sites stay as they are. A trampoline that cannot branch straight to its target ends in
`mtctr r12; bctr`. scpatch replaces that `bctr` by a branch to code at the end of the trampoline's
section:

    r2lps.DIGEST:
            save r2, LR and the end of stack marker above thread_info->livepatch_sp
            bctrl
            check the marker, restore LR and r2
            blr

The livepatch stack grows up from the base of the kernel stack, so r1 and the arguments on the stack
stay where they are. If a target has the trampoline's TOC, the trampoline branches to it as before,
at no cost. A call of any form is right: it needs no nop, and may be a sibling call.

It needs a kernel with CONFIG_LIVEPATCH and the offsets of its asm-offsets.h, and works for the
image and for modules. In a backtrace from a target with another TOC, the code appears in place of
the caller. It is option 2 of the thread "Out-of-line static calls for powerpc64 ELF V2"
(linuxppc-dev, September 2022)."""
