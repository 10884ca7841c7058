"""The programs that a run needs: GNU ld, GNU as, and QEMU unless this machine is a ppc64le."""

from __future__ import annotations

import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from scpatch.errors import ScpatchError

_PREFIX = "powerpc64le-linux-gnu-"


@dataclass(frozen=True, slots=True)
class Tools:
    """Programs to call, as absolute paths."""

    ld: str
    assembler: str
    emulator: str | None
    """None: run the program directly."""


def find_tools(
    *, ld: str | None = None, assembler: str | None = None, emulator: str | None = None
) -> Tools:
    """Find the programs; an argument names one to use instead of the usual.

    On a ppc64le machine the native `ld` and `as` will do and no emulator is used, unless one is
    given. Raises ScpatchError (SCP301) for one that is missing, naming the Debian package.
    """
    native = platform.machine() == "ppc64le"
    lds = [ld] if ld else [_PREFIX + "ld.bfd", _PREFIX + "ld"] + ["ld.bfd", "ld"] * native
    assemblers = [assembler] if assembler else [_PREFIX + "as"] + ["as"] * native
    emulators = [emulator] if emulator else ["qemu-ppc64le", "qemu-ppc64le-static"]
    binutils = "binutils" if native else "binutils-powerpc64le-linux-gnu"
    return Tools(
        ld=_find(lds, binutils),
        assembler=_find(assemblers, binutils),
        emulator=None if native and not emulator else _find(emulators, "qemu-user"),
    )


def _find(names: list[str], package: str) -> str:
    for name in names:
        path = shutil.which(name)
        if path:
            return str(Path(path).absolute())
    raise ScpatchError(
        "SCP301",
        f"{names[-1]} is needed to run the call sites, and is not installed",
        hint=f"install the Debian package {package}, or leave the run out with --no-run",
    )
