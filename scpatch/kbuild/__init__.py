"""The step of a kernel build: `make LD="scpatch-ld LINKER"`.

Kbuild links with `$(LD)`, so the kernel's tree need not change. `scpatch-ld`, a shell script,
passes every call to the real linker except two kinds, which `arguments` recognises. Those it passes
to `scpatch.kbuild.__main__`:

- A link of vmlinux (`arch/powerpc/kernel/vmlinux.lds`). On powerpc the image is linked from the
  thin archive vmlinux.a: for each pass of kallsyms, and finally. `copies` makes rewritten copies of
  the inputs that have call sites, and the linker gets those instead. All passes must see the same
  code, so the copies serve until an input, an option or scpatch changes.
- The `ld -r` of a module (output *.ko, and other signs). The linker writes to a temporary
  name, and the rewritten result appears under the real name.

When a make starts, `start` tells wrong options, and `commands` sees to it that make compares
SCPATCH_FLAGS with those of the last links.

Compiled objects never change: another build of the same tree, or a compiler cache, sees them as the
compiler wrote them.

`edit` is for those who own their tree: it writes the same step into the Makefiles.
"""
