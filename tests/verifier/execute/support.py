"""Objects with call sites, written in assembly; readelf tells where the labels are."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from scpatch.verifier.execute import Outcome, execute
from scpatch.verifier.options import NO_OFFSETS, KernelOffsets
from scpatch.verifier.tools import find_tools
from scpatch.verifier.types import CallSite
from tests.tools import CROSS

AS = CROSS + "as"
READELF = CROSS + "readelf"
TARGET = "__SCT__x"

# A trampoline as the kernel has it: one instruction that is patched at run time.
TRAMPOLINE = f"""
        .text
        .globl {TARGET}
        .type {TARGET}, @function
{TARGET}:
        blr
        .size {TARGET}, 4
"""
# What `rewrite` appends to the section.
STUB = f"""
        .text
stub:   std 2, 24(1)
        b {TARGET}
"""


@dataclass(frozen=True)
class Label:
    section: int
    value: int
    other: int


def assemble(directory: Path, source: str, name: str = "x") -> Path:
    path = directory / f"{name}.o"
    text = ".abiversion 2\n.machine power8\n" + source
    subprocess.run([AS, "-o", path, "-"], input=text, text=True, check=True)
    return path


def readelf(*arguments: str | Path) -> str:
    return subprocess.run([READELF, *arguments], text=True, check=True, capture_output=True).stdout


def labels(path: Path) -> dict[str, Label]:
    """All named symbols of the object."""
    symbols = {}
    for line in readelf("-sW", path).splitlines():
        # Num: Value Size Type Bind Vis [<other>...] Ndx Name
        fields = line.replace("[<localentry>: ", "[<localentry>:").split()
        if (
            len(fields) < 8
            or not fields[0].rstrip(":").isdigit()
            or fields[3] in ("SECTION", "FILE")
        ):
            continue
        other, rest = 0, fields[6:]
        if rest[0].startswith("[<localentry>:"):
            distance = int(rest.pop(0)[len("[<localentry>:") :].rstrip("]"))
            other = (1 if distance == 1 else distance.bit_length() - 1) << 5
        section = 0 if rest[0] == "UND" else int(rest[0])
        symbols[rest[1]] = Label(section, int(fields[1], 16), other)
    return symbols


def section_name(path: Path, index: int) -> str:
    for line in readelf("-SW", path).splitlines():
        if line.strip().startswith(f"[{index:2d}]"):
            return line.split("]", 1)[1].split()[0]
    raise KeyError(index)


def site_at(
    path: Path,
    label: str = "site",
    *,
    trampoline: str = TARGET,
    length: int = 8,
    saved: bool = False,
    loader: bool = False,
) -> CallSite:
    """The site at a label; control must come back `length` bytes on."""
    known = labels(path)
    site, target = known[label], known[trampoline]
    return CallSite(
        section=site.section,
        section_name=section_name(path, site.section),
        offset=site.value,
        trampoline=trampoline,
        trampoline_section=target.section,
        trampoline_offset=target.value,
        trampoline_other=target.other,
        resume=site.value + length,
        saved_before=saved,
        loader=loader,
    )


def run(path: Path, *sites: CallSite, offsets: KernelOffsets = NO_OFFSETS) -> list[Outcome]:
    return execute(path, sites, find_tools(), offsets=offsets)


def run_one(
    directory: Path,
    source: str,
    *,
    trampoline: str = TARGET,
    length: int = 8,
    saved: bool = False,
    loader: bool = False,
    offsets: KernelOffsets = NO_OFFSETS,
) -> Outcome:
    """Assemble, and run the site at the label `site`."""
    path = assemble(directory, source)
    site = site_at(path, trampoline=trampoline, length=length, saved=saved, loader=loader)
    (outcome,) = run(path, site, offsets=offsets)
    assert outcome.site == site
    return outcome
