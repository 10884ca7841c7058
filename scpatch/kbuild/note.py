"""What `scpatch rewrite vmlinux.o` says about that object."""

from __future__ import annotations

from pathlib import Path

_NOTE = (
    "note: Kbuild makes {file} for modpost and links the image from vmlinux.a on powerpc; to get "
    "an image that is right, build with LD='scpatch-ld LINKER', or with LD='scpatch-ld --prelink "
    "LINKER' from one object (scpatch kbuild --help)"
)


def note(path: Path) -> str:
    """One line about an object of Kbuild's that is not linked into anything, and how to make a
    build use scpatch; empty for any other file. Known by its name: it has no other mark."""
    return _NOTE.format(file=path) if path.name == "vmlinux.o" else ""
