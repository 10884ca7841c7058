"""Reads a unit of .debug_line with pyelftools, and the file names of its header."""

from __future__ import annotations

import io
import re
from typing import Any, Final

from scpatch.dwarf.units import Unit
from scpatch.elf import constants as c
from scpatch.elf.encoding import LITTLE, Encoding
from scpatch.elf.reader import ElfFile
from scpatch.errors import ScpatchError

LIMIT: Final = 1 << 18
"""Bytes that are read of a header, for more than 5,000 file names, and of the program after it:
four times the longest one in a kernel. Each byte can become a row of some 500 bytes, so that a
forged unit must not take all memory."""

_LONG_NUMBER: Final = re.compile(rb"[\x80-\xff]{1024}")
"""The time for a LEB128 number grows with the square of its length. No compiler writes as many
special opcodes of this kind in a row."""
_STRING_SECTIONS: Final = {"DW_FORM_line_strp": ".debug_line_str", "DW_FORM_strp": ".debug_str"}
_TABLES: Final = ("directory_entry_format", "file_name_entry_format")
_EMPTY_FORMS: Final = frozenset({"DW_FORM_flag_present", "DW_FORM_implicit_const"})


def read_program(content: bytes, unit: Unit, encoding: Encoding) -> Any:
    """The line program of a unit, as pyelftools has it. `content` is the unit's, relocated.

    Raises ValueError for a unit that would take too much time or memory, and whatever pyelftools
    raises for a damaged one.
    """
    from elftools.construct import Struct, Value
    from elftools.dwarf.lineprogram import LineProgram
    from elftools.dwarf.structs import DWARFStructs

    start = unit.program - unit.start
    if start > LIMIT or _LONG_NUMBER.search(content, start):
        raise ValueError("no compiler writes such a unit")
    structs = DWARFStructs(
        little_endian=encoding is LITTLE,
        dwarf_format=8 * unit.offset_size,
        address_size=8,
        dwarf_version=unit.version,
    )
    parts: list[Any] = []
    for part in structs.Dwarf_lineprog_header.subcons:
        parts += [Value("checked", _check_formats), part]
    header = Struct("header", *parts).parse_stream(io.BytesIO(content[:start]))
    end = min(len(content), start + LIMIT)
    return LineProgram(header, io.BytesIO(content), structs, start, end)


def _check_formats(header: Any) -> None:
    """Raises ValueError for entries without bytes.

    A forged count would make as many of them as it says; with bytes, they end with the header.
    """
    for table in _TABLES:
        fields = header.get(table)
        if fields is not None and (not fields or any(f.form in _EMPTY_FORMS for f in fields)):
            raise ValueError(f"{table} describes entries of no bytes")


def file_name(elf: ElfFile, header: Any, version: int, number: int) -> str | None:
    """The name of a file by its number in a unit; None if the header has none."""
    try:
        if version >= 5:
            name, directory = _entry(elf, header, _TABLES[1], header.file_names[number])
            folder, _ = _entry(elf, header, _TABLES[0], header.directories[directory])
            base, _ = _entry(elf, header, _TABLES[0], header.directories[0])
            return _shorten(_text(_join(folder, name)), _text(base))
        if number < 1:
            return None
        # Up to DWARF 4 numbers start at 1; directory 0 is the compiler's and not in the table.
        entry = header.file_entry[number - 1]
        folder = header.include_directory[entry.dir_index - 1] if entry.dir_index else b""
        return _shorten(_text(_join(folder, entry.name)), "")
    except (KeyError, IndexError, TypeError, AttributeError, ScpatchError):
        # The fields are whatever a damaged header says.
        return None


def _entry(elf: ElfFile, header: Any, table: str, entry: Any) -> tuple[bytes, int]:
    """(name, directory number) of a directory or file of DWARF 5."""
    value = entry["DW_LNCT_path"]
    if not isinstance(value, bytes):
        forms = {field.content_type: field.form for field in header[table]}
        plain = [
            index
            for index in elf.sections_named(_STRING_SECTIONS[forms["DW_LNCT_path"]])
            if not elf.sections[index].sh_flags & c.SHF_COMPRESSED
        ]
        value = _string(elf.content(plain[0]), value)
    return value, entry.get("DW_LNCT_directory_index", 0)


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
