"""What `scpatch explain callsite` prints."""

TEXT = """\
Each `bl __SCT__x; nop` becomes a call that saves r2 in the TOC save doubleword, 24(r1), and
`ld r2,24(r1)` in place of the nop. The save is two instructions in a stub at the end of the
caller's section:

    r2save.__SCT__x.DIGEST:
            std     r2,24(r1)
            b       __SCT__x

Where r2 lies there already on every path to the call, in the frame that is live, the stub is not
needed and only the nop changes. So too where it can be stored by making the nop behind an earlier
call of the function `std r2,24(r1)` (`--hoist`).

--unmark takes away marks that another strategy has made, or that a kernel has in its source:
trampolines with st_other bits 5-7 = 1 become functions with one entry point. No linker makes stubs
for their calls any more, and the calls are rewritten. All objects of one link must be treated
alike, before that link.

It can be done to any object at build time and asks nothing of the trampolines, the kernel or the
module loader. It costs a store and a branch a call (nothing but a load where r2 was saved), also
where the target shares the caller's TOC. It is option 1 of the thread "Out-of-line static calls
for powerpc64 ELF V2" (linuxppc-dev, September 2022)."""
