"""Writes the build step into a kernel tree, and takes it out again.

One new file has the rules; the tree's own files get a few lines each, next to lines that are known,
between marks. A second run replaces what is between the marks, so that it changes nothing, or
brings the step up to date. All files are checked before the first is written.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from scpatch.errors import Exit, ScpatchError
from scpatch.options import Values

RULES = "scripts/Makefile.scpatch"
_BEGIN = "# scpatch: begin"
_END = "# scpatch: end"
_SIGNATURE = b"written by `scpatch kbuild edit`"


class Insertion(NamedTuple):
    """Lines to be put into a file."""

    file: str
    anchor: str
    """A regular expression that one line of the file matches, and only one."""
    after: bool
    """Whether the lines go behind the anchor; else in front of it."""
    text: str


INSERTIONS = (
    Insertion(
        "Makefile",
        r"export quiet Q KBUILD_VERBOSE",
        True,
        "SCPATCH ?= scpatch\nexport SCPATCH SCPATCH_FLAGS\n",
    ),
    Insertion(
        "Makefile",
        r"MRPROPER_FILES \+= .*",
        False,
        "CLEAN_FILES += $(foreach archive,vmlinux.a $(KBUILD_VMLINUX_LIBS), \\\n"
        "\t$(archive:.a=.scpatch.a) $(archive:.a=.scpatch.a.members))\n",
    ),
    Insertion(
        "scripts/Makefile.vmlinux",
        r"targets \+= vmlinux",
        False,
        "include $(srctree)/scripts/Makefile.scpatch\n",
    ),
    Insertion(
        "scripts/Makefile.modfinal",
        r"quiet_cmd_btf_ko = .*",
        False,
        "include $(srctree)/scripts/Makefile.scpatch\n",
    ),
    Insertion(
        "scripts/link-vmlinux.sh",
        r'\s*libs="\$\{KBUILD_VMLINUX_LIBS\}"',
        True,
        '\t\tif [ -n "${SCPATCH}" ]; then\n'
        "\t\t\tobjs=vmlinux.scpatch.a\n"
        '\t\t\tlibs=$(for lib in ${libs}; do echo "${lib%.a}.scpatch.a"; done)\n'
        "\t\tfi\n",
    ),
)


def run(values: Values) -> Exit:
    """Edits the tree and prints the names of the changed files."""
    for name in edit(values.tree, undo=values.undo):
        print(name)
    return Exit.OK


def edit(tree: Path, *, undo: bool = False) -> list[str]:
    """Puts the step into the kernel tree, or takes it out; returns the files that changed,
    relative to the tree. Raises ScpatchError SCP402, SCP109, SCP110; nothing is written then."""
    if not (tree / "arch/powerpc/kernel").is_dir() or not (tree / "Kbuild").is_file():
        raise _unexpected(tree, "no source tree of Linux with arch/powerpc in it")
    new: dict[Path, str | None] = {}
    for name in dict.fromkeys(one.file for one in INSERTIONS):
        path = tree / name
        old = _read(path)
        text = _without_blocks(path, old)
        if not undo:
            for one in INSERTIONS:
                if one.file == name:
                    text = _with_block(path, text, one)
        if text != old:
            new[path] = text
    new.update(_rules(tree / RULES, undo=undo))
    for path, content in new.items():
        _write(path, content)
    return [str(path.relative_to(tree)) for path in new]


def _rules(path: Path, *, undo: bool) -> Iterator[tuple[Path, str | None]]:
    """What is to become of the new file: None is for its removal."""
    ours = (Path(__file__).parent / "Makefile.scpatch").read_text()
    if not path.exists():
        if not undo:
            yield path, ours
        return
    old = _read(path)
    if _SIGNATURE.decode() not in old:
        raise _unexpected(path, "the file is there, and `scpatch kbuild edit` did not write it")
    if undo:
        yield path, None
    elif old != ours:
        yield path, ours


def _without_blocks(path: Path, text: str) -> str:
    """The text without what an earlier run inserted."""
    kept: list[str] = []
    inside = False
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        mark = line.strip()
        if mark in (_BEGIN, _END) and inside != (mark == _END):
            raise _unexpected(path, f"line {number}: `{mark}` without its other half")
        if mark in (_BEGIN, _END):
            inside = mark == _BEGIN
        elif not inside:
            kept.append(line)
    if inside:
        raise _unexpected(path, f"`{_BEGIN}` without its other half")
    return "".join(kept)


def _with_block(path: Path, text: str, insertion: Insertion) -> str:
    lines = text.splitlines(keepends=True)
    found = [i for i, line in enumerate(lines) if re.fullmatch(insertion.anchor, line.rstrip("\n"))]
    if len(found) != 1:
        times = f"{len(found)} times" if found else "nowhere"
        raise _unexpected(path, f"a line like `{insertion.anchor}` is there {times}, not once")
    at = found[0] + insertion.after
    indent = re.match(r"\s*", lines[found[0]])
    front = indent.group().strip("\n") if indent else ""
    block = f"{front}{_BEGIN}\n{insertion.text}{front}{_END}\n"
    return "".join([*lines[:at], block, *lines[at:]])


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ScpatchError("SCP109", f"cannot read: {reason}", file=str(path)) from error


def _write(path: Path, content: str | None) -> None:
    """Replaces a file as a whole and keeps its mode: scripts/link-vmlinux.sh is executable."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.scpatch")
    try:
        if content is None:
            path.unlink()
            return
        temporary.write_bytes(content.encode())
        temporary.chmod(path.stat().st_mode & 0o7777 if path.exists() else 0o644)
        temporary.replace(path)
    except OSError as error:
        raise ScpatchError("SCP110", f"cannot write: {error.strerror}", file=str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _unexpected(path: Path, message: str) -> ScpatchError:
    return ScpatchError("SCP402", message, file=str(path))
