"""`advise`: what the strategies would do to each file, as a table, plain lines or JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from scpatch.advisor import RULE, Advice, Outlook
from scpatch.report import words
from scpatch.report.columns import Cell, lay_out
from scpatch.report.documents import print_document, print_lines
from scpatch.report.term import Screen, Style, clean, screen, wrap

_TITLES = ("sites", "left", "stubs", "trampolines", "bytes", "same TOC", "other TOC")


def print_advice(found: Sequence[Advice], form: str) -> None:
    """Prints the advice in the form `table`, `plain` or `json`."""
    if form == "json":
        print_document("advise", {"rule": RULE, "files": [_fields(one) for one in found]})
    elif form == "plain":
        for one in found:
            print_lines(_plain(one))
        print_lines([("rule", "", RULE)])
    else:
        where = screen(sys.stdout)
        for one in found:
            for line in _table(one, where):
                print(line)
            print()
        print("\n".join(wrap(RULE, where.width, "")))


def _table(one: Advice, where: Screen) -> Iterator[str]:
    after = f", strategy {' and '.join(one.applied)}" if one.applied else ""
    name = where.paint(clean(str(one.path)), Style.HEADING)
    yield f"{name}: {one.kind}, {words.sites(one.sites)}{after}"
    yield ""
    rows = [_heading(), *(_row(outlook) for outlook in one.outlooks if outlook.possible)]
    if len(rows) > 1:
        yield from lay_out(rows, where, "  ")
        yield ""
    for outlook in one.outlooks:
        if not outlook.possible:
            text = f"{outlook.strategy}: {outlook.code} {clean(outlook.reason)}"
            yield from (f"  {line}" for line in wrap(text, where.width - 2, "    "))
        for note in _notes(outlook):
            yield f"  {outlook.strategy}: {note}"
    taken = f"take {one.recommended}" if one.recommended else _nothing(one)
    yield f"  {where.paint(taken, Style.CHANGED)}"


def _nothing(one: Advice) -> str:
    return (
        "take none: nothing that is possible makes a call right" if one.sites else "nothing to do"
    )


def _notes(outlook: Outlook) -> Iterator[str]:
    if outlook.codes:
        yield f"calls left as they are: {', '.join(outlook.codes)}"
    if outlook.possible and outlook.image_only:
        yield "for the kernel image only, never for a module"


def _heading() -> tuple[Cell, ...]:
    return tuple(
        Cell("", title, Style.HEADING, right=at > 0) for at, title in enumerate(("", *_TITLES))
    )


def _row(outlook: Outlook) -> tuple[Cell, ...]:
    return (Cell(outlook.strategy), *(Cell("", text, right=True) for text in _numbers(outlook)))


def _numbers(outlook: Outlook) -> tuple[str, ...]:
    """Sites made right, calls left wrong, stubs, trampolines changed, bytes of code, and the
    instructions more a call to a target with the same TOC and with another."""
    numbers = outlook.sites, outlook.left, outlook.stubs, outlook.trampolines, outlook.code_bytes
    return (*(f"{one:,}" for one in numbers), f"+{outlook.same:.2f}", f"+{outlook.other:.2f}")


def _plain(one: Advice) -> Iterator[Sequence[object]]:
    for outlook in one.outlooks:
        state = "possible" if outlook.possible else outlook.code
        if outlook.strategy == one.recommended:
            state = "take"
        numbers = [text.replace(",", "") for text in _numbers(outlook)]
        reason = outlook.reason or ", ".join(outlook.codes)
        yield "strategy", one.path, outlook.strategy, state, *numbers, reason
    yield "file", one.path, one.kind, one.sites, one.recommended, ", ".join(one.applied)


def _fields(one: Advice) -> dict[str, object]:
    return {
        "file": clean(str(one.path)),
        "kind": one.kind,
        "sites": one.sites,
        "applied": list(one.applied),
        "recommended": one.recommended,
        "strategies": [_outlook_fields(outlook) for outlook in one.outlooks],
    }


def _outlook_fields(outlook: Outlook) -> dict[str, object]:
    return {
        "strategy": outlook.strategy,
        "possible": outlook.possible,
        "code": outlook.code,
        "reason": clean(outlook.reason),
        "image_only": outlook.image_only,
        "sites": outlook.sites,
        "left": outlook.left,
        "codes": list(outlook.codes),
        "free": outlook.free,
        "stubs": outlook.stubs,
        "trampolines": outlook.trampolines,
        "code_bytes": outlook.code_bytes,
        "same": round(outlook.same, 4),
        "other": round(outlook.other, 4),
    }
