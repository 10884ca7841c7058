"""Where everything is in the linked program: sections, segments, trampolines.

The linker's map tells the address of each input section; the object's own section headers tell
which index it has.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from scpatch.errors import ScpatchError
from scpatch.verifier.execute.state import Harness
from scpatch.verifier.objects.read import Image, Section
from scpatch.verifier.objects.variant import Variant
from scpatch.verifier.types import CallSite

SLOT: Final = 16
"""Bytes between two generated trampolines."""

# `ba` reaches the lowest 32 MiB from everywhere, so the harness is linked there. Not below 1 MiB:
# the kernel keeps the lowest pages unmapped (vm.mmap_min_addr), and ld puts the ELF header in the
# page below the first section. ld puts the object at its usual 256 MiB.
_CODE = 0x100000
STARTS: Final = {
    ".scpatch_code": _CODE,
    ".scpatch_state": 0x200000,
    ".scpatch_frame": 0x300000,
    ".scpatch_paca": 0x320000,
    ".scpatch_thread": 0x340000,
}
"""The addresses of the harness's sections."""
_HARNESS_END = 0x400000

_PT_LOAD = 1
_MAP_LINE = r"^ (\S+)\s+0x([0-9a-f]+)\s+0x([0-9a-f]+) {}$"
COMPLAINT: Final = re.compile(r"\(([^()\s]+)\+0x([0-9a-f]+)\): (.*)")
"""What GNU ld says about a relocation: (section name), (section offset), (what)."""


class InputSection(NamedTuple):
    """An input section in the program."""

    address: int
    size: int
    name: str


class Segment(NamedTuple):
    """A PT_LOAD. `size` is that in memory, `offset` a file offset."""

    address: int
    size: int
    offset: int


class Program(NamedTuple):
    """A linked program. All addresses are virtual."""

    object: Path
    """The object under test."""
    variant: Variant
    path: Path
    harness: Harness
    sections: dict[int, InputSection]
    """By section index in the object, the sections that sites name."""
    layout: list[InputSection]
    """All input sections of the object, sorted by address."""
    trampolines: dict[str, int]
    """The addresses of the generated trampolines, by name."""
    segments: list[Segment]
    """Those of the object."""
    complaints: dict[tuple[str, int], str]
    """(section name, section offset): what the linker said about a relocation there."""

    def address(self, section: int, offset: int) -> int:
        return self.sections[section].address + offset

    def describe(self, address: int) -> str:
        """`.text+0x1a0` for an address in the object, else the number."""
        number = bisect_right(self.layout, address, key=lambda section: section.address) - 1
        if number >= 0 and address < self.layout[number].address + self.layout[number].size:
            section = self.layout[number]
            return f"{section.name}+{address - section.address:#x}"
        return f"{address:#x}"


def read_program(
    path: Path,
    object_image: Image,
    sites: Sequence[CallSite],
    undefined: Sequence[str],
    directory: Path,
    errors: str,
) -> Program:
    """Read `prog` and `map` in `directory`. `path` is the object, `object_image` is what it
    holds, and `errors` is what the linker wrote to stderr.

    Raises ScpatchError (SCP302) if a section of a site is not found in the program.
    """
    text = (directory / "map").read_text("utf-8", "surrogateescape")
    text = text[text.index("Linker script and memory map") :]
    layout = _map_entries(text, "object.o")
    generated = {section.name: section for section in _map_entries(text, "tramps.o")}
    slots = generated[".scpatch_tramps"].address
    image = (directory / "prog").read_bytes()
    variant, headers = object_image.variant, object_image.sections
    segments = list(_segments(image, variant))
    first = next(segment for segment in segments if segment.address + segment.size > _CODE)
    table = first.offset + _CODE - first.address + 8
    named = {site.section for site in sites} | {site.trampoline_section for site in sites}
    return Program(
        object=path,
        variant=variant,
        path=directory / "prog",
        harness=Harness(*variant.struct("9Q").unpack_from(image, table)),
        sections=_find_sections(path, headers, layout, named - {0}),
        layout=sorted(section for section in layout if section.size),
        trampolines={name: slots + SLOT * n for n, name in enumerate(undefined)},
        segments=[segment for segment in segments if segment.address >= _HARNESS_END],
        complaints={(m[1], int(m[2], 16)): m[3] for m in COMPLAINT.finditer(errors)},
    )


def _map_entries(text: str, file: str) -> list[InputSection]:
    """The input sections of one file, in the map's order. Long names have a line of their own."""
    pattern = re.compile(_MAP_LINE.format(re.escape(file)), re.MULTILINE)
    return [InputSection(int(m[2], 16), int(m[3], 16), m[1]) for m in pattern.finditer(text)]


def _find_sections(
    path: Path, headers: Sequence[Section], layout: Sequence[InputSection], wanted: set[int]
) -> dict[int, InputSection]:
    """The wanted sections by index. Sections of the same name keep their order."""
    in_map: dict[str, list[InputSection]] = defaultdict(list)
    for section in layout:
        in_map[section.name].append(section)
    numbers: dict[str, list[int]] = defaultdict(list)
    for header in headers:
        numbers[header.name].append(header.number)
    sections = {}
    for number in wanted:
        header = headers[number]
        same, placed = numbers[header.name], in_map[header.name]
        at = same.index(number)
        if len(same) != len(placed) or placed[at].size != header.size:
            raise ScpatchError(
                "SCP302",
                f"section {number} ({header.name}) is not in the linked program as it is in the"
                " file",
                file=str(path),
                hint="--no-run leaves the run out; the proof does not need the linker",
            )
        sections[number] = placed[at]
    return sections


def _segments(image: bytes, variant: Variant) -> Iterator[Segment]:
    (start,) = variant.struct("Q").unpack_from(image, 32)
    entry, count = variant.struct("HH").unpack_from(image, 54)
    header = variant.struct("IIQQQQQ")
    for at in range(start, start + entry * count, entry):
        kind, _flags, offset, address, _physical, _size, size = header.unpack_from(image, at)
        if kind == _PT_LOAD:
            yield Segment(address, size, offset)
