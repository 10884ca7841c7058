"""The stubs that a linker puts between a call and a function, in a linked image.

GNU ld names them only with --emit-stub-syms, lld always (ELF/Thunks.cpp); they are known by their
instructions. The forms (ppc_build_one_stub in bfd/elf64-ppc.c, PPC64R2SaveStub in lld):

    long_branch     [std r2,24(r1)]  b FUNCTION
    plt_branch      [std r2,24(r1)]  addis r12,r2,HI  ld r12,LO(r12)  mtctr r12  bctr
    lld 14          std r2,24(r1)    pla r12,FUNCTION                 mtctr r12  bctr
    lld 19          std r2,24(r1)    addis r12,r2,HI  addi r12,r12,LO mtctr r12  bctr

where the `ld` of the second takes FUNCTION's address from .branch_lt, or .toc and the like; the
`addis` is missing where the offset is small. The store is there where the callee does not
preserve r2; the linker then restores it in the nop.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property

from scpatch.elf import constants as c
from scpatch.elf.image import Image
from scpatch.ppc64 import insn
from scpatch.ppc64.relocs import R_PPC64_RELATIVE
from scpatch.staticcall.symbols import Functions

_STUB_NAME = re.compile(
    r"__(long_branch|toc_save)_.+|[0-9a-f]{8}\.(long_branch|plt_branch)(_r2off)?\..+"
)
_MTCTR_BCTR = struct.pack("<2I", 0x7D8903A6, 0x4E800420)
"""`mtctr r12; bctr`"""
_ADDIS_R12_R2, _LD_R12_R12, _LD_R12_R2 = 0x3D820000, 0xE98C0000, 0xE9820000
_ADDI_R12_R12 = 0x398C0000
_PLA_PREFIX, _PLA_R12 = 0x06100000, 0x39800000
"""The two words of `pla r12,0` (Power ISA 3.1, MLS:D-form), each with a half of the distance."""
_TOC_BASE = 0x8000
""".TOC. lies so far behind the start of .got (psABI 3.3)."""


def linker_stubs(
    image: Image,
    functions: Functions,
    branches: Mapping[int, Sequence[tuple[int, int]]],
    wanted: Collection[int],
) -> dict[int, int]:
    """Address of a stub -> the address in `wanted` that it leads to.

    `branches` are the I-form branches by section, as (target, branch) in section offsets. What a
    function symbol covers is no stub, unless it has a stub's name.
    """
    found: dict[int, int] = {}
    toc, pointers = _toc(image), _Pointers(image)
    for section, pairs in branches.items():
        content = image.content(section)
        for target, offset in pairs:
            address = image.address(section, target)
            if address in wanted and not insn.links(_word(content, offset)):
                _add(found, image, functions, (section, offset), address)
        for offset, function in _by_register(content, image.address(section, 0), toc, pointers):
            if function in wanted:
                _add(found, image, functions, (section, offset), function)
    return found


def may_be_stub(image: Image, functions: Functions, section: int, offset: int) -> bool:
    """Whether no function's symbol covers a section offset but a stub's."""
    index = functions.covering(section, offset)
    if index is None or image.symbols is None:
        return True
    return _STUB_NAME.fullmatch(image.symbols.name(index)) is not None


def _add(
    found: dict[int, int], image: Image, functions: Functions, place: tuple[int, int], to: int
) -> None:
    """Notes a stub whose first instruction but the store is at `place`."""
    section, offset = place
    if not may_be_stub(image, functions, section, offset):
        return
    found[image.address(section, offset)] = to
    if _word(image.content(section), offset - 4) == insn.STD_R2:
        found[image.address(section, offset - 4)] = to


def _by_register(
    content: memoryview, start: int, toc: int | None, pointers: _Pointers
) -> Iterator[tuple[int, int]]:
    """(section offset of the first instruction but the store, FUNCTION) of each stub that has
    FUNCTION's address in r12. `start` is the section's address."""
    data = bytes(content)
    at = data.find(_MTCTR_BCTR)
    while at >= 0:
        first, last = _word(content, at - 8), _word(content, at - 4)
        if first & 0xFFFC0000 == _PLA_PREFIX and last & 0xFFFF0000 == _PLA_R12:
            distance = _signed((first & 0x3FFFF) << 16 | last & 0xFFFF, 34)
            yield at - 8, start + at - 8 + distance
        elif toc is not None and (found := _by_toc(first, last, toc)) is not None:
            size, address, loaded = found
            function = pointers.at(address) if loaded else address
            if function is not None:
                yield at - size, function
        at = data.find(_MTCTR_BCTR, at + 4)


def _by_toc(first: int, last: int, toc: int) -> tuple[int, int, bool] | None:
    """Of the two words before `mtctr r12`: the size in bytes of what is the stub's, the address
    that it comes to, and whether FUNCTION's is loaded from there."""
    loads = last >> 26 == _LD_R12_R2 >> 26
    low = _signed(last & (0xFFFC if loads else 0xFFFF), 16)
    operation = last & (0xFFFF0003 if loads else 0xFFFF0000)
    if operation == _LD_R12_R2:
        return 4, toc + low, True
    if operation in (_LD_R12_R12, _ADDI_R12_R12) and first & 0xFFFF0000 == _ADDIS_R12_R2:
        return 8, toc + (_signed(first & 0xFFFF, 16) << 16) + low, loads
    return None


def _toc(image: Image) -> int | None:
    """The TOC pointer of the image."""
    symbols = image.symbols
    if symbols is not None:
        for index in symbols.with_prefix(b".TOC."):
            section = symbols.section_index(index)
            if 0 < section < len(image.sections) and symbols.name(index) == ".TOC.":
                return image.address(section, symbols[index].st_value)
    named = image.sections_named(".got")
    return image.address(named[0], _TOC_BASE) if named else None


class _Pointers:
    """The doublewords of an image, as they will be in the memory of one that is not moved."""

    def __init__(self, image: Image) -> None:
        self._image = image

    def at(self, address: int) -> int | None:
        if (found := self._relative.get(address)) is not None:
            return found
        for index, section in enumerate(self._image.sections):
            start = address - section.sh_addr
            if section.sh_flags & c.SHF_ALLOC and 0 <= start <= section.file_size - 8:
                return int.from_bytes(self._image.content(index)[start : start + 8], "little")
        return None

    @cached_property
    def _relative(self) -> dict[int, int]:
        """What is put at addresses when a PIE starts: R_PPC64_RELATIVE in .rela.dyn."""
        found: dict[int, int] = {}
        for index in self._image.sections_named(".rela.dyn"):
            data = self._image.content(index)
            for offset, info, addend in struct.iter_unpack("<QQQ", data[: len(data) // 24 * 24]):
                if info & 0xFFFFFFFF == R_PPC64_RELATIVE:
                    found[offset] = addend
        return found


def _word(content: memoryview, offset: int) -> int:
    return int.from_bytes(content[offset : offset + 4], "little") if offset >= 0 else 0


def _signed(value: int, bits: int) -> int:
    sign = 1 << (bits - 1)
    return (value ^ sign) - sign
