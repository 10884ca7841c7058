"""The step of a kernel build: `make LD="scpatch-ld LINKER"`.

Kbuild links with `$(LD)`, so a linker that does a little more needs no change in the kernel's tree.
`scpatch-ld`, a shell script, hands every call to the real linker, but for two kinds that it knows
by their linker scripts; those come to `scpatch.kbuild.__main__`:

- A link of vmlinux (`arch/powerpc/kernel/vmlinux.lds`). On powerpc the image is linked from the
  thin archive vmlinux.a, once for each pass of kallsyms and once for good. `copies` makes rewritten
  copies of the inputs that have call sites, and the linker gets those instead. The passes must see
  the same code, so the copies are kept; they serve until an input, an option or scpatch changes.
- The `ld -r` of a module (`scripts/module.lds`, output *.ko). The linker writes to a temporary
  name, and the rewritten result appears under the real one.

Compiled objects are never changed: another build of the same tree, or a compiler cache, sees them
as the compiler wrote them.

`edit` is the other way, for those who own their tree: the same step written into its Makefiles.
"""
