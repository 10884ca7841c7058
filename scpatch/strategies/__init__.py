"""The ways to preserve r2 across a static call, each in a folder of its own.

The folder's name makes a strategy known: `_` in it is `-` on the command line. The folder has a
`STRATEGY`, an instance of `Strategy`. What several strategies need to add code stands beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    # The command lines import this package for its names alone.
    from scpatch.linux.offsets import Offsets
    from scpatch.sites.actions import Action
    from scpatch.sites.choices import Choices
    from scpatch.strategies.base import Strategy

DEFAULT = "callsite"
AUTO = "auto"
"""In place of a name, where it is known what goes into the kernel's image and what is a module."""


def load(name: str) -> Strategy:
    """The strategy of a name. Only what is asked for is imported. Raises KeyError."""
    if name != DEFAULT and name not in names():
        raise KeyError(name)
    return cast("Strategy", import_module(folder(name)).STRATEGY)


def folder(name: str) -> str:
    """The package of a strategy."""
    return f"{__name__}.{name.replace('-', '_')}"


@cache
def names() -> tuple[str, ...]:
    """The names of all strategies, sorted."""
    from pkgutil import iter_modules

    folders = (module.name for module in iter_modules(__path__) if module.ispkg)
    return tuple(sorted(folder.replace("_", "-") for folder in folders))


def every_action() -> tuple[Action, ...]:
    """What any strategy may do with a call site, in the order of reports."""
    from scpatch.sites.actions import Common

    kinds: list[type[Action]] = [load(name).actions for name in names()]
    kinds.append(Common)
    every = dict.fromkeys(action for kind in kinds for action in kind)
    return tuple(sorted(every, key=lambda action: action.rank[:2]))


def for_modules(name: str) -> str:
    """The strategy for the modules of a kernel whose image is rewritten with another one."""
    return name if name != AUTO and load(name).modules else DEFAULT


def for_images(choices: Choices, offsets: Offsets) -> str:
    """The strategy that AUTO stands for in the image of a kernel with `offsets`."""
    suiting = (name for name in names() if load(name).suits_images(choices, offsets))
    return next(suiting, DEFAULT)


def undone(recorded: Sequence[str], choices: Choices) -> frozenset[str]:
    """Of the strategies that a file records, those that `choices` undo."""
    if not recorded or recorded == (DEFAULT,):
        return frozenset()
    known = [name for name in recorded if name in names()]
    return frozenset(name for name in known if load(name).is_undone(choices))
