"""`scpatch verify`: why r2 is right after each call, and how each ran in both versions."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from scpatch.report.columns import Cell, lay_out
from scpatch.report.documents import print_document, print_lines
from scpatch.report.term import Screen, Style, clean, count, screen, wrap
from scpatch.verifier.execute.types import Outcome
from scpatch.verifier.types import SiteProof
from scpatch.verifier.verdict import Result, SiteRuns, Verdict, judge_site, worst

_SHORT: Final[Mapping[str, str]] = {
    "stub": "saved by a stub",
    "thunk": "saved by a thunk",
    "saved": "saved by function",
    "paca": "loaded from PACA",
    "done": "right before",
    "restored": "save not shown",
    "trampoline": "kept by trampoline",
    "elsewhere": "kept elsewhere",
    "linker": "saved by linker",
    "loader": "saved by loader",
    "notoc": "r2 not needed",
    "left": "wrong, as before",
    "wrong": "wrong now",
}
"""What the states of the proof mean for r2, short enough for a column."""

_GOOD: Final[Mapping[Result, str]] = {
    Result.PROVEN: "good",
    Result.NOT_SHOWN: "not shown",
    Result.NOT_PROVEN: "bad",
}
_MARKS: Final[Mapping[Result, str]] = {
    Result.PROVEN: "ok",
    Result.NOT_SHOWN: "??",
    Result.NOT_PROVEN: "BAD",
}
"""What the plain form and a terminal say of a site."""


def print_verify(verdicts: Sequence[Verdict], form: str, *, verbose: bool) -> None:
    """Prints the verdicts on stdout; `form` is `terminal`, `plain` or `json`. With `verbose` the
    terminal form gives the whole reason under every site."""
    if form == "json":
        result = worst(verdict.result for verdict in verdicts)
        files = [_fields(verdict) for verdict in verdicts]
        proven = result is Result.PROVEN
        print_document("verify", {"proven": proven, "verdict": str(result), "files": files})
    elif form == "plain":
        for verdict in verdicts:
            print_lines(_plain(verdict))
    else:
        where = screen(sys.stdout)
        for verdict in verdicts:
            lines = _terminal(verdict, where, verbose=verbose)
            sys.stdout.writelines(line + "\n" for line in lines)


def _runs(verdict: Verdict) -> dict[tuple[int, int], SiteRuns]:
    """(section, offset) -> both runs of the site there."""
    return {(ran.site.section, ran.site.offset): ran for ran in verdict.runs or ()}


def _of(runs: Mapping[tuple[int, int], SiteRuns], site: SiteProof) -> SiteRuns | None:
    return runs.get((site.section, site.offset))


def _outcome(outcome: Outcome) -> str:
    if outcome.passed:
        return "passed"
    return "failed" if outcome.reached else "not reached"


def _objections(ran: SiteRuns | None) -> list[str]:
    """What the runs have against the site."""
    if ran is None:
        return []
    found = [f"after: {reason}" for reason in ran.after.reasons]
    if ran.harmless:
        found.append("before: it passed although r2 was wrong, so that the run proves nothing")
    return found


def summary_line(verdict: Verdict) -> str:
    """`core.o: proven: 12 call sites (9 stub, 3 saved); run: 12 failed before, 12 pass now`"""
    states = Counter(site.state for site in verdict.proof.sites)
    shown = ", ".join(f"{states[state]:,} {state}" for state in _SHORT if states[state])
    text = str(verdict.result) if verdict.proven else verdict.result.upper()
    text += ": " + count(len(verdict.proof.sites), "call site") + (f" ({shown})" if shown else "")
    if (offset := verdict.proof.paca_toc) is not None:
        text += f"; PACATOC {offset}"
    if verdict.runs is None:
        text += "; not executed"
    else:
        failed = sum(not ran.before.passed for ran in verdict.runs)
        passed = sum(ran.after.passed for ran in verdict.runs)
        text += f"; {len(verdict.runs):,} executed: {failed:,} failed before, {passed:,} pass now"
    if verdict.proof.errors:
        text += f"; {count(len(verdict.proof.errors), 'error')}"
    return f"{clean(verdict.label)}: {text}"


def _fields(verdict: Verdict) -> dict[str, object]:
    runs = _runs(verdict)
    return {
        "file": clean(verdict.label),
        "proven": verdict.proven,
        "verdict": str(verdict.result),
        "executed": verdict.runs is not None,
        "paca_toc": verdict.proof.paca_toc,
        "errors": [clean(error) for error in verdict.proof.errors],
        "sites": [_site_fields(site, _of(runs, site)) for site in verdict.proof.sites],
    }


def _site_fields(site: SiteProof, ran: SiteRuns | None) -> dict[str, object]:
    return {
        "section": clean(site.section_name),
        "section_index": site.section,
        "offset": site.offset,
        "function": clean(site.function),
        "function_offset": site.function_offset,
        "trampoline": clean(site.trampoline),
        "state": site.state,
        "right": site.right,
        "was_right": site.was_right,
        "good": judge_site(site, ran) is Result.PROVEN,
        "why": clean(site.why),
        "run_before": _outcome_fields(ran.before) if ran else None,
        "run_after": _outcome_fields(ran.after) if ran else None,
    }


def _outcome_fields(outcome: Outcome) -> dict[str, object]:
    return {
        "passed": outcome.passed,
        "reached": outcome.reached,
        "reasons": [clean(reason) for reason in outcome.reasons],
    }


def _place(site: SiteProof) -> str:
    return f"{site.section_name}+{site.offset:#x}"


def _plain(verdict: Verdict) -> Iterator[Sequence[object]]:
    runs = _runs(verdict)
    for site in verdict.proof.sites:
        ran = _of(runs, site)
        spot = f"{site.function}+{site.function_offset:#x}" if site.function else ""
        yield (
            "site",
            verdict.label,
            _place(site),
            spot,
            site.trampoline,
            site.state,
            _GOOD[judge_site(site, ran)],
            _outcome(ran.before) if ran else "",
            _outcome(ran.after) if ran else "",
            site.why,
            "; ".join(_objections(ran)),
        )
    for error in verdict.proof.errors:
        yield "error", verdict.label, error
    yield "verdict", verdict.label, str(verdict.result)


def _terminal(verdict: Verdict, where: Screen, *, verbose: bool) -> Iterator[str]:
    runs = _runs(verdict)
    yield where.paint(clean(verdict.label), Style.HEADING)
    if verdict.proof.sites:
        yield ""
    rows = [_cells(site, _of(runs, site), executed=bool(runs)) for site in verdict.proof.sites]
    for site, line in zip(verdict.proof.sites, lay_out(rows, where, "  "), strict=True):
        yield line
        ran = _of(runs, site)
        if verbose or judge_site(site, ran) is not Result.PROVEN:
            yield from _wrapped(site.why, where)
        for objection in _objections(ran):
            yield from _wrapped(objection, where)
    if verdict.proof.errors:
        yield ""
        for error in verdict.proof.errors:
            yield f"  {where.paint('error', Style.REFUSED)} {clean(error)}"
    yield ""
    yield summary_line(verdict)


def _wrapped(text: str, where: Screen) -> Iterator[str]:
    """A reason under its site, and its other lines a little further in."""
    yield from (f"        {line}" for line in wrap(clean(text), where.width - 8, "  "))


def _cells(site: SiteProof, ran: SiteRuns | None, *, executed: bool) -> tuple[Cell, ...]:
    result = judge_site(site, ran)
    style = Style.NEW if result is Result.PROVEN else Style.REFUSED
    cells = (
        Cell("", _MARKS[result], style),
        Cell(clean(site.section_name), f"+{site.offset:#x}"),
        Cell(clean(site.function), f"+{site.function_offset:#x}" if site.function else ""),
        Cell("", _SHORT.get(site.state, site.state)),
    )
    if not executed:
        return cells
    runs = f"{_outcome(ran.before)} -> {_outcome(ran.after)}" if ran else "not executed"
    return (*cells, Cell("", runs))
