"""The options of a plan."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, NamedTuple, Self, TypeVar

from scpatch import strategies
from scpatch.linux.offsets import Offsets
from scpatch.sites.choices import DEFAULT_TRAMPOLINES, Choices, Hoist, NoNop, Undefined

_NO_OFFSETS = Offsets()


class Lines(StrEnum):
    """The call sites whose source lines are looked up."""

    ALL = "all"
    REFUSED = "refused"
    NONE = "none"


class _Options(NamedTuple):
    strategy: str | None
    trampolines: tuple[str, ...]
    undefined: Undefined
    no_nop: NoNop
    hoist: Hoist
    unmark: bool
    offsets: Offsets
    emit_sites: bool
    strip_signature: bool
    lines: Lines
    image_functions: frozenset[str]


class Options(_Options):
    """The options of `scan`, `plan`, `rewrite`, `verify` and `advise`; immutable.

    `strategy`: the name of a strategy, or None to change nothing.
    `trampolines`: shell patterns of trampoline names.
    `undefined`, `no_nop`, `hoist`, `lines`: members of their enums, or the values of members.
    `unmark`: undo the marks that an earlier rewrite left on trampolines.
    `offsets`: what some strategies need of the kernel; see `read_asm_offsets`.
    `emit_sites`: add the table of call sites, `.static_call_sites`.
    `strip_signature`: rewrite a signed module, without its signature.
    `image_functions`: names of functions that the image defines which the objects are linked into,
    and that return with r2 as it was; `hoist` uses the nops after calls of them.

    Raises ValueError for a value that is not valid.
    """

    __slots__ = ()

    def __new__(
        cls,
        strategy: str | None = strategies.DEFAULT,
        *,
        trampolines: Iterable[str] = DEFAULT_TRAMPOLINES,
        undefined: Undefined | str = Undefined.AUTO,
        no_nop: NoNop | str = NoNop.REFUSE,
        hoist: Hoist | str = Hoist.AUTO,
        unmark: bool = False,
        offsets: Offsets = _NO_OFFSETS,
        emit_sites: bool = False,
        strip_signature: bool = False,
        lines: Lines | str = Lines.REFUSED,
        image_functions: frozenset[str] = frozenset(),
    ) -> Self:
        if strategy not in (None, strategies.DEFAULT) and strategy not in strategies.names():
            known = ", ".join(strategies.names())
            raise ValueError(f"strategy is {strategy!r}, not one of {known}")
        patterns = () if isinstance(trampolines, str) else tuple(trampolines)
        if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
            raise ValueError(f"trampolines is {trampolines!r}, not a sequence of patterns")
        flags = {"unmark": unmark, "emit_sites": emit_sites, "strip_signature": strip_signature}
        for name, flag in flags.items():
            if not isinstance(flag, bool):
                raise ValueError(f"{name} is {flag!r}, not True or False")
        for name, offset in offsets._asdict().items():
            if offset is not None and not isinstance(offset, int):
                raise ValueError(f"offsets.{name} is {offset!r}, not a number of bytes")
        return super().__new__(
            cls,
            strategy,
            patterns,
            _member(Undefined, "undefined", undefined),
            _member(NoNop, "no_nop", no_nop),
            _member(Hoist, "hoist", hoist),
            unmark,
            offsets,
            emit_sites,
            strip_signature,
            _member(Lines, "lines", lines),
            image_functions,
        )

    @classmethod
    def _make(cls, iterable: Iterable[Any]) -> Self:  # type: ignore[override]
        # `_replace` makes the new one with this.
        return cls(**dict(zip(cls._fields, iterable, strict=True)))

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]:
        # For `pickle`.
        return (), self._asdict()

    @property
    def choices(self) -> Choices:
        """What the scan for call sites takes."""
        words = self.undefined, self.no_nop, self.unmark, self.hoist
        return Choices(self.trampolines, *words, self.image_functions)


_Choice = TypeVar("_Choice", bound=StrEnum)


def _member(kind: type[_Choice], name: str, value: str) -> _Choice:
    """The member of an enum; ValueError for a value that it does not have."""
    try:
        return kind(value)
    except ValueError:
        raise ValueError(f"{name} is {value!r}, not one of {', '.join(kind)}") from None
