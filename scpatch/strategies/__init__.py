"""The ways to keep r2 right across a static call, each a package of its own in this one.

A strategy is a package with what `Strategy` lists. Its folder makes it known: `livepatch_stack` is
`--strategy livepatch-stack`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from scpatch.linux.offsets import Offsets

if TYPE_CHECKING:
    # The command lines import this package for its names alone.
    from scpatch.elf.additions import Additions
    from scpatch.elf.reader import ElfFile
    from scpatch.sites.model import Plan, Scan, State

DEFAULT = "callsite"


class StrategyOptions(NamedTuple):
    """What the user has said that some strategies take."""

    offsets: Offsets = Offsets()
    """Of the kernel that the object is for."""
    unmark: bool = False
    """Take the marking of `localentry` off the trampolines again."""


class Cost(NamedTuple):
    """Instructions that a call executes more than one whose r2 nobody keeps."""

    same: int
    """Where the target has the caller's TOC."""
    other: int
    """Where it has another."""


class Strategy(Protocol):
    """What each module of this package has."""

    SUMMARY: str
    """One line for lists."""
    TEXT: str
    """What `scpatch explain` prints."""
    # A module may have more: `FOR_MODULES`, the name of the strategy for kernel modules where it
    # does not serve them itself; `IMAGES = True`, where it also takes a linked image; and
    # `replaces(options)`, the names of the strategies that it undoes.

    def cost(self, options: StrategyOptions) -> Mapping[State, Cost]:
        """What a call costs, by what becomes of its site. What the linker adds is counted, and
        the trampolines are taken to be of the form in which computing r2 is a prologue that calls
        skip."""

    def plan(
        self, elf: ElfFile, scan: Scan, additions: Additions, options: StrategyOptions
    ) -> Plan:
        """What is to happen to the object that `scan` was found in. The changes themselves go
        into `additions`; the sites of the plan are those of `scan`, with what becomes of them.

        Raises ScpatchError where it cannot be applied to the object at all.
        """


def replaced(strategy: Strategy, options: StrategyOptions) -> frozenset[str]:
    """The names of the strategies that another one undoes, for a file that they were applied to:
    what its module's `replaces(options)` says, if it has that."""
    replaces = getattr(strategy, "replaces", None)
    found: frozenset[str] = replaces(options) if replaces is not None else frozenset()
    return found


def for_modules(name: str) -> str:
    """The strategy for the modules of a kernel whose image is rewritten with another: what its
    module names in FOR_MODULES, if it has that, else the same."""
    found: str = getattr(load(name), "FOR_MODULES", name)
    return found


def names() -> tuple[str, ...]:
    """The names of all strategies, sorted."""
    from pkgutil import iter_modules

    return tuple(sorted(one.name.replace("_", "-") for one in iter_modules(__path__) if one.ispkg))


@cache
def load(name: str) -> Strategy:
    """The strategy of a name. Only what is asked for is imported. Raises KeyError."""
    if name != DEFAULT and name not in names():
        raise KeyError(name)
    return cast("Strategy", import_module(f"{__name__}.{name.replace('-', '_')}"))


def serves_modules(name: str) -> bool:
    """Whether a strategy can be applied to a kernel module. Raises KeyError."""
    return for_modules(name) == name


def takes_images(name: str) -> bool:
    """Whether a strategy can be applied to a linked image. Raises KeyError."""
    return bool(getattr(load(name), "IMAGES", False))


def options(
    asm_offsets: Path | None, paca_toc_offset: int | None, *, unmark: bool
) -> StrategyOptions:
    """The options as a user gives them. Raises ScpatchError for a file without offsets."""
    offsets = Offsets()
    if asm_offsets is not None:
        from scpatch.linux.offsets import read_asm_offsets

        offsets = read_asm_offsets(asm_offsets)
    if paca_toc_offset is not None:
        offsets = offsets._replace(paca_toc=paca_toc_offset)
    return StrategyOptions(offsets, unmark)
