"""Makes SCPATCH_FLAGS and the version of scpatch take part in what make has to link again.

Kbuild saves the command of a link in a file beside the output, `.vmlinux.cmd` or `.NAME.ko.cmd`,
which the next make reads as a makefile. If the command now is another one, it links again. The
options before the linker are part of the command, but SCPATCH_FLAGS is not. So each link notes its
flags in `.tmp_scpatch`, and at the start of the next make the saved command gets a line that
compares SCPATCH_FLAGS with them. make itself then compares, which knows the variable however it was
given: in the environment, on its command line or in a makefile, and on the command lines of other
makes for modules only.

A link by another version of scpatch loses its saved command instead. Kbuild writes that file after
the link, so no link can see to its own.
"""

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from scpatch import __version__
from scpatch.kbuild.locking import locked

_NOTES = ".tmp_scpatch"
"""`make clean` removes it by this name, with the saved commands."""

_LINES = """
# scpatch: flags of this link
define scpatch-flags
{flags}
endef
ifneq ($(strip $(SCPATCH_FLAGS)),$(strip $(scpatch-flags)))
{variable} += linked by scpatch with other flags
endif
"""


class _Note(NamedTuple):
    """A line of the notes, separated by tabs."""

    state: str
    """`new`, or `kept` after the saved command got its lines."""
    version: str
    flags: str
    saved: str
    """The path of the saved command."""


def note_link(output: str) -> None:
    """Notes that this process links `output`: vmlinux, vmlinux.unstripped or a module.

    There is no such file any more: if the link fails, the next make must not take an old one for
    the result of these flags.
    """
    # Linux before 6.13 links an external module from the kernel's object tree, which may be
    # read-only.
    external = os.environ.get("KBUILD_EXTMOD", "")
    root = Path(external if external and output.startswith(f"{external}/") else ".")
    folder, name = os.path.split(output)
    flags = " ".join(os.environ.get("SCPATCH_FLAGS", "").split())
    note = _Note("new", __version__, flags, os.path.join(folder, f".{name}.cmd"))
    with locked(root), open(root / _NOTES, "a", encoding="utf-8", errors="surrogateescape") as file:
        file.write("\t".join(note) + "\n")


def settle(root: Path) -> None:
    """Brings the saved commands of the links noted in a folder up to date, as make starts."""
    # There may be nothing, or another user's tree; and a file may be gone when it is opened.
    with contextlib.suppress(OSError):
        if not (root / _NOTES).exists():
            return
        with locked(root):
            notes = _read(root / _NOTES)
            if all(note.state == "kept" and note.version == __version__ for note in notes):
                return
            kept = [note._replace(state="kept") for note in notes if _settle(note)]
            text = "".join("\t".join(note) + "\n" for note in kept)
            temporary = root / f"{_NOTES}.new"
            temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
            temporary.replace(root / _NOTES)


def _read(path: Path) -> list[_Note]:
    """The last note of each link."""
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    words = [line.split("\t") for line in lines]
    notes = [_Note._make(parts) for parts in words if len(parts) == len(_Note._fields)]
    return list({note.saved: note for note in notes}.values())


def _settle(note: _Note) -> bool:
    """Brings one saved command up to date. Returns whether there is one then."""
    saved = Path(note.saved)
    if note.version != __version__:
        saved.unlink(missing_ok=True)
    if not saved.exists():
        return False
    if note.state == "new":
        with saved.open("r+", encoding="utf-8", errors="surrogateescape") as file:
            variable, assigned, _ = file.readline().partition(" := ")
            file.seek(0, os.SEEK_END)
            if assigned:
                # A backslash at the end of a line would join it with the next.
                flags = note.flags.replace("$", "$$") + " " * note.flags.endswith("\\")
                file.write(_LINES.format(flags=flags, variable=variable))
    return True
