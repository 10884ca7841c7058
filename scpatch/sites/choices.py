"""The choices that a user has about call sites. Light to import: the command lines list them."""

from __future__ import annotations

from enum import StrEnum


class Undefined(StrEnum):
    """Call sites of trampolines that the object does not define."""

    AUTO = "auto"
    """SKIP in a linked kernel module, REWRITE in any other object."""
    REWRITE = "rewrite"
    SKIP = "skip"
    """Leave them to the module loader, which saves and restores r2."""


class NoNop(StrEnum):
    """Calls that no usable nop follows."""

    REFUSE = "refuse"
    THUNK = "thunk"
    """Send each through its own thunk, which restores r2."""


class Hoist(StrEnum):
    """Whether the nop after an earlier call of the function may save r2."""

    AUTO = "auto"
    """In linked kernel modules."""
    KERNEL = "kernel"
    """Also in objects that will be linked into a kernel."""
    NEVER = "never"
