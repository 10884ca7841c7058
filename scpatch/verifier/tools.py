"""Finds the programs that the verifier calls: the binutils for ppc64le, and QEMU."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from scpatch.errors import ScpatchError

PREFIXES: Final = (
    *("powerpc64le-linux-gnu-", "powerpc64le-suse-linux-", "powerpc64le-linux-"),
    *("powerpc64-linux-gnu-", "powerpc64-suse-linux-", "powerpc64-linux-"),
)
"""How cross binutils are called: by Debian and Fedora, SUSE, and kernel.org. Those for powerpc64
take little-endian files too."""
EMULATION: Final = "elf64lppc"
"""What GNU ld calls the format of ppc64le programs."""

_PACKAGES: Final = "GNU binutils for ppc64le (Debian: binutils-powerpc64le-linux-gnu)"


@dataclass(frozen=True, slots=True)
class Toolchain:
    """Which programs to use. What is None is looked for."""

    prefix: str | None = None
    """Of the binutils, `powerpc64le-linux-gnu-`. None: that of CROSS_COMPILE in the environment,
    then those of `PREFIXES`, then none if this machine is a ppc64le."""
    ld: str | None = None
    """GNU ld."""
    ar: str | None = None
    qemu: str | None = None
    """QEMU's emulator of user programs. None: qemu-ppc64le, unless this machine is a ppc64le."""


USUAL: Final = Toolchain()


@dataclass(frozen=True, slots=True)
class Tools:
    """Programs that a run calls, as absolute paths."""

    ld: str
    assembler: str
    emulator: str | None
    """None: run the program directly."""


def find_tools(toolchain: Toolchain = USUAL, advice: str | None = None) -> Tools:
    """The programs for a run. `advice` ends the hint for one that is missing.

    Raises ScpatchError for one that is missing (SCP301), and for a linker that cannot link ppc64le
    programs (SCP303).
    """
    purpose = "to run the call sites"
    advice = ", or leave the run out with --no-run" if advice is None else advice
    ld = find("ld.bfd", "ld", toolchain=toolchain, named=toolchain.ld, purpose=purpose, or_=advice)
    _check_linker(ld)
    assembler = find("as", toolchain=toolchain, purpose=purpose, or_=advice)
    return Tools(ld, assembler, _find_emulator(toolchain, purpose, advice))


def is_native() -> bool:
    """Whether this machine runs ppc64le programs itself."""
    return platform.machine() == "ppc64le"


def find(
    *names: str,
    toolchain: Toolchain,
    purpose: str,
    named: str | None = None,
    any_machine: bool = False,
    or_: str = "",
) -> str:
    """The path of one of the binutils: the first of `names` with the first prefix. `named` is the
    one to use instead. `any_machine` says that this machine's own will do.

    Raises ScpatchError (SCP301) if there is none.
    """
    prefix = toolchain.prefix
    if prefix is None:
        prefix = os.environ.get("CROSS_COMPILE") or None
    prefixes = PREFIXES + ("",) * (any_machine or is_native()) if prefix is None else (prefix,)
    candidates = [named] if named else [start + name for start in prefixes for name in names]
    path = _first(candidates)
    if path is None:
        usual = names[-1] if is_native() else PREFIXES[0] + names[-1]
        wanted = named or (usual if prefix is None else prefix + names[-1])
        package = "GNU binutils (Debian: binutils)" if is_native() else _PACKAGES
        raise ScpatchError(
            "SCP301",
            f"{wanted} is needed {purpose}, and is not installed",
            hint=f"install {package}, or name yours with --cross-compile{or_}",
        )
    return path


def _find_emulator(toolchain: Toolchain, purpose: str, advice: str) -> str | None:
    if is_native() and toolchain.qemu is None:
        return None
    names = [toolchain.qemu] if toolchain.qemu else ["qemu-ppc64le", "qemu-ppc64le-static"]
    path = _first(names)
    if path is None:
        raise ScpatchError(
            "SCP301",
            f"{names[0]} is needed {purpose}, and is not installed",
            hint="install QEMU's user-space emulators (Debian: qemu-user), or name yours with "
            f"--qemu{advice}",
        )
    return path


def _first(names: list[str]) -> str | None:
    paths = filter(None, map(shutil.which, names))
    return next((str(Path(path).absolute()) for path in paths), None)


@cache
def _check_linker(ld: str) -> None:
    """Asks once: a program stays what it is while this process lasts."""
    done = subprocess.run(
        [ld, "-V"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if EMULATION not in done.stdout.split():
        said = (done.stdout or done.stderr).partition("\n")[0].strip()
        raise ScpatchError(
            "SCP303",
            f"{ld} is no GNU ld for ppc64le (it says {said!r}; {EMULATION} is not among its "
            "emulations)",
        )
