"""Finds the programs that the verifier calls: the binutils for powerpc64, and QEMU."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Final, Literal, NamedTuple

from scpatch.errors import ScpatchError

ByteOrder = Literal["little", "big"]

PREFIXES: Final = (
    *("powerpc64le-linux-gnu-", "powerpc64le-suse-linux-", "powerpc64le-linux-"),
    *("powerpc64-linux-gnu-", "powerpc64-suse-linux-", "powerpc64-linux-"),
)
"""How cross binutils are called: by Debian and Fedora, SUSE, and kernel.org. Those for either byte
order take files of the other one too."""


class Machine(NamedTuple):
    """What runs the programs of one byte order."""

    name: str
    """As Linux and QEMU call it."""
    assemble: str
    """GNU as makes objects for it with this option."""
    link: str
    """GNU ld takes this option for it."""
    emulation: str
    """What GNU ld calls the format of its programs."""
    prefixes: tuple[str, ...]
    """Those of `PREFIXES`, the best first."""

    @property
    def is_this(self) -> bool:
        """Whether this machine runs its programs itself."""
        return platform.machine() == self.name

    def is_linked_by(self, arguments: Collection[str]) -> bool:
        """Whether the arguments of a linker say that it makes programs for it."""
        words = {self.link, self.emulation, f"-m{self.emulation}"}
        return not words.isdisjoint(arguments)

    @property
    def package(self) -> str:
        return f"GNU binutils for {self.name} (Debian: binutils-{self.prefixes[0][:-1]})"


MACHINES: Final[dict[ByteOrder, Machine]] = {
    "little": Machine("ppc64le", "-mlittle", "-EL", "elf64lppc", PREFIXES),
    "big": Machine("ppc64", "-mbig", "-EB", "elf64ppc", (*PREFIXES[3:], *PREFIXES[:3])),
}
"""By byte order."""


@dataclass(frozen=True, slots=True)
class Toolchain:
    """Which programs to use. What is None is looked for."""

    prefix: str | None = None
    """Of the binutils, `powerpc64le-linux-gnu-`. None: that of CROSS_COMPILE in the environment,
    then those of `PREFIXES`, then none if this machine runs such programs."""
    ld: str | None = None
    """GNU ld."""
    ar: str | None = None
    qemu: str | None = None
    """QEMU's emulator of user programs. None: qemu-ppc64le, or qemu-ppc64 for big-endian files,
    unless this machine runs such programs."""


USUAL: Final = Toolchain()


@dataclass(frozen=True, slots=True)
class Tools:
    """Programs that a run calls, as absolute paths. They are for files of one byte order."""

    ld: str
    assembler: str
    emulator: str | None
    """None: run the program directly."""


def find_tools(
    toolchain: Toolchain = USUAL, advice: str | None = None, byte_order: ByteOrder = "little"
) -> Tools:
    """The programs for a run. `advice` ends the hint for one that is missing: what else to do, if
    the command has no options to name one and to leave the run out.

    Raises ScpatchError for one that is missing (SCP301), and for a linker that cannot link such
    programs (SCP303).
    """
    machine = MACHINES[byte_order]
    purpose = "to run the call sites"
    naming = ", or name yours with %s, or leave the run out with --no-run"
    or_ = naming % "--cross-compile" if advice is None else advice
    search = partial(find, toolchain=toolchain, purpose=purpose, or_=or_, machine=machine)
    ld = search("ld.bfd", "ld", named=toolchain.ld)
    _check_linker(ld, machine)
    or_ = naming % "--qemu" if advice is None else advice
    return Tools(ld, search("as"), _find_emulator(toolchain, machine, purpose, or_))


@dataclass(frozen=True, eq=False)
class Search:
    """The programs for files of any byte order, each looked for when a file needs it."""

    toolchain: Toolchain = USUAL
    advice: str | None = None
    _tools: dict[ByteOrder, Tools] = field(default_factory=dict, repr=False)

    def of(self, byte_order: ByteOrder) -> Tools:
        """Raises ScpatchError as `find_tools` does."""
        if byte_order not in self._tools:
            self._tools[byte_order] = find_tools(self.toolchain, self.advice, byte_order)
        return self._tools[byte_order]


def find(
    *names: str,
    toolchain: Toolchain,
    purpose: str,
    named: str | None = None,
    any_machine: bool = False,
    or_: str = ", or name yours with --cross-compile",
    machine: Machine = MACHINES["little"],
) -> str:
    """The path of one of the binutils: the first of `names` with the first prefix. `named` is the
    one to use instead. `any_machine` says that this machine's own will do.

    Raises ScpatchError (SCP301) if there is none.
    """
    prefix = toolchain.prefix
    if prefix is None:
        prefix = os.environ.get("CROSS_COMPILE") or None
    own = ("",) * (any_machine or machine.is_this)
    prefixes = machine.prefixes + own if prefix is None else (prefix,)
    candidates = [named] if named else [start + name for start in prefixes for name in names]
    path = _first(candidates)
    if path is None:
        usual = names[-1] if machine.is_this else machine.prefixes[0] + names[-1]
        wanted = named or (usual if prefix is None else prefix + names[-1])
        package = "GNU binutils (Debian: binutils)" if machine.is_this else machine.package
        raise ScpatchError(
            "SCP301",
            f"{wanted} is needed {purpose}, and is not installed",
            hint=f"install {package}{or_}",
        )
    return path


def _find_emulator(toolchain: Toolchain, machine: Machine, purpose: str, or_: str) -> str | None:
    if machine.is_this and toolchain.qemu is None:
        return None
    usual = f"qemu-{machine.name}"
    names = [toolchain.qemu] if toolchain.qemu else [usual, f"{usual}-static"]
    path = _first(names)
    if path is None:
        raise ScpatchError(
            "SCP301",
            f"{names[0]} is needed {purpose}, and is not installed",
            hint=f"install QEMU's user-space emulators (Debian: qemu-user){or_}",
        )
    return path


def _first(names: list[str]) -> str | None:
    paths = filter(None, map(shutil.which, names))
    return next((str(Path(path).absolute()) for path in paths), None)


@cache
def _check_linker(ld: str, machine: Machine) -> None:
    """Asks once: a program stays what it is while this process lasts."""
    done = subprocess.run(
        [ld, "-V"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if machine.emulation not in done.stdout.split():
        said = (done.stdout or done.stderr).partition("\n")[0].strip()
        raise ScpatchError(
            "SCP303",
            f"{ld} is no GNU ld for {machine.name} (it says {said!r}; {machine.emulation} is not "
            "among its emulations)",
        )
