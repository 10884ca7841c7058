"""The compilers and linkers of the kernels: gcc with binutils, and clang with LLVM's tools."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from functools import cache

from tests.kernel.linux import Linux
from tests.kernel.source import pristine_tree
from tests.kernel.store import KernelError, folder
from tests.kernel.variants import Variant
from tests.tools import LLD, run

CCACHE_SIZE = "4G"


def words(linux: Linux, variant: Variant) -> list[str]:
    """The variables for make that name the compiler, and for clang all other tools."""
    if variant.clang:
        llvm = suffix(linux)
        return [f"LLVM={llvm or 1}", f"CC=ccache clang{llvm}"]
    return [f"CC=ccache {variant.cross}gcc"]


def environment() -> dict[str, str]:
    """For ccache. Objects do not name the folder that they were compiled in, so trees share them;
    a folder of the user's is taken as it is."""
    own = {"CCACHE_DIR": str(folder() / "ccache"), "CCACHE_MAXSIZE": CCACHE_SIZE}
    return {"CCACHE_NOHASHDIR": "1", **({} if "CCACHE_DIR" in os.environ else own)}


def linker(linux: Linux, variant: Variant) -> str:
    return LLD + suffix(linux) if variant.llvm else variant.linker


def version(linux: Linux, variant: Variant) -> str:
    """What the tools say of themselves, the first line of each."""
    compiler = f"clang{suffix(linux)}" if variant.clang else f"{variant.cross}gcc"
    # The last word of a linker that scpatch-ld is to call.
    tools = (compiler, linker(linux, variant).split()[-1])
    return "\n".join(run(tool, "--version").stdout.splitlines()[0] for tool in tools)


def programs(linux: Linux, variant: Variant) -> tuple[str, ...]:
    """What setup.sh is to install for a variant, beside what all need."""
    return (f"clang{suffix(linux)}",) if variant.llvm else ()


def suffix(linux: Linux) -> str:
    """What the names of LLVM's tools end in: nothing if this machine's clang is new enough for the
    kernel, else `-19` for that of the package clang-19.

    Raises KernelError where there is none.
    """
    if (found := _suffix(minimum(linux))) is None:
        raise KernelError(no_llvm(linux))
    return found


def no_llvm(linux: Linux) -> str:
    """Why LLVM's tools cannot build the kernel on this machine; empty if they can."""
    if _suffix(minimum(linux)) is not None:
        return ""
    needed = ".".join(map(str, minimum(linux)))
    return f"needs clang and lld {needed}, and no package clang-N of this machine is so new"


@cache
def minimum(linux: Linux) -> tuple[int, ...]:
    """The oldest clang and lld that the kernel takes, by its own word."""
    script = pristine_tree(linux) / "scripts" / "min-tool-version.sh"
    said = run("env", "SRCARCH=powerpc", "ARCH=powerpc", "sh", script, "llvm").stdout
    return tuple(map(int, said.strip().split(".")))


@cache
def _suffix(needed: tuple[int, ...]) -> str | None:
    if (there := _of_program("clang")) and there >= needed:
        return ""
    for number in sorted(_packaged()):
        there = _of_program(f"clang-{number}") or (number, 99)
        if there >= needed:
            return f"-{number}"
    return None


def _of_program(name: str) -> tuple[int, ...]:
    """The version of a clang; empty if it is not there."""
    if shutil.which(name) is None:
        return ()
    match = re.search(r"clang version (\d+)\.(\d+)\.(\d+)", run(name, "--version").stdout)
    if match is None:
        raise KernelError(f"{name} --version says nothing of its version")
    return tuple(map(int, match.groups()))


def _packaged() -> Iterator[int]:
    """The numbers of the clangs that this machine has, or could install."""
    listed = run("apt-cache", "search", "--names-only", "^clang-[0-9]+$").stdout
    for line in listed.splitlines():
        yield int(line.split(" ")[0].removeprefix("clang-"))
