"""The commands of `scpatch`: their options and help here, what each does in a module of its name.

Such a module has `run(values)`, which returns the exit code.
"""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

from scpatch import options as o
from scpatch.options import Parameter


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


class Command(NamedTuple):
    text: str
    """The help. The first paragraph goes into the list of commands."""
    parameters: tuple[Parameter, ...]
    hidden: bool = False
    """Not for users: left out of lists, and takes options as they come."""
    reads_only: bool = False
    """Writes nothing: its exit code for an error is 2, as of `cmp`; 1 is a finding."""


TEXT: Final = "Make static calls preserve r2 in ppc64 ELFv2 objects, and prove it."
EXIT_CODES: Final = "Exit code 0 means done; `scpatch COMMAND --help` has the others."

_FILES = o.argument(
    "FILE...",
    "Objects (.o, .ko) and archives (.a), or folders of them; @LIST names a file of arguments.",
    repeatable=True,
    required=False,
)
_PAIRED = (
    o.FILES_FROM._replace(
        help="Of two folders, take only the files and folders that FILE lists by their places in "
        "them, one a line; - is stdin; repeatable."
    ),
    *(o.NULL, o.JOBS, o.DASK),
)
_SITES = (o.TRAMPOLINES, o.UNDEFINED, o.NO_NOP, o.HOIST)
_OFFSETS = (o.ASM_OFFSETS, o.PACA_TOC_OFFSET)
_IMAGE = Parameter(
    "image", "The files will be linked into vmlinux, not into a module.", group=o.Group.STRATEGY
)
_CROSS_COMPILE = Parameter(
    "cross_compile",
    "Prefix of the binutils, such as powerpc64le-linux-gnu-.",
    str,
    "PREFIX",
    shown_default="CROSS_COMPILE in the environment, else a usual one",
    group=o.Group.TOOLS,
)
_AR = Parameter("ar", "The `ar` that opens archives.", str, "PROGRAM", group=o.Group.TOOLS)
_TOOLCHAIN = (
    _CROSS_COMPILE,
    Parameter("ld", "GNU ld for the files' byte order.", str, "PROGRAM", group=o.Group.TOOLS),
    _AR,
    Parameter(
        "qemu",
        "QEMU's emulator of programs of the files' byte order.",
        str,
        "PROGRAM",
        shown_default="qemu-ppc64le or qemu-ppc64; none on such a machine",
        group=o.Group.TOOLS,
    ),
)


def _reasons() -> list[str]:
    from scpatch.verifier.reasons import every_reason

    return [str(reason) for reason in every_reason()]


COMMANDS: Final[Mapping[str, Command]] = {
    "scan": Command(
        "List trampolines and call sites, and what each site needs.\n\n"
        "Exit codes: 0 done, 1 with --check: a call has to be rewritten or would be refused, "
        "2 an error.",
        (
            _FILES,
            *o.SELECTION,
            *_SITES,
            Parameter(
                "lines", "Look up source lines in DWARF.", default=True, group=o.Group.REPORT
            ),
            Parameter(
                "check",
                "Exit with 1 if a call has to be rewritten, or would be refused.",
                group=o.Group.REPORT,
            ),
            *o.FILTERS,
            o.STATE,
            *o.LOOK,
            o.QUIET,
        ),
        reads_only=True,
    ),
    "rewrite": Command(
        "Rewrite call sites, in place or to OUT.\n\nAll files are written, or none of them.\n\n"
        "Exit codes: 0 done, 1 an error, 2 the command line is wrong, 3 a call site was refused.",
        (
            _FILES,
            *o.SELECTION,
            Parameter(
                "output",
                "Write here, not in place; - is stdout.",
                Path,
                "OUT",
                short="-o",
                group=o.Group.OUTPUT,
            ),
            o.OUTPUT_DIR,
            Parameter(
                "depfile",
                "Write for make or ninja what OUT was made from.",
                Path,
                "FILE",
                group=o.Group.OUTPUT,
            ),
            o.STRATEGY,
            *_SITES,
            *_OFFSETS,
            o.EMIT_SITES,
            o.UNMARK,
            o.STRIP_SIGNATURE,
            Parameter(
                "dry_run",
                "Print what would be done; write nothing.",
                short="-n",
                group=o.Group.OUTPUT,
            ),
            Parameter("diff", "Show the changed code.", group=o.Group.REPORT),
            o.CONTEXT,
            Parameter("backup", "Keep the old file as FILE.orig.", group=o.Group.OUTPUT),
            o.SYNC,
            o.VERIFY,
            Parameter(
                "keep_going",
                "Rewrite the rest if a site or file is refused.",
                short="-k",
                group=o.Group.OUTPUT,
            ),
            Parameter("stats", "Print counts by section and state.", group=o.Group.REPORT),
            *o.FILTERS,
            o.STATE,
            o.FORMAT._replace(help="Also print the result on stdout.", default=None),
            o.COLOR,
            o.WIDE,
            o.PAGER._replace(help=f"With --dry-run: p{o.PAGER.help[1:]}"),
            o.QUIET,
            o.VERBOSE._replace(help="Also print each call site on stderr, and why."),
        ),
    ),
    "diff": Command(
        "Show what differs between two versions of an object.\n\n"
        "It does not matter who changed it.\n\nExit codes: 0 the same, 1 different, 2 an error.",
        (
            o.argument("BEFORE", "The object or archive as it was, or a folder of them."),
            o.argument("AFTER", "What it is now."),
            *_PAIRED,
            o.TRAMPOLINES,
            *o.FILTERS,
            *o.LOOK,
            o.QUIET,
            o.CONTEXT,
            Parameter(
                "stat", "Print one line a function, instead of its code.", group=o.Group.REPORT
            ),
        ),
        reads_only=True,
    ),
    "verify": Command(
        "Prove a rewritten file, and execute it.\n\n"
        "Prove that AFTER is BEFORE with every call site right, and execute both.\n\n"
        "If the last file is a linked IMAGE: prove that every call site in it saves and restores "
        "r2, and that it has as many as the OBJECTs and archives that it was linked from.\n\n"
        "Exit codes: 0 proven, 1 not proven or not shown, 2 an error.",
        (
            o.argument(
                "BEFORE AFTER | [OBJECT]... IMAGE",
                "A file or folder and its rewritten version, or an image after its objects.",
                repeatable=True,
            ),
            _PAIRED[0]._replace(help=f"{_PAIRED[0].help} Before an IMAGE: the OBJECTs."),
            *_PAIRED[1:],
            Parameter("run", "Execute every site under QEMU.", default=True, group=o.Group.TOOLS),
            o.TRAMPOLINES,
            o.HOIST._replace(help="The --hoist value that the file was rewritten with."),
            *_OFFSETS,
            *_TOOLCHAIN,
            *o.FILTERS,
            o.STATE._replace(choices=_reasons),
            *o.LOOK,
            o.QUIET._replace(help="Print only what is wrong, on stderr."),
            o.VERBOSE._replace(help="Also print why each call is right."),
        ),
        reads_only=True,
    ),
    "check": Command(
        "Say whether every static call in objects, modules and images is right.\n\n"
        "This needs no file to compare with, and runs nothing. What the file alone does not show "
        "counts as not shown.\n\n"
        "Exit codes: 0 all calls are right, 1 a call is wrong or not shown, 2 an error.",
        (
            o.argument(
                "FILE...",
                "Objects, modules, archives and linked images, or folders of them; @LIST names a "
                "file of arguments.",
                repeatable=True,
                required=False,
            ),
            *o.SELECTION,
            _IMAGE,
            o.TRAMPOLINES,
            *_OFFSETS,
            _CROSS_COMPILE,
            _AR,
            *o.FILTERS,
            o.STATE._replace(choices=_reasons),
            *o.LOOK,
            o.QUIET._replace(help="Print only what is wrong, on stderr."),
            o.VERBOSE,
        ),
        reads_only=True,
    ),
    "advise": Command(
        "Recommend a strategy.\n\n"
        "Show what each strategy would change in FILE... and cost. Nothing is written.\n\n"
        "Exit codes: 0 done, 2 an error.",
        (
            _FILES,
            *o.SELECTION,
            _IMAGE._replace(group=o.Group.STRATEGY),
            o.TRAMPOLINES,
            o.NO_NOP,
            *_OFFSETS,
            *o.LOOK,
        ),
        reads_only=True,
    ),
    "explain": Command(
        "Print the text behind a diagnostic or a strategy.\n\nWithout TOPIC, list them.",
        (
            o.argument("TOPIC", "A code, such as SCP203, or a strategy.", str, required=False),
            o.PAGER,
        ),
    ),
    "completion": Command(
        "Print the script that completes commands and options.\n\n"
        '\b\nIn ~/.bashrc: eval "$(scpatch completion bash)"',
        (o.argument("SHELL", "bash, zsh or fish.", Shell),),
    ),
}

KBUILD_TEXT: Final = """Make scpatch a step of a Linux kernel's build.

If scpatch is part of the linker's name, nothing in the tree changes:

\b
  make LD='scpatch-ld $(CROSS_COMPILE)ld'
  make LLVM=1 LD="scpatch-ld ld.lld"

vmlinux is then linked from rewritten copies of the objects and archives that have call sites. The
copies are in .tmp_vmlinux.scpatch and serve all passes. Each module is rewritten before it appears
under its name. Every other call of the linker passes through unchanged. make -j, O=, M=, V=1, -s,
incremental builds and make clean work as before.

The options of scpatch-ld go before the linker, or into the variable SCPATCH_FLAGS. If they or the
version of scpatch changed, the next make links again:

\b
  make LD='scpatch-ld --warn-only $(CROSS_COMPILE)ld'

`scpatch kbuild edit` writes the step into a tree that you own instead."""

KBUILD: Final[Mapping[str, Command]] = {
    "edit": Command(
        "Write the build step into a kernel's source tree.\n\n"
        "This adds scripts/Makefile.scpatch and a few marked lines to the files that link vmlinux "
        "and modules. A plain `make` then runs `$(SCPATCH)`; `make SCPATCH=` builds without it. "
        "A second run changes nothing.",
        (
            o.argument("TREE", "The kernel's source tree."),
            Parameter("undo", "Remove the step again."),
        ),
    ),
    "step": Command(
        "What the rules in the tree run.\n\n"
        "Links vmlinux or a module as scpatch-ld does. Without LINKER, checks the options and "
        "prints the version.",
        (o.argument("[OPTION...] [LINKER ARGUMENT...]", "", str, repeatable=True, required=False),),
        hidden=True,
    ),
}
"""The commands of `scpatch kbuild`."""
