"""File names of line programs, from their headers and the string sections of DWARF 5."""

from __future__ import annotations

import io
from bisect import bisect_left
from typing import Any, Final

from scpatch.dwarf.sequences import R_PPC64_ADDR32, R_PPC64_ADDR64, Unit
from scpatch.elf import constants as c
from scpatch.elf.encoding import LITTLE, Encoding
from scpatch.elf.reader import ElfFile, RelaTable
from scpatch.errors import ScpatchError

LIMIT: Final = 1 << 18
"""Bytes of a header that are read: more than 5,000 file names."""

_STRING_SECTIONS: Final = {"DW_FORM_line_strp": ".debug_line_str", "DW_FORM_strp": ".debug_str"}
_TABLES: Final = ("directory_entry_format", "file_name_entry_format")
_EMPTY_FORMS: Final = frozenset({"DW_FORM_flag_present", "DW_FORM_implicit_const"})


class LineHeaders:
    """The headers of the .debug_line section `index`, each read when it is needed."""

    def __init__(self, elf: ElfFile, index: int, table: RelaTable) -> None:
        self._elf = elf
        self._data = elf.content(index)
        self._table = table
        self._relocated: list[tuple[int, int]] | None = None
        self._headers: dict[Unit, Any] = {}
        self._files: dict[tuple[Unit, int], str | None] = {}
        self._strings: dict[str, memoryview | None] = {}

    def header(self, unit: Unit) -> Any:
        """The unit's header as pyelftools gives it; None if it is damaged."""
        if unit not in self._headers:
            self._headers[unit] = self._read(unit)
        return self._headers[unit]

    def file(self, unit: Unit, number: int) -> str | None:
        """The name of a file by its number in the unit; None if the header has none."""
        if (unit, number) not in self._files:
            try:
                path = self._path(unit, number)
            except (KeyError, IndexError, TypeError, AttributeError, ScpatchError):
                # The fields are whatever a damaged header says.
                path = None
            self._files[unit, number] = path
        return self._files[unit, number]

    def _read(self, unit: Unit) -> Any:
        from elftools.construct import Struct, Value

        if unit.program - unit.start > LIMIT:
            return None
        parts: list[Any] = []
        for part in structs_of(unit, self._elf.encoding).Dwarf_lineprog_header.subcons:
            parts += [Value("checked", _check_formats), part]
        try:
            return Struct("header", *parts).parse_stream(io.BytesIO(self._relocate(unit)))
        except Exception:
            # Whatever a decoder meets in damaged input: there is no header then.
            return None

    def _relocate(self, unit: Unit) -> bytes:
        """The bytes of a header, with the offsets of its strings filled in."""
        header = bytearray(self._data[unit.start : unit.program])
        if unit.version < 5 or self._elf.symbols is None:
            return bytes(header)
        if self._relocated is None:
            self._relocated = sorted((at, i) for i, at in enumerate(self._table.r_offset))
        first = bisect_left(self._relocated, (unit.start, 0))
        last = bisect_left(self._relocated, (unit.program, 0))
        for at, entry in self._relocated[first:last]:
            relocation = self._table[entry]
            size = {R_PPC64_ADDR32: 4, R_PPC64_ADDR64: 8}.get(relocation.type)
            if size is not None:
                value = self._elf.symbols[relocation.symbol].st_value + relocation.r_addend
                start = at - unit.start
                if start + size > len(header):
                    raise ValueError("a string's offset reaches past the header")
                header[start : start + size] = self._elf.encoding.pack(value, size)
        return bytes(header)

    def _path(self, unit: Unit, number: int) -> str | None:
        header = self.header(unit)
        if unit.version >= 5:
            name, directory = self._entry(header.file_names[number], header, _TABLES[1])
            folder, _ = self._entry(header.directories[directory], header, _TABLES[0])
            base, _ = self._entry(header.directories[0], header, _TABLES[0])
            return _shorten(_text(_join(folder, name)), _text(base))
        if number < 1:
            return None
        # Up to DWARF 4 numbers start at 1; directory 0 is the compiler's and not in the table.
        entry = header.file_entry[number - 1]
        folder = header.include_directory[entry.dir_index - 1] if entry.dir_index else b""
        return _shorten(_text(_join(folder, entry.name)), "")

    def _entry(self, entry: Any, header: Any, table: str) -> tuple[bytes, int]:
        """(name, directory number) of a directory or file of DWARF 5."""
        forms = {field.content_type: field.form for field in header[table]}
        value = entry["DW_LNCT_path"]
        if not isinstance(value, bytes):
            strings = self._section(_STRING_SECTIONS[forms["DW_LNCT_path"]])
            if strings is None:
                raise KeyError(forms["DW_LNCT_path"])
            value = _string(strings, value)
        return value, entry.get("DW_LNCT_directory_index", 0)

    def _section(self, name: str) -> memoryview | None:
        """The content of a string section; None if none can be read."""
        if name not in self._strings:
            plain = [
                self._elf.content(index)
                for index in self._elf.sections_named(name)
                if not self._elf.sections[index].sh_flags & c.SHF_COMPRESSED
            ]
            self._strings[name] = plain[0] if plain else None
        return self._strings[name]


def structs_of(unit: Unit, encoding: Encoding) -> Any:
    """The decoders of pyelftools for a unit's version and format."""
    from elftools.dwarf.structs import DWARFStructs

    return DWARFStructs(
        little_endian=encoding is LITTLE,
        dwarf_format=8 * unit.offset_size,
        address_size=8,
        dwarf_version=unit.version,
    )


def _check_formats(header: Any) -> None:
    """Raises ValueError for entries without bytes.

    A forged count would make as many of them as it says; with bytes, they end with the header.
    """
    for table in _TABLES:
        fields = header.get(table)
        if fields is not None and (not fields or any(f.form in _EMPTY_FORMS for f in fields)):
            raise ValueError(f"{table} describes entries of no bytes")


def _string(table: memoryview, offset: int) -> bytes:
    """The NUL-terminated string at an offset; IndexError if it cannot be a file name."""
    text, end, _ = bytes(table[offset : offset + 4097]).partition(b"\0")
    if not end:
        raise IndexError(offset)
    return text


def _join(folder: bytes, name: bytes) -> bytes:
    return name if not folder or name.startswith(b"/") else folder.rstrip(b"/") + b"/" + name


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _shorten(path: str, base: str) -> str:
    """The path below the compilation directory `base`, without a leading `./`."""
    if base and path.startswith(base.rstrip("/") + "/"):
        path = path[len(base.rstrip("/")) + 1 :]
    while path.startswith("./"):
        path = path[2:].lstrip("/")
    return path
