"""Selects what a report shows. What is done, counted and judged is always all of it."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final, NamedTuple, Protocol, TypeVar

from scpatch.differ.model import FunctionDiff, Mark, Role


class Call(Protocol):
    """A call site, as the rewriter or the verifier describes it."""

    @property
    def section_name(self) -> str: ...
    @property
    def function(self) -> str: ...
    @property
    def trampoline(self) -> str: ...
    @property
    def state(self) -> str: ...


_Call = TypeVar("_Call", bound=Call)


class Filter(NamedTuple):
    """Shell patterns, and words for states; without any of a kind, everything of it is shown."""

    functions: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()
    callees: tuple[str, ...] = ()
    states: tuple[str, ...] = ()

    @property
    def active(self) -> bool:
        return any(self)

    def calls(self, calls: Iterable[_Call]) -> list[_Call]:
        """The calls that are shown."""
        return [call for call in calls if self._shows(call)]

    def _shows(self, call: Call) -> bool:
        return (
            _matches(call.section_name, self.sections)
            and _matches(call.function, self.functions)
            and _matches(call.trampoline, self.callees)
            and (not self.states or str(call.state) in self.states)
        )

    def code(self, functions: Iterable[FunctionDiff]) -> list[FunctionDiff]:
        """The functions of a comparison that are shown: for `callees`, those with a row that
        differs and names one."""
        return [
            function
            for function in functions
            if _matches(function.name, self.functions)
            and _matches(function.range.section_name, self.sections)
            and (not self.callees or _names(function, self.callees))
        ]


EVERYTHING: Final = Filter()


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)


def _names(function: FunctionDiff, patterns: tuple[str, ...]) -> bool:
    return any(
        token.role is Role.SYMBOL and _matches(token.text, patterns)
        for hunk in function.hunks()
        for row in hunk
        if row.mark is not Mark.CONTEXT
        for side in (row.before, row.after)
        if side is not None
        for token in side.tokens
    )
