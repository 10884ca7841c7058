"""Where everything lies in the linked program: sections, segments, trampolines.

The linker's map tells the address of each input section; the object's own section headers tell
which index it has.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scpatch.errors import ScpatchError, damaged
from scpatch.verifier.execute.state import Addresses
from scpatch.verifier.execute.types import RunSite

SLOT = 16
"""Bytes between two generated trampolines."""

# `ba` reaches the lowest 32 MiB from everywhere, so the harness is linked there. Not below 1 MiB:
# the kernel keeps the lowest pages unmapped (vm.mmap_min_addr), and ld puts the ELF header in the
# page below the first section. The object comes to lie at ld's usual 256 MiB.
CODE = 0x100000
STATE = 0x200000
FRAME = 0x300000
PACA = 0x320000
THREAD = 0x340000
_HARNESS_END = 0x400000


_SHN_XINDEX = 0xFFFF
_PT_LOAD = 1
_MAP_LINE = r"^ (\S+)\s+0x([0-9a-f]+)\s+0x([0-9a-f]+) {}$"
COMPLAINT = re.compile(r"\(([^()\s]+)\+0x([0-9a-f]+)\): (.*)")
"""What GNU ld says about a relocation: (section name), (section offset), (what)."""


@dataclass(frozen=True, slots=True)
class Place:
    """An input section in the program."""

    address: int
    size: int
    name: str


@dataclass(frozen=True, slots=True)
class Program:
    """A linked program; all addresses are virtual ones."""

    path: Path
    places: dict[int, Place]
    """Section index in the object: where it is. Holds only sections that sites name."""
    map: list[Place]
    """All input sections of the object, sorted by address."""
    trampolines: dict[str, int]
    """The generated trampolines: name, address."""
    toc: int
    hostile: int
    back: int
    either: int
    loader_stub: int
    load_target: int
    frame: int
    paca: int
    thread: int
    segments: list[tuple[int, int, int]]
    """(address, size in memory, file offset) of each PT_LOAD of the object."""
    complaints: dict[tuple[str, int], str]
    """(section name, section offset): what the linker had to say about a relocation there."""

    @property
    def addresses(self) -> Addresses:
        return Addresses(self.toc, self.frame, self.paca, self.thread)

    def describe(self, address: int) -> str:
        """`.text+0x1a0` for an address in the object, else the number."""
        number = bisect_right(self.map, address, key=lambda place: place.address) - 1
        if number >= 0 and address < self.map[number].address + self.map[number].size:
            place = self.map[number]
            return f"{place.name}+{address - place.address:#x}"
        return f"{address:#x}"


def read_program(
    path: Path, sites: Sequence[RunSite], undefined: list[str], directory: Path, errors: str
) -> Program:
    """Read `prog` and `map` in `directory`; `errors` is what the linker wrote to stderr.

    Raises ScpatchError (SCP302) if a section of a site is not found in the program.
    """
    text = (directory / "map").read_text("utf-8", "surrogateescape")
    text = text[text.index("Linker script and memory map") :]
    placed = _map_entries(text, "object.o")
    slots = [place for place in _map_entries(text, "tramps.o") if place.name == ".scpatch_tramps"]
    image = (directory / "prog").read_bytes()
    segments = _segments(image)
    table = next(offset + CODE - start for start, size, offset in segments if start + size > CODE)
    toc, *addresses = struct.unpack_from("<9Q", image, table + 8)
    hostile, back, either, loader_stub, load_target, frame, paca, thread = addresses
    named = {site.section for site in sites} | {site.trampoline_section for site in sites}
    return Program(
        path=directory / "prog",
        places=_places(path, placed, named - {0}),
        map=sorted((place for place in placed if place.size), key=lambda place: place.address),
        trampolines={name: slots[0].address + SLOT * n for n, name in enumerate(undefined)},
        toc=toc,
        hostile=hostile,
        back=back,
        either=either,
        loader_stub=loader_stub,
        load_target=load_target,
        frame=frame,
        paca=paca,
        thread=thread,
        segments=[segment for segment in segments if segment[0] >= _HARNESS_END],
        complaints={(m[1], int(m[2], 16)): m[3] for m in COMPLAINT.finditer(errors)},
    )


def _map_entries(text: str, file: str) -> list[Place]:
    """The input sections of one file, in the map's order; long names have a line of their own."""
    pattern = re.compile(_MAP_LINE.format(re.escape(file)), re.MULTILINE)
    return [Place(int(m[2], 16), int(m[3], 16), m[1]) for m in pattern.finditer(text)]


def _places(path: Path, placed: list[Place], wanted: set[int]) -> dict[int, Place]:
    """Match section indices with the map: sections of the same name keep their order."""
    try:
        headers = _section_headers(path)
    except (struct.error, ValueError) as error:
        raise damaged(str(path), "its section headers cannot be read") from error
    by_name: dict[str, list[Place]] = defaultdict(list)
    for place in placed:
        by_name[place.name].append(place)
    indices: dict[str, list[int]] = defaultdict(list)
    for index, (name, _size) in enumerate(headers):
        indices[name].append(index)
    places = {}
    for index in wanted:
        name, size = headers[index]
        same, where = indices[name], by_name[name]
        found = where[same.index(index)].size if len(same) == len(where) else None
        if found != size:
            raise ScpatchError(
                "SCP302",
                f"section {index} ({name}) is not in the linked program as it is in the file",
                file=str(path),
                hint="--no-run leaves the run out; the proof does not need the linker",
            )
        places[index] = where[same.index(index)]
    return places


def _section_headers(path: Path) -> list[tuple[str, int]]:
    """(name, size) of each section: gABI 4, with the escapes for 65,280 sections and more."""
    with path.open("rb") as file:
        header = file.read(64)
        start = struct.unpack_from("<Q", header, 40)[0]
        entry, count, strings = struct.unpack_from("<HHH", header, 58)
        file.seek(start)
        first = file.read(entry)
        count = count or struct.unpack_from("<Q", first, 32)[0]
        strings = struct.unpack_from("<I", first, 40)[0] if strings == _SHN_XINDEX else strings
        table = first + file.read(entry * (count - 1))
        at, size = struct.unpack_from("<QQ", table, entry * strings + 24)
        file.seek(at)
        names = file.read(size)
    headers = []
    for index in range(count):
        name = struct.unpack_from("<I", table, entry * index)[0]
        size = struct.unpack_from("<Q", table, entry * index + 32)[0]
        text = names[name : names.index(b"\0", name)].decode("utf-8", "surrogateescape")
        headers.append((text, size))
    return headers


def _segments(image: bytes) -> list[tuple[int, int, int]]:
    start = struct.unpack_from("<Q", image, 32)[0]
    entry, count = struct.unpack_from("<HH", image, 54)
    segments = []
    for index in range(count):
        kind, _flags, offset, address, _physical, _filesz, memsz = struct.unpack_from(
            "<IIQQQQQ", image, start + entry * index
        )
        if kind == _PT_LOAD:
            segments.append((address, memsz, offset))
    return segments
