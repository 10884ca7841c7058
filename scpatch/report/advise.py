"""The report of `advise`: what each strategy would do to each file, and which one to take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from scpatch.advisor import RULE, Advice, Outlook
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
    heading,
    number,
)
from scpatch.report.words import call_sites, count, unread

_TITLES = ("", "sites", "left", "stubs", "trampolines", "bytes", "same TOC", "other TOC")


class AdviseReport(NamedTuple):
    files: Sequence[Advice]
    brief: bool = False
    """Whether a person gets one line for each file with call sites, and the total."""
    failed: Sequence[ScpatchError] = ()

    @property
    def command(self) -> str:
        return "advise"

    def blocks(self) -> Iterator[Block]:
        if self.brief:
            yield from _overview(self.files, self.failed)
        for advice in () if self.brief else self.files:
            yield from _advice(advice)
            yield GAP
        yield Paragraph(RULE)

    def records(self) -> Iterator[Record]:
        for advice in self.files:
            path = advice.path
            for outlook in advice.outlooks:
                state = "possible" if outlook.possible else outlook.code
                if outlook.strategy == advice.recommended:
                    state = "take"
                numbers = [text.replace(",", "") for text in _numbers(outlook)]
                reason = outlook.reason or ", ".join(outlook.codes)
                yield "strategy", path, outlook.strategy, state, *numbers, reason
            applied = ", ".join(advice.applied)
            yield "file", path, advice.kind, advice.sites, advice.recommended, applied
        yield "rule", "", RULE

    def findings(self) -> Iterator[Finding]:
        """The recommendation for each file; among many, for those with call sites."""
        for advice in self.files:
            if self.brief and not advice.sites:
                continue
            left = (
                f"{o.strategy} refuses calls ({', '.join(o.codes)})"
                for o in advice.outlooks
                if o.codes
            )
            message = "; ".join((_conclusion(advice), *left))
            yield Finding(Level.NOTE, "advice", str(advice.path), "", "", message)


def _overview(files: Sequence[Advice], failed: Sequence[ScpatchError]) -> Iterator[Block]:
    called = [advice for advice in files if advice.sites]
    conclusions = Counter(map(_conclusion, called))
    ending = ", ".join(f"{text} for {number:,}" for text, number in conclusions.items())
    sites = call_sites(sum(advice.sites for advice in called))
    total = f"total: {sites} in {len(called):,} of {count(len(files), 'file')}"
    total += (f": {ending}" if ending else "") + unread(failed)
    yield Line((Cell(total, style=Style.HEADING),))
    yield GAP
    if called:
        yield Table(
            [
                (Cell(str(advice.path)), number(advice.sites), Cell(_conclusion(advice)))
                for advice in called
            ],
            columns=("file", "call sites", "advice"),
        )
        yield GAP


def _advice(advice: Advice) -> Iterator[Block]:
    after = f", strategy {' and '.join(advice.applied)}" if advice.applied else ""
    name = Cell(str(advice.path), style=Style.HEADING)
    yield Line((name, Cell(": "), Cell(_conclusion(advice), style=Style.CHANGED)))
    yield Line((Cell(f"{advice.kind}, {call_sites(advice.sites)}{after}"),), indent=2)
    yield GAP
    rows = [
        (Cell(outlook.strategy), *(Cell("", text, right=True) for text in _numbers(outlook)))
        for outlook in advice.outlooks
        if outlook.possible
    ]
    if rows:
        yield Table([heading(*_TITLES), *rows])
        yield GAP
    for outlook in advice.outlooks:
        if not outlook.possible:
            text = f"{outlook.strategy}: {outlook.code} {outlook.reason}"
            yield Paragraph(text, indent=2, hanging=4)
        for note in _notes(outlook):
            yield Paragraph(f"{outlook.strategy}: {note}", indent=2, hanging=4)


def _conclusion(advice: Advice) -> str:
    if advice.recommended:
        return f"take {advice.recommended}"
    if any(outlook.left or not outlook.possible for outlook in advice.outlooks) and advice.sites:
        return "take none: no possible strategy fixes a call"
    return "nothing to do"


def _notes(outlook: Outlook) -> Iterator[str]:
    if outlook.codes:
        yield f"calls left as they are: {', '.join(outlook.codes)}"
    if outlook.possible and outlook.image_only:
        yield "for the kernel image only, never for a module"


def _numbers(outlook: Outlook) -> tuple[str, ...]:
    """Patched sites, calls left wrong, stubs, changed trampolines, bytes of code, and the extra
    instructions per call of a target with the same TOC and with another one."""
    numbers = outlook.sites, outlook.left, outlook.stubs, outlook.trampolines, outlook.code_bytes
    return (*(f"{n:,}" for n in numbers), f"+{outlook.same:.2f}", f"+{outlook.other:.2f}")
