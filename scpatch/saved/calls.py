"""What the analysis is told about a call of a trampoline."""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple


class After(Enum):
    """What is in r2 after a call of a trampoline, and why."""

    STUB = auto()
    """The caller's TOC: a stub saves r2, and the nop becomes the restore."""
    SAVED = auto()
    """The caller's TOC, if r2 is saved before the call: the call cannot have a stub."""
    KEPT = auto()
    """The caller's TOC: something else preserves r2."""
    CLOBBERED = auto()
    """Perhaps another TOC: the call is refused."""


class Call(NamedTuple):
    """A call of a trampoline. Offsets are section offsets in bytes."""

    section: int
    offset: int
    after: After
    needs_nop: bool = False
    """The nop after the call is to become the restore."""
    may_reuse: bool = False
    """The call can do without a stub where r2 is saved before it."""
