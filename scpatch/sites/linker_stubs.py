"""The stubs that a linker puts between a call and a function, in a linked image.

GNU ld names them only with --emit-stub-syms, lld always (ELF/Thunks.cpp); they are known by their
instructions. The forms (ppc_build_one_stub in bfd/elf64-ppc.c, PPC64R2SaveStub in lld):

    long_branch     [std r2,24(r1)]  b FUNCTION
    plt_branch      [std r2,24(r1)]  addis r12,r2,HI  ld r12,LO(r12)  mtctr r12  bctr
    lld 14          std r2,24(r1)    pla r12,FUNCTION                 mtctr r12  bctr
    lld 19          std r2,24(r1)    addis r12,r2,HI  addi r12,r12,LO mtctr r12  bctr

where the `ld` of the second takes FUNCTION's address from .branch_lt, or .toc and the like; the
`addis` is missing if the offset is small. The store is there if the callee does not
preserve r2; the linker then restores it in the nop. Callers without a TOC pointer (REL24_NOTOC)
come through stubs that set r12 from their own address, for trampolines that compute r2 from it:

    with Power10    [nop]  pla r12,FUNCTION                     then  b FUNCTION
    without         mflr r12  bcl 20,31,.+4  mflr r11  mtlr r12   or  mtctr r12  bctr
                    [addis r12,r11,HI]  addi r12,...,LO

(build_power10_offset and build_offset; PPC64R12SetupStub in lld), in which GNU ld's nop aligns the
prefixed instruction. One that serves callers of both kinds begins with the store.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from scpatch.elf import constants as c
from scpatch.elf.encoding import Encoding
from scpatch.elf.functions import Functions
from scpatch.elf.image import LinkedImage
from scpatch.ppc64 import insn
from scpatch.ppc64.relocs import R_PPC64_RELATIVE
from scpatch.ppc64.variant import SAVE_R2

_STUB_NAME = re.compile(
    r"__(long_branch|toc_save|gep_setup)_.+|[0-9a-f]{8}\.(long_branch|plt_branch)(_r2off)?\..+"
)
_MTCTR_BCTR = 0x7D8903A6, 0x4E800420
"""`mtctr r12; bctr`"""
_ADDIS_R12_R2, _LD_R12_R12, _LD_R12_R2 = 0x3D820000, 0xE98C0000, 0xE9820000
_ADDI_R12_R12 = 0x398C0000
_PLA_PREFIX, _PLA_R12 = 0x06100000, 0x39800000
"""The two words of `pla r12,0` (Power ISA 3.1, MLS:D-form), each with a half of the distance."""
_PC_TO_R11 = 0x7D8802A6, 0x429F0005, 0x7D6802A6, 0x7D8803A6
"""`mflr r12; bcl 20,31,.+4; mflr r11; mtlr r12`: r11 is then the third instruction's address."""
_ADDI_R12_R11, _ADDIS_R12_R11 = 0x398B0000, 0x3D8B0000
_TOC_BASE = 0x8000
""".TOC. is so far after the start of .got (psABI 3.3)."""


def linker_stubs(
    image: LinkedImage,
    functions: Functions,
    branches: Mapping[int, Sequence[tuple[int, int]]],
    wanted: Collection[int],
) -> dict[int, int]:
    """Address of a stub -> the address in `wanted` that it leads to.

    `branches` are the I-form branches by section, as (target, branch) in section offsets. What a
    function symbol covers is no stub, unless it has a stub's name.
    """
    stubs = _Stubs(image, functions, branches)
    toc, pointers = _toc(image), _Pointers(image)
    for section, pairs in branches.items():
        code = _code(image, section)
        for target, offset in pairs:
            address = code.start + target
            if address in wanted and not insn.links(code.word(offset)):
                stubs.add(section, offset, address)
                setup = _pc_relative(code, offset)
                if setup is not None and setup[1] == address:
                    stubs.add(section, setup[0], address)
        for offset, function in _by_register(code, toc, pointers):
            if function in wanted:
                stubs.add(section, offset, function)
    return stubs.by_address


def may_be_stub(image: LinkedImage, functions: Functions, section: int, offset: int) -> bool:
    """Whether no function's symbol covers a section offset but a stub's."""
    index = functions.covering(section, offset)
    if index is None or image.symbols is None:
        return True
    return _STUB_NAME.fullmatch(image.symbols.name(index)) is not None


class _Code(NamedTuple):
    """The code of one section."""

    content: memoryview
    start: int
    """The section's address."""
    encoding: Encoding

    def word(self, offset: int) -> int:
        """The instruction at a section offset; 0 before the section."""
        return self.encoding.word(self.content, offset) if offset >= 0 else 0


def _code(image: LinkedImage, section: int) -> _Code:
    return _Code(image.content(section), image.address(section, 0), image.encoding)


class _Stubs:
    """The stubs that were found, by address."""

    def __init__(
        self,
        image: LinkedImage,
        functions: Functions,
        branches: Mapping[int, Sequence[tuple[int, int]]],
    ) -> None:
        self.by_address: dict[int, int] = {}
        self._image, self._functions, self._branches = image, functions, branches

    def add(self, section: int, offset: int, to: int) -> None:
        """Notes a stub whose first instruction but the store and a nop is at a section offset."""
        if not may_be_stub(self._image, self._functions, section, offset):
            return
        code = _code(self._image, section)
        address = code.start + offset
        self.by_address[address] = to
        before, first = code.word(offset - 4), code.word(offset)
        if before == SAVE_R2:
            self.by_address[address - 4] = to
        aligns = before == insn.NOP and insn.is_prefix(first) and address % 8 == 0
        # A nop that nothing leads to may have been a branch to a weak undefined symbol.
        if aligns and address - 4 in self._entered:
            self.add(section, offset - 4, to)

    @cached_property
    def _entered(self) -> frozenset[int]:
        """The addresses that branches lead to."""
        return frozenset(
            self._image.address(section, 0) + target
            for section, pairs in self._branches.items()
            for target, _ in pairs
        )


def _pc_relative(code: _Code, end: int) -> tuple[int, int] | None:
    """Of the instructions before a section offset that set r12 from their own address: the section
    offset of the first, and r12."""
    first, last = code.word(end - 8), code.word(end - 4)
    if first & 0xFFFC0000 == _PLA_PREFIX and last & 0xFFFF0000 == _PLA_R12:
        distance = insn.signed((first & 0x3FFFF) << 16 | last & 0xFFFF, 34)
        return end - 8, code.start + end - 8 + distance
    low = insn.signed(last & 0xFFFF, 16)
    if last & 0xFFFF0000 == _ADDI_R12_R11:
        at, distance = end - 20, low
    elif last & 0xFFFF0000 == _ADDI_R12_R12 and first & 0xFFFF0000 == _ADDIS_R12_R11:
        at, distance = end - 24, (insn.signed(first & 0xFFFF, 16) << 16) + low
    else:
        return None
    is_taken = at >= 0 and tuple(code.word(at + 4 * word) for word in range(4)) == _PC_TO_R11
    return (at, code.start + at + 8 + distance) if is_taken else None


def _by_register(code: _Code, toc: int | None, pointers: _Pointers) -> Iterator[tuple[int, int]]:
    """(section offset of the first instruction but the store, FUNCTION) of each stub that has
    FUNCTION's address in r12."""
    data, leaves = bytes(code.content), code.encoding.pack_words(*_MTCTR_BCTR)
    at = data.find(leaves)
    while at >= 0:
        first, last = code.word(at - 8), code.word(at - 4)
        if (setup := _pc_relative(code, at)) is not None:
            yield setup
        elif toc is not None and (parts := _by_toc(first, last, toc)) is not None:
            size, address, loaded = parts
            function = pointers.at(address) if loaded else address
            if function is not None:
                yield at - size, function
        at = data.find(leaves, at + 4)


def _by_toc(first: int, last: int, toc: int) -> tuple[int, int, bool] | None:
    """Of the two words before `mtctr r12`: the size in bytes of what is the stub's, the address
    that it comes to, and whether FUNCTION's is loaded from there."""
    loads = last >> 26 == _LD_R12_R2 >> 26
    low = insn.signed(last & (0xFFFC if loads else 0xFFFF), 16)
    operation = last & (0xFFFF0003 if loads else 0xFFFF0000)
    if operation == _LD_R12_R2:
        return 4, toc + low, True
    if operation in (_LD_R12_R12, _ADDI_R12_R12) and first & 0xFFFF0000 == _ADDIS_R12_R2:
        return 8, toc + (insn.signed(first & 0xFFFF, 16) << 16) + low, loads
    return None


def _toc(image: LinkedImage) -> int | None:
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
    """The doublewords of an image, as they will be in memory if the image is not moved."""

    def __init__(self, image: LinkedImage) -> None:
        self._image = image

    def at(self, address: int) -> int | None:
        if (value := self._relative.get(address)) is not None:
            return value
        for index, section in enumerate(self._image.sections):
            start = address - section.sh_addr
            if section.sh_flags & c.SHF_ALLOC and 0 <= start <= section.file_size - 8:
                return self._image.encoding.number(self._image.content(index)[start : start + 8])
        return None

    @cached_property
    def _relative(self) -> dict[int, int]:
        """What is put at addresses when a PIE starts: R_PPC64_RELATIVE in .rela.dyn."""
        values: dict[int, int] = {}
        for index in self._image.sections_named(".rela.dyn"):
            data = self._image.content(index)
            numbers = self._image.encoding.column(data[: len(data) // 24 * 24], "Q")
            for offset, info, addend in zip(*[iter(numbers)] * 3, strict=True):
                if info & 0xFFFFFFFF == R_PPC64_RELATIVE:
                    values[offset] = addend
        return values
