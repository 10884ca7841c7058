"""The report of `verify`: why r2 is right after each call, and how each ran in both versions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

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
    legend,
    note_shown,
)
from scpatch.report.check import mark_cell
from scpatch.report.filters import EVERYTHING, Filter
from scpatch.report.places import code_place, place_cells, place_fields, place_text
from scpatch.report.words import call_sites, count, unread
from scpatch.verifier.execute.judge import Outcome
from scpatch.verifier.reasons import every_reason
from scpatch.verifier.types import Reason, SiteProof
from scpatch.verifier.verdict import Result, SiteRuns, Verdict, judge_site

_GOOD: Final = {Result.PROVEN: "good", Result.NOT_SHOWN: "not shown", Result.NOT_PROVEN: "bad"}
"""What records say of a site."""


class VerifyReport(NamedTuple):
    verdicts: Sequence[Verdict]
    verbose: bool = False
    """Whether each row has its whole reason below it."""
    shown: Filter = EVERYTHING
    brief: bool = False
    """Whether a person gets the total, one line for each proven object with call sites, and the
    rest in full."""
    failed: Sequence[ScpatchError] = ()

    @property
    def command(self) -> str:
        return "verify"

    def blocks(self) -> Iterator[Block]:
        if self.brief:
            yield Line((Cell(_total(self.verdicts) + unread(self.failed), style=Style.HEADING),))
        verdicts = [v for v in self.verdicts if not self.brief or v.proof.sites or not v.proven]
        for index, verdict in enumerate(verdicts):
            in_short = self.brief and verdict.proven and not self.verbose
            if index and not in_short:
                yield GAP
            summary = summary_line(verdict).removeprefix(verdict.label)
            yield Line((Cell(verdict.label, style=Style.HEADING), Cell(summary)))
            if in_short:
                continue
            rows = self._rows(verdict)
            if self.shown.active:
                yield note_shown(len(rows), len(verdict.proof.sites), "call site")
            if rows:
                yield GAP
                yield _site_table(rows, verbose=self.verbose, executed=bool(verdict.runs))
            if verdict.proof.errors:
                yield GAP
                for error in verdict.proof.errors:
                    yield Line((Cell("error", style=Style.REFUSED), Cell(f" {error}")), indent=2)
        sites = (site for verdict in verdicts for site, _ in self._rows(verdict))
        yield from legend({f"{s.text} ({s})": s.meaning for s in _by_reason(sites)})
        if text := checked_with(self.verdicts):
            yield GAP
            yield Line((Cell(text),))

    def _rows(self, verdict: Verdict) -> list[tuple[SiteProof, SiteRuns | None]]:
        return [(site, runs) for site, runs in verdict.sites if self.shown.calls([site])]

    def records(self) -> Iterator[Record]:
        for verdict in self.verdicts:
            for site, runs in self._rows(verdict):
                yield (
                    *("site", verdict.label, *place_fields(site), site.trampoline, site.state),
                    _GOOD[judge_site(site, runs)],
                    *((_word(runs.before), _word(runs.after)) if runs else ("", "")),
                    *(site.why, "; ".join(runs.objections if runs else ())),
                )
            for error in verdict.proof.errors:
                yield "error", verdict.label, error
            if any(verdict.proof.checkers):
                yield "checked", verdict.label, *verdict.proof.checkers, *_programs(verdict)
            yield "verdict", verdict.label, str(verdict.result)

    def findings(self) -> Iterator[Finding]:
        """What speaks against a proof, and what was not shown."""
        for verdict in self.verdicts:
            for error in verdict.proof.errors:
                yield Finding(Level.ERROR, "not proven", verdict.label, "", "", error)
            for site, runs in self._rows(verdict):
                result = judge_site(site, runs)
                if result is not Result.PROVEN:
                    level = Level.ERROR if result is Result.NOT_PROVEN else Level.WARNING
                    message = "; ".join([site.why, *(runs.objections if runs else ())])
                    yield Finding(
                        *(level, str(result), verdict.label, place_text(site), "", message),
                        at=code_place(site),
                    )


def _total(verdicts: Sequence[Verdict]) -> str:
    """`total: 44,594 call sites in 3,126 objects: 3,125 proven, 1 not proven`"""
    sites = call_sites(sum(len(verdict.proof.sites) for verdict in verdicts))
    results = Counter(verdict.result for verdict in verdicts)
    numbers = ", ".join(f"{results[result]:,} {result}" for result in Result if results[result])
    return f"total: {sites} in {count(len(verdicts), 'object')}: {numbers or 'nothing to verify'}"


def summary_line(verdict: Verdict) -> str:
    """`core.o: proven: 12 call sites (9 stub, 3 saved); 12 executed: 12 failed before, ...`"""
    states = _by_reason(verdict.proof.sites)
    shown = ", ".join(f"{number:,} {state}" for state, number in states.items())
    text = str(verdict.result) if verdict.proven else verdict.result.upper()
    text += ": " + call_sites(len(verdict.proof.sites)) + (f" ({shown})" if shown else "")
    if (offset := verdict.proof.paca_toc) is not None:
        text += f"; PACATOC {offset}"
    if verdict.runs is None:
        text += "; not executed"
    else:
        failed = sum(not runs.before.passed for runs in verdict.runs)
        passed = sum(runs.after.passed for runs in verdict.runs)
        text += f"; {len(verdict.runs):,} executed: {failed:,} failed before, {passed:,} pass now"
    if verdict.proof.errors:
        text += f"; {count(len(verdict.proof.errors), 'error')}"
    return f"{verdict.label}: {text}"


def _by_reason(sites: Iterable[SiteProof]) -> dict[Reason, int]:
    """The number of sites of each state that occurs, in the order of reports."""
    numbers = Counter(site.state for site in sites)
    return {state: numbers[state] for state in every_reason() if state in numbers}


def checked_with(verdicts: Sequence[Verdict]) -> str:
    """`Checked with LIEF and capstone; run with qemu-ppc64le.`"""
    names = {name: None for verdict in verdicts for name in verdict.proof.checkers if name}
    text = "Checked with " + " and ".join(name.rpartition(" ")[0] for name in names)
    emulators = {Path(v.tools.emulator or "").name for v in verdicts if v.tools is not None}
    for emulator in sorted(emulators):
        text += f"; run with {emulator}" if emulator else "; run on this machine"
    return f"{text}." if names else ""


def _programs(verdict: Verdict) -> tuple[str, str]:
    """The linker and the emulator that the sites were executed with."""
    return (verdict.tools.ld, verdict.tools.emulator or "") if verdict.tools else ("", "")


def _word(outcome: Outcome) -> str:
    if outcome.passed:
        return "passed"
    return "failed" if outcome.reached else "not reached"


def _site_table(
    sites: Sequence[tuple[SiteProof, SiteRuns | None]], *, verbose: bool, executed: bool
) -> Table:
    rows, notes = [], {}
    for index, (site, runs) in enumerate(sites):
        result = judge_site(site, runs)
        rows.append(_cells(site, runs, result, executed=executed))
        reasons = [site.why] if verbose or result is not Result.PROVEN else []
        reasons += runs.objections if runs else ()
        notes[index] = [Paragraph(reason, indent=8, hanging=2) for reason in reasons]
    columns = ("result", "place", "function", "state", *(["runs"] if executed else []))
    return Table(rows, notes=notes, columns=columns)


def _cells(
    site: SiteProof, runs: SiteRuns | None, result: Result, *, executed: bool
) -> tuple[Cell, ...]:
    cells = (mark_cell(result), *place_cells(site), Cell("", site.state.text))
    if not executed:
        return cells
    ran = f"{_word(runs.before)} -> {_word(runs.after)}" if runs else "not executed"
    return (*cells, Cell("", ran))
