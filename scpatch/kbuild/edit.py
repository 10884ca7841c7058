"""Writes the build step into a kernel tree, and takes it out again.

One new file has the rules. The tree's files get a few lines each, between marks, next to known
lines. A second run replaces what is between the marks: it changes nothing, or brings the step up to
date. All files are checked before the first is written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from scpatch.errors import Exit, ScpatchError
from scpatch.files.inputs import cannot_read, open_input
from scpatch.files.output import Staged, cannot_write, commit, discard, stage_text
from scpatch.kbuild import copies
from scpatch.options import Values

RULES = "scripts/Makefile.scpatch"
_BEGIN = "# scpatch: begin"
_END = "# scpatch: end"
_BLOCK = re.compile(rf"^[ \t]*{_BEGIN}\n(?:(?![ \t]*# scpatch: ).*\n)*[ \t]*{_END}\n", re.MULTILINE)
_SIGNATURE = "written by `scpatch kbuild edit`"


class Insertion(NamedTuple):
    """Lines to be put into a file."""

    file: str
    anchor: str
    """A regular expression for whole lines, which the file has exactly once."""
    after: bool
    """Whether the lines go after the anchor, or before it."""
    text: str


_LINKS_NOTHING = (
    "%clean mrproper help% %docs config %config %install modules_sign headers% "
    "kernelrelease kernelversion image_name tags TAGS cscope gtags"
)

INSERTIONS = (
    Insertion(
        "Makefile",
        r"export quiet Q KBUILD_VERBOSE",
        True,
        f"""\
SCPATCH ?= scpatch
export SCPATCH SCPATCH_FLAGS
# A wrong option or a missing program ends the build here, before anything is compiled.
ifneq ($(SCPATCH),)
ifneq ($(filter-out {_LINKS_NOTHING},$(or $(MAKECMDGOALS),all)),)
ifneq ($(findstring scpatch-ld,$(LD)),)
$(error the tree runs scpatch itself: leave scpatch-ld out of LD, or make SCPATCH=)
endif
export SCPATCH_BUILD := $(shell $(SCPATCH) kbuild step $(SCPATCH_FLAGS))
ifeq ($(SCPATCH_BUILD),)
$(error cannot run $(SCPATCH) with SCPATCH_FLAGS=$(SCPATCH_FLAGS): see above, or make SCPATCH=)
endif
endif
endif
""",
    ),
    Insertion(
        "Makefile",
        r"MRPROPER_FILES \+= .*",
        False,
        f"CLEAN_FILES += {copies.FOLDER}\n",
    ),
    # The target is vmlinux, $(vmlinux-final) since 6.14, or vmlinux.unstripped since 6.17.
    Insertion(
        "scripts/Makefile.vmlinux",
        r"\S+: scripts/link-vmlinux\.sh .*\n\t\+?\$\(call if_changed_dep,link_vmlinux\)",
        False,
        "include $(srctree)/scripts/Makefile.scpatch\n",
    ),
    Insertion(
        "scripts/Makefile.modfinal",
        r"quiet_cmd_btf_ko = .*",
        False,
        "include $(srctree)/scripts/Makefile.scpatch\n",
    ),
)
_FORMER = ("scripts/link-vmlinux.sh",)
"""Files with lines of earlier versions of the step."""


def run(values: Values) -> Exit:
    """Edits the tree and prints the names of the changed files."""
    for name in edit(values.tree, undo=values.undo):
        print(name)
    return Exit.OK


def edit(tree: Path, *, undo: bool = False) -> list[str]:
    """Puts the step into the kernel tree, or takes it out. Returns the changed files, relative to
    the tree. Raises ScpatchError SCP402, SCP109, SCP110; then nothing is written."""
    if not (tree / "arch/powerpc/kernel").is_dir() or not (tree / "Kbuild").is_file():
        raise _unexpected(tree, "no source tree of Linux with arch/powerpc in it")
    old: dict[str, str | None] = {}
    new: dict[str, str | None] = {}
    for name in dict.fromkeys((*(insertion.file for insertion in INSERTIONS), *_FORMER)):
        if not (tree / name).exists():
            raise _unexpected(tree / name, "no such file: the step is for Linux 6.1 and later")
        old[name] = text = _read(tree / name)
        text = _without_blocks(tree / name, text)
        for insertion in () if undo else INSERTIONS:
            if insertion.file == name:
                text = _with_block(tree / name, text, insertion)
        new[name] = text
    old[RULES] = _read(tree / RULES) if (tree / RULES).exists() else None
    if _SIGNATURE not in (old[RULES] or _SIGNATURE):
        message = "the file is there, and `scpatch kbuild edit` did not write it"
        raise _unexpected(tree / RULES, message)
    new[RULES] = None if undo else (Path(__file__).parent / "Makefile.scpatch").read_text()
    changed = {name: text for name, text in new.items() if text != old[name]}
    _write(tree, changed)
    return list(changed)


def _without_blocks(path: Path, text: str) -> str:
    """The text without what an earlier run inserted."""
    text = _BLOCK.sub("", text)
    if mark := re.search(f"{_BEGIN}|{_END}", text):
        raise _unexpected(path, f"`{mark.group()}` without its other half")
    return text


def _with_block(path: Path, text: str, insertion: Insertion) -> str:
    anchors = list(re.finditer(rf"^(?:{insertion.anchor})\n", text, re.MULTILINE))
    if len(anchors) != 1:
        times = f"{len(anchors)} times" if anchors else "nowhere"
        raise _unexpected(path, f"a line like `{insertion.anchor}` is there {times}, not once")
    line = anchors[0].group()
    indent = line[: len(line) - len(line.lstrip())]
    block = f"{indent}{_BEGIN}\n{insertion.text}{indent}{_END}\n"
    at = anchors[0].end() if insertion.after else anchors[0].start()
    return text[:at] + block + text[at:]


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise cannot_read(path, error) from error


def _write(tree: Path, texts: Mapping[str, str | None]) -> None:
    """Replaces files, all or none, and keeps their modes; removes those without a text."""
    staged: list[Staged] = []
    try:
        for name, text in texts.items():
            if text is not None:
                model = tree / name if (tree / name).exists() else tree / "Makefile"
                with open_input(model) as source:
                    staged.append(stage_text(tree / name, text, source.descriptor))
        commit(staged)
    finally:
        discard(staged)
    for name in (name for name, text in texts.items() if text is None):
        try:
            (tree / name).unlink()
        except OSError as error:
            raise cannot_write(tree / name, error) from error


def _unexpected(path: Path, message: str) -> ScpatchError:
    return ScpatchError("SCP402", message, file=str(path))
