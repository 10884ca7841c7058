"""What a file says about how it was rewritten: a string in its `.comment` section.

Every linker keeps that section, also `ld -r`, and puts equal strings together; it takes no memory
in the running kernel, and no linker script of the kernel knows it not. Shown by
`readelf -p .comment`, as the compiler's version is.
"""

from __future__ import annotations

import re

from scpatch.elf import constants as c
from scpatch.elf.additions import Additions
from scpatch.elf.reader import ElfFile

_SECTION = ".comment"
_NO_TEXT = c.SHF_ALLOC | c.SHF_EXECINSTR | c.SHF_COMPRESSED
_RECORD = re.compile(rb"(?:^|(?<=\0))scpatch strategy ([a-z0-9-]{1,64})(?=\0)")


def find(elf: ElfFile) -> tuple[str, ...]:
    """The names of the strategies that a file was rewritten with, sorted; of files that `ld -r`
    has put together, all of theirs."""
    names = {
        match[1].decode()
        for section in _sections(elf)
        for match in _RECORD.finditer(elf.content(section))
    }
    return tuple(sorted(names))


def add(elf: ElfFile, additions: Additions, strategy: str) -> None:
    """Records a strategy, once."""
    if strategy in find(elf):
        return
    text = b"scpatch strategy %s\0" % strategy.encode()
    sections = _sections(elf)
    if not sections:
        flags = c.SHF_MERGE | c.SHF_STRINGS
        additions.add_section(_SECTION, c.SHT_PROGBITS, flags, text, align=1, entry_size=1)
        return
    last = bytes(elf.content(sections[0])[-1:])
    additions.append(sections[0], text if last in (b"", b"\0") else b"\0" + text)


def remove(elf: ElfFile, additions: Additions, strategy: str) -> None:
    """Removes a strategy's record, for one that undoes it: zeros are empty strings."""
    for section in _sections(elf):
        for match in _RECORD.finditer(elf.content(section)):
            if match[1].decode() == strategy:
                additions.patch(section, match.start(), bytes(match.end() - match.start()))


def _sections(elf: ElfFile) -> list[int]:
    return [
        index
        for index in elf.sections_named(_SECTION)
        if elf.sections[index].sh_type == c.SHT_PROGBITS
        and not elf.sections[index].sh_flags & _NO_TEXT
    ]
