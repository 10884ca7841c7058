"""`scpatch kbuild`: the options of its commands, and the text that explains the build step."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HELP = """Make scpatch a step of a Linux kernel's build.

Nothing in the tree changes when scpatch is part of the linker's name:

\b
  make LD="scpatch-ld powerpc64le-linux-gnu-ld"
  make LLVM=1 LD="scpatch-ld ld.lld"

vmlinux is then linked from rewritten copies of the objects and archives that have call sites (in
.tmp_vmlinux.scpatch, made once for all passes), and each module is rewritten before it appears
under its name. Every other call of the linker goes through as it is. make -j, O=, M=, V=1, -s,
incremental builds and make clean work as ever.

Options stand in front of the linker, or in the variable SCPATCH_FLAGS:

\b
  --warn-only         leave refused call sites as they are; without it they
                      end the build (for bring-up only: such calls lose r2)
  --trampoline=GLOB   names of trampolines, instead of __SCT__*; repeatable
  --no-nop=thunk      give calls without a nop a thunk of their own
  --hoist=never       do not save r2 in nops behind earlier calls
  --undefined=auto|rewrite|skip
                      as for scpatch rewrite
  --strategy=NAME     how r2 is kept in vmlinux; scpatch explain lists the ways
  --module-strategy=NAME
                      in modules, where that is not to be the one that goes with
                      the image's: the same, but callsite with localentry and paca
  --asm-offsets=FILE  the kernel's, where it is not include/generated/asm-offsets.h
  --unmark            with callsite: take the mark of localentry off trampolines
  --emit-sites        list the call sites in .static_call_sites, for a kernel
                      with HAVE_STATIC_CALL_INLINE
  --prelink           link vmlinux from one rewritten object, not from an archive
\b
  make LD="scpatch-ld --warn-only powerpc64le-linux-gnu-ld"

When an option or the version of scpatch changed, the next make links again.

`scpatch kbuild edit` writes the step into a tree that you own instead."""

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help=HELP,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def kbuild() -> None:
    """Holds the commands; the help is HELP."""


@app.command()
def edit(
    tree: Annotated[Path, typer.Argument(metavar="TREE", help="The kernel's source tree.")],
    undo: Annotated[bool, typer.Option("--undo", help="Take the step out again.")] = False,
) -> None:
    """Write the build step into a kernel's source tree.

    Adds scripts/Makefile.scpatch and a few marked lines to the files that link vmlinux and modules.
    A plain `make` then runs `$(SCPATCH)`; `make SCPATCH=` builds without it. A second run changes
    nothing.
    """
    from scpatch.kbuild.edit import edit as write

    for name in write(tree, undo=undo):
        typer.echo(name)


@app.command(hidden=True, context_settings={"ignore_unknown_options": True})
def step(
    words: Annotated[
        list[str], typer.Argument(metavar="[OPTION...] MODULE | ARCHIVE COPY", show_default=False)
    ],
) -> None:
    """What the rules in the tree run, with the options of scpatch-ld.

    Rewrites a module where it lies, or makes the copy of an archive that vmlinux is linked from.
    """
    from scpatch.kbuild.step import run

    raise typer.Exit(run(words))
