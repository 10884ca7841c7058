"""What becomes of call sites."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Action(StrEnum):
    """What becomes of a call site. `Common` has what all strategies do, and each strategy has an
    enumeration of its own for the rest."""

    words: str
    """What reports say of such sites: `to rewrite`."""
    meaning: str
    """What a legend says of the state."""

    def __new__(cls, value: str, words: str, meaning: str) -> Self:
        action = str.__new__(cls, value)
        action._value_ = value
        action.words, action.meaning = words, meaning
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
    UNDECIDED = "undecided", "not decided yet", "no strategy has looked at it"


class Common(Action):
    """What any strategy may say of a call site."""

    DONE = "done", "done already", "the restore of r2 is in place"
    LINKER = "linker", "left to the linker", "the linker saves and restores r2"
    LOADER = "loader", "left to the module loader", "the module loader saves and restores r2"
    NOTOC = "notoc", "not in need of r2", "the caller does not use r2"
    REFUSED = "refused", "refused", "cannot be rewritten, so r2 is lost; the code says why"

    @property
    def changes(self) -> bool:
        return False
