"""The report of `check`: what is wrong first, then what is not shown, and one total."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, TypeVar

from scpatch.errors import ScpatchError
from scpatch.report.blocks import (
    GAP,
    Block,
    Cell,
    Finding,
    Level,
    Line,
    Paragraph,
    Record,
    Style,
    Table,
    note_shown,
)
from scpatch.report.filters import EVERYTHING, Filter
from scpatch.report.places import code_place, place_cells, place_fields, place_text
from scpatch.report.words import call_sites, count, unread
from scpatch.verifier.check import CheckedCall, CheckVerdict, Kind
from scpatch.verifier.reasons import every_reason
from scpatch.verifier.types import Common
from scpatch.verifier.verdict import Result, worst

WORDS: Final = {
    Result.PROVEN: "right",
    Result.NOT_SHOWN: "not shown",
    Result.NOT_PROVEN: "wrong",
}
"""What a call is, and a file by the worst of its calls."""
_MARKS: Final = {Result.PROVEN: "ok", Result.NOT_SHOWN: "??", Result.NOT_PROVEN: "BAD"}


class CheckReport(NamedTuple):
    verdicts: Sequence[CheckVerdict]
    failed: Sequence[ScpatchError] = ()
    """Why files could not be read."""
    verbose: bool = False
    """Whether each call is listed."""
    shown: Filter = EVERYTHING

    @property
    def command(self) -> str:
        return "check"

    def blocks(self) -> Iterator[Block]:
        yield Line((Cell(summary(self.verdicts, self.failed), style=Style.HEADING),))
        for verdict in _worst_first(self.verdicts):
            shown = self.shown.calls(verdict.calls)
            listed = shown if self.verbose or self.shown.active else _not_right(shown)
            if listed or verdict.errors or (self.verbose and verdict.calls):
                yield GAP
                yield from _file(verdict, listed, self.shown)
        right = [verdict for verdict in self.verdicts if verdict.proven and verdict.calls]
        if right and not (self.verbose or self.shown.active):
            yield GAP
            yield Table([_overview(verdict) for verdict in right], indent=0)
        hints = [text for text in map(hint, self.verdicts) if text]
        for text in dict.fromkeys(hints):
            yield GAP
            yield Paragraph(text, hanging=2, lead=Cell("hint:"))

    def records(self) -> Iterator[Record]:
        for verdict in self.verdicts:
            for call in self.shown.calls(verdict.calls):
                yield (
                    *("site", verdict.label, *place_fields(call)),
                    *(call.trampoline, call.reason, WORDS[call.result], call.why),
                )
            for error in verdict.errors:
                yield "error", verdict.label, error
            yield "verdict", verdict.label, str(verdict.kind), WORDS[verdict.result]

    def findings(self) -> Iterator[Finding]:
        """What is wrong, and what was not shown."""
        for verdict in _worst_first(self.verdicts):
            for error in verdict.errors:
                yield Finding(Level.ERROR, "not shown", verdict.label, "", "", error)
            for call in _worst_first(_not_right(self.shown.calls(verdict.calls))):
                level = Level.ERROR if call.result is Result.NOT_PROVEN else Level.WARNING
                message = f"call of {call.trampoline}: {call.why}"
                yield Finding(
                    *(level, WORDS[call.result], verdict.label, place_text(call), "", message),
                    *(hint(verdict), code_place(call)),
                )


def summary(verdicts: Sequence[CheckVerdict], failed: Sequence[ScpatchError] = ()) -> str:
    """`WRONG: 12 call sites in 2 of 30 objects: 9 right (9 stub), 2 wrong, 1 not shown`"""
    calls = [call for verdict in verdicts for call in verdict.calls]
    called = sum(bool(verdict.calls) for verdict in verdicts)
    results = Counter(call.result for call in calls)
    result = worst(verdict.result for verdict in verdicts)
    if failed and result is Result.PROVEN:
        result = Result.NOT_SHOWN
    text = WORDS[result] if result is Result.PROVEN else WORDS[result].upper()
    text += f": {call_sites(len(calls))} in {called:,} of {count(len(verdicts), 'object')}"
    parts = [_right(calls)] if results[Result.PROVEN] else []
    for other in (Result.NOT_PROVEN, Result.NOT_SHOWN):
        parts += [f"{results[other]:,} {WORDS[other]}"] if results[other] else []
    text += f": {', '.join(parts)}" if parts else ""
    if errors := sum(bool(verdict.errors) for verdict in verdicts):
        text += f"; {count(errors, 'object')} cannot be judged"
    return text + unread(failed)


def hint(verdict: CheckVerdict) -> str:
    """What to do about the calls of a file that are not right; empty if nothing is known."""
    results = {call.result for call in verdict.calls}
    if Result.NOT_PROVEN in results:
        if verdict.kind is Kind.IMAGE:
            return "rewrite the objects that the image is linked from, for example with scpatch-ld"
        return "`scpatch rewrite` patches such calls; `scpatch advise` compares the strategies"
    if any(call.reason is Common.RESTORED for call in verdict.calls):
        return "`scpatch verify BEFORE FILE` compares with the file as it was compiled"
    if Result.NOT_SHOWN in results:
        return "check the module or the image that the object is linked into, too"
    return ""


_Part = TypeVar("_Part", CheckVerdict, CheckedCall)


def _worst_first(parts: Iterable[_Part]) -> list[_Part]:
    order = tuple(Result)
    return sorted(parts, key=lambda part: -order.index(part.result))


def _right(calls: Iterable[CheckedCall]) -> str:
    """`9 right (7 stub, 2 saved)`"""
    reasons = Counter(call.reason for call in calls if call.result is Result.PROVEN)
    names = (reason for reason in every_reason() if reason in reasons)
    shown = ", ".join(f"{reasons[reason]:,} {reason}" for reason in names)
    return f"{reasons.total():,} right ({shown})"


def mark_cell(result: Result) -> Cell:
    """Whether a call is right, or all calls of a file."""
    return Cell("", _MARKS[result], Style.NEW if result is Result.PROVEN else Style.REFUSED)


def _overview(verdict: CheckVerdict) -> tuple[Cell, ...]:
    return (
        mark_cell(verdict.result),
        Cell(verdict.label),
        Cell("", str(verdict.kind)),
        Cell(f"{call_sites(len(verdict.calls))}: {_right(verdict.calls)}"),
    )


def _not_right(calls: Iterable[CheckedCall]) -> list[CheckedCall]:
    return [call for call in calls if call.result is not Result.PROVEN]


def _file(verdict: CheckVerdict, listed: Sequence[CheckedCall], shown: Filter) -> Iterator[Block]:
    """What is wrong with a file, and the calls of it that are listed."""
    yield Line((Cell(verdict.label, style=Style.HEADING), Cell(f"   {verdict.kind}")))
    for error in verdict.errors:
        yield Line((Cell("error", style=Style.REFUSED), Cell(f" {error}")), indent=2)
    if shown.active:
        yield note_shown(len(listed), len(verdict.calls), "call site")
    first = {call.why: index for index, call in reversed([*enumerate(listed)])}
    calls = _worst_first(sorted(listed, key=lambda call: first[call.why]))
    last = {(call.result, call.why): index for index, call in enumerate(calls)}
    notes = {at: [Paragraph(why, indent=8, hanging=2)] for (_, why), at in last.items()}
    if calls:
        columns = ("result", "place", "function", "trampoline", "state")
        yield Table([_cells(call) for call in calls], notes=notes, columns=columns)
    left = len(verdict.calls) - len(calls)
    if left and not shown.active:
        yield Line((Cell(f"{left:,} more: {_right(verdict.calls)}"),), indent=2)


def _cells(call: CheckedCall) -> tuple[Cell, ...]:
    return (
        mark_cell(call.result),
        *place_cells(call),
        Cell(call.trampoline),
        Cell("", WORDS[call.result]),
    )
