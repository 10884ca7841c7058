"""The big-endian twin of a little-endian object: the same headers, symbols, relocations and code.

Only the order of bytes changes, and with it where in an instruction a field of 16 bits is. The
content of data stays as it is: no test of calls reads it. So whatever holds for calls of an object
must hold for those of its twin.
"""

import re
import struct
from array import array
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scpatch.verifier.proof import prove
from scpatch.verifier.types import Proof

_TABLES = {2: "IBBHQQ", 4: "QIIq", 17: "I", 18: "I"}
"""By sh_type, the fields of entries: SHT_SYMTAB, SHT_RELA, SHT_GROUP, SHT_SYMTAB_SHNDX."""
_PLACE = re.compile("0x[0-9a-f]+")
_EHDR, _SHDR = "HHIQQQIHHHHHH", "IIQQQQIIQQ"
_SHT_RELA, _SHT_NOBITS, _SHF_EXECINSTR = 4, 8, 4
_HALVES = {0, *range(3, 7), *range(14, 18), *range(39, 43), *range(47, 51), *range(52, 67)}
_HALVES |= {*range(69, 73), *range(74, 78), *range(79, 107), *range(110, 114)}
_DISTANCES = {*range(240, 246), *range(249, 253)}
"""Types that fill in the low half of an instruction (ELFv2 ABI 3.5.3), and those of them that count
from there. R_PPC64_NONE is what one of those was before a rewrite."""
_ALTERNATIVE = b"__ftr_alt_"
"""Sections of code that need not be marked for instructions."""


def twin(data: bytes) -> bytes:
    """The twin of a file. Raises ValueError for what is no little-endian object, for tables that
    are not in the file, and for code that ends within a word."""
    try:
        return _twin(data)
    except (IndexError, struct.error) as error:
        raise ValueError(f"no object: {error}") from error


def _twin(data: bytes) -> bytes:
    if data[:7] != b"\x7fELF\2\1\1":
        raise ValueError("no little-endian object")
    result = bytearray(data)
    result[5] = 2
    _swap(data, result, _EHDR, 16)
    start, count = struct.unpack_from("<Q", data, 40)[0], struct.unpack_from("<H", data, 60)[0]
    count = count or struct.unpack_from("<Q", data, start + 32)[0]
    headers = [struct.unpack_from("<" + _SHDR, data, start + 64 * n) for n in range(count)]
    names = headers[struct.unpack_from("<H", data, 62)[0]][4]
    for number, (name, kind, flags, _, offset, size, _, info, _, _) in enumerate(headers):
        _swap(data, result, _SHDR, start + 64 * number)
        if kind in _TABLES:
            width = struct.calcsize("<" + _TABLES[kind])
            for at in range(offset, offset + size // width * width, width):
                _swap(data, result, _TABLES[kind], at)
                if kind == _SHT_RELA:
                    of_code = bool(headers[info][2] & _SHF_EXECINSTR)
                    _relocation(data, result, at, of_code)
        elif kind != _SHT_NOBITS and (
            flags & _SHF_EXECINSTR or data.startswith(_ALTERNATIVE, names + name)
        ):
            words = array("I", data[offset : offset + size])
            words.byteswap()
            result[offset : offset + size] = words.tobytes()
    return bytes(result)


def _swap(data: bytes, result: bytearray, fields: str, at: int) -> None:
    struct.pack_into(">" + fields, result, at, *struct.unpack_from("<" + fields, data, at))


def _relocation(data: bytes, result: bytearray, at: int, of_code: bool) -> None:
    offset, kind, symbol, addend = struct.unpack_from("<QIIq", data, at)
    if of_code and kind in _HALVES | _DISTANCES:
        offset += 2
        addend += 2 * (kind in _DISTANCES)
    struct.pack_into(">QIIq", result, at, offset, symbol, kind, addend)


def prove_both(before: Path, after: Path, *arguments: Any, **options: Any) -> Proof:
    """The proof for two objects, which must be that for their twins. An object without a twin, as
    one that is damaged, is proven alone."""
    proof = prove(before, after, *arguments, **options)
    with TemporaryDirectory() as folder:
        twins = [
            Path(folder, str(number), file.name) for number, file in enumerate((before, after))
        ]
        try:
            for file, path in zip((before, after), twins, strict=True):
                path.parent.mkdir()
                path.write_bytes(twin(file.read_bytes()))
        except ValueError:
            return proof
        other = prove(twins[0], twins[1], *arguments, **options)
    assert _texts(other) == _texts(proof), f"the twin has {_texts(other)}, not {_texts(proof)}"
    differ = [pair for pair in zip(proof.sites, other.sites, strict=True) if pair[0] != pair[1]]
    assert not differ, f"calls of the twin are judged otherwise: {differ[:3]}"
    return proof


def _texts(proof: Proof) -> list[str]:
    """The errors, without the byte of the first difference."""
    return [_PLACE.sub("#", error) for error in proof.errors]
