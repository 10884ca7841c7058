"""What becomes of call sites."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Action(StrEnum):
    """What becomes of a call site. `Common` has what all strategies do, and each strategy has an
    enumeration of its own for the rest."""

    words: str
    """What reports say of such sites: `to rewrite`."""

    def __new__(cls, value: str, words: str) -> Self:
        action = str.__new__(cls, value)
        action._value_ = value
        action.words = words
        return action

    @property
    def changes(self) -> bool:
        """Whether the instructions or relocations of the site change."""
        return True

    @property
    def rank(self) -> tuple[int, ...]:
        """The order in reports: what changes first, what all strategies have last."""
        return not self.changes, isinstance(self, Common), list(type(self)).index(self)


class Undecided(Action):
    UNDECIDED = "undecided", "not decided yet"


class Common(Action):
    """What any strategy may say of a call site."""

    DONE = "done", "done already"
    """The restore is in place."""
    LINKER = "linker", "left to the linker"
    LOADER = "loader", "left to the module loader"
    NOTOC = "notoc", "not in need of r2"
    REFUSED = "refused", "refused"
    """Cannot be rewritten; `code` says why."""

    @property
    def changes(self) -> bool:
        return False
