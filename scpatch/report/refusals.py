"""Refused call sites, on stderr: where, why, and what to do about it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from scpatch.report.term import Screen, Style, clean, screen
from scpatch.rewriter import FilePlan
from scpatch.sites.model import Site


def print_refusals(plans: Sequence[FilePlan]) -> None:
    """Prints each refused site of `plans`, and after those of one code the hint for it."""
    refused = [
        (one.name, site) for plan in plans for one in plan.objects for site in one.plan.refused
    ]
    for line in refusal_lines(refused, screen(sys.stderr)):
        print(line, file=sys.stderr)


def refusal_lines(refused: Sequence[tuple[str, Site]], where: Screen) -> Iterator[str]:
    """The messages for (object name, site), sorted by code, in the order given within a code."""
    from scpatch.diagnostics import hint

    by_code: dict[str, list[tuple[str, Site]]] = {}
    for name, site in refused:
        by_code.setdefault(site.code, []).append((name, site))
    for code in sorted(by_code):
        for name, site in by_code[code]:
            yield _message(name, site, where)
        yield ""
        if advice := hint(code):
            yield f"hint: {advice}"
            yield ""


def _message(name: str, site: Site, where: Screen) -> str:
    """`scpatch: core.o: .text+0x1a0 in tcp_sendmsg+0x40 (core.c:1204): no nop ... [SCP201]`"""
    line = f" ({site.line})" if site.line else ""
    code = where.paint(f"[{site.code}]", Style.REFUSED)
    return f"scpatch: {clean(f'{name}: {site.place}{line}: {site.detail}')} {code}"
