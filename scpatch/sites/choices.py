"""The choices that a user has about call sites. Light to import: the command lines list them."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, NamedTuple, Self

DEFAULT_TRAMPOLINES = ("__SCT__*",)


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


class _Choices(NamedTuple):
    trampolines: tuple[str, ...]
    """Shell patterns of trampoline names."""
    undefined: Undefined
    no_nop: NoNop
    unmark: bool
    """Treat marked trampolines (st_other bits 5-7 = 1) as unmarked, as they will be."""
    hoist: Hoist
    image_functions: frozenset[str]
    """Names of functions that the image defines which an object is linked into; a call of one
    returns with r2 as it was. Only a link knows them."""


class Choices(_Choices):
    """What the user may choose about call sites. Raises ValueError for an unknown word."""

    __slots__ = ()

    def __new__(
        cls,
        trampolines: Iterable[str] = DEFAULT_TRAMPOLINES,
        undefined: Undefined | str = Undefined.AUTO,
        no_nop: NoNop | str = NoNop.REFUSE,
        unmark: bool = False,
        hoist: Hoist | str = Hoist.AUTO,
        image_functions: frozenset[str] = frozenset(),
    ) -> Self:
        words = Undefined(undefined), NoNop(no_nop), unmark, Hoist(hoist)
        return super().__new__(cls, tuple(trampolines), *words, image_functions)

    @classmethod
    def _make(cls, iterable: Iterable[Any]) -> Self:  # type: ignore[override]
        # `_replace` makes the new one with this.
        return cls(*iterable)
