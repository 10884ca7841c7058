"""Offsets of the kernel's fields that some strategies need.

Kbuild writes them to include/generated/asm-offsets.h (arch/powerpc/kernel/asm-offsets.c). They
differ between configurations, so none of them may be guessed.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from scpatch.errors import ScpatchError

_DEFINE = re.compile(r"^#define (\w+) (\d+)\b", re.MULTILINE)


class Offsets(NamedTuple):
    """Offsets in bytes; None if unknown."""

    paca_toc: int | None = None
    """PACATOC: the kernel's TOC pointer, from r13."""
    paca_thread_info: int | None = None
    """PACA_THREAD_INFO: the pointer to the running thread's thread_info, from r13."""
    livepatch_sp: int | None = None
    """TI_livepatch_sp: the top of the livepatch stack, from the thread_info."""


NAMES: Final[Mapping[str, str]] = {
    "paca_toc": "PACATOC",
    "paca_thread_info": "PACA_THREAD_INFO",
    "livepatch_sp": "TI_livepatch_sp",
}
"""Their names in asm-offsets.h."""


def read_asm_offsets(path: str | os.PathLike[str]) -> Offsets:
    """The offsets in a generated asm-offsets.h. Raises SCP109 if it cannot be read, SCP115 if it
    has none of them."""
    try:
        text = Path(path).read_text("utf-8", "replace")
    except OSError as error:
        hint = "`make prepare` makes include/generated/asm-offsets.h in the folder of the build"
        reason = f"cannot read: {error.strerror}"
        raise ScpatchError("SCP109", reason, file=str(path), hint=hint) from error
    defined = {name: int(value) for name, value in _DEFINE.findall(text)}
    known = {field: defined[name] for field, name in NAMES.items() if name in defined}
    if not known:
        what = f"it defines none of {', '.join(NAMES.values())}"
        raise ScpatchError("SCP115", what, file=str(path))
    return Offsets(**known)
