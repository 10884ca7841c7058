"""Whether the linker left the head of a powerpc kernel in its place.

The head (arch/powerpc/kernel/head_64.S and exceptions-64s.S) is laid out by the assembler: its
parts are at fixed offsets from the first instruction, and `text_start` is the offset at which it
expects `.text`. If the linker puts stubs of its own in front of a part, branches of the head go
astray, and the kernel does not boot. The kernel's build has the same check,
arch/powerpc/tools/head_check.sh; but Linux 7.3 links vmlinux under another name and never runs it.
"""

from __future__ import annotations

from pathlib import Path

from scpatch.elf import constants as c
from scpatch.elf.image import LinkedImage
from scpatch.errors import ScpatchError
from scpatch.files.inputs import open_input


def check_head(image: Path) -> None:
    """Raises ScpatchError SCP403 if `image`, a linked vmlinux, has a part of its head elsewhere.

    An image without the symbols has no such head.
    """
    with open_input(image) as source:
        linked = LinkedImage(source.data, str(image))
        offsets = _addresses(linked, b"text_start", absolute=True)
        for start in _addresses(linked, b"_stext"):
            _check(image, "start_first_256B", _addresses(linked, b"start_first_256B"), start)
            for offset in offsets:
                _check(image, "start_text", _addresses(linked, b"start_text"), start + offset)


def _addresses(image: LinkedImage, name: bytes, *, absolute: bool = False) -> list[int]:
    """Those of all symbols of that name: of the absolute ones, or of those in sections."""
    symbols = image.symbols
    if symbols is None:
        return []
    found = [(symbols.section_index(i), i) for i in symbols.with_prefix(name + b"\0")]
    if absolute:
        return [symbols.st_value[index] for section, index in found if section == c.SHN_ABS]
    sections = range(1, len(image.sections))
    return [
        image.address(section, symbols.st_value[index])
        for section, index in found
        if section in sections
    ]


def _check(image: Path, name: str, addresses: list[int], expected: int) -> None:
    if addresses and expected not in addresses:
        raise ScpatchError(
            "SCP403",
            f"the linker moved {name} to {addresses[0]:#x}; the head expects it at {expected:#x}",
            file=str(image),
        )
