"""`scpatch scan`: the trampolines and call sites of objects."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence

from scpatch.report import words
from scpatch.report.columns import Cell, lay_out
from scpatch.report.documents import print_document, print_lines
from scpatch.report.term import Screen, Style, clean, count, screen, wrap
from scpatch.sites.model import Scan, Site, State, Trampoline


def print_scan(found: Sequence[tuple[str, Scan]], form: str) -> None:
    """Prints (object name, what it holds) on stdout; `form` is `table`, `plain` or `json`."""
    if form == "json":
        print_document("scan", {"files": [scan_fields(name, one) for name, one in found]})
    elif form == "plain":
        for name, one in found:
            print_lines(_plain(name, one))
    else:
        where = screen(sys.stdout)
        for index, (name, one) in enumerate(found):
            lines = _table(clean(name), one, where)
            sys.stdout.writelines(line + "\n" for line in [*[""] * (index > 0), *lines])


def place(site: Site) -> str:
    """`.text+0x1a0`"""
    return f"{site.section_name}+{site.offset:#x}"


def spot(site: Site) -> str:
    """`tcp_sendmsg+0x40`; empty where no symbol covers the site."""
    return f"{site.function}+{site.function_offset:#x}" if site.function else ""


def scan_fields(name: str, scan: Scan) -> dict[str, object]:
    """One object of the JSON document."""
    calls = Counter(site.trampoline for site in scan.sites)
    return {
        "file": clean(name),
        "module": scan.module,
        "image": scan.image,
        "strategies": list(scan.strategies),
        "trampolines": [_trampoline_fields(one, calls[one.name]) for one in scan.trampolines],
        "sites": [site_fields(site) for site in scan.sites],
        "states": {str(state): n for state, n in words.by_state(scan.sites).items()},
    }


def _trampoline_fields(one: Trampoline, calls: int) -> dict[str, object]:
    return {
        "name": clean(one.name),
        "symbol": one.symbol,
        "section": one.section,
        "offset": one.value,
        "size": one.size,
        "st_other": one.st_other,
        "local": one.local,
        "sites": calls,
    }


def site_fields(site: Site) -> dict[str, object]:
    """One call site of a JSON document."""
    return {
        "section": clean(site.section_name),
        "section_index": site.section,
        "offset": site.offset,
        "function": clean(site.function),
        "function_offset": site.function_offset,
        "trampoline": clean(site.trampoline),
        "state": str(site.state),
        "code": site.code,
        "detail": clean(site.detail),
        "line": clean(site.line),
        "saves": list(site.saves),
        "word": f"{site.word:#010x}",
        "after": None if site.after is None else f"{site.after:#010x}",
    }


def _plain(name: str, scan: Scan) -> Iterator[Sequence[object]]:
    """Rows of fields: the kind of row, the file, and what the kind has."""
    for strategy in scan.strategies:
        yield "strategy", name, strategy
    calls = Counter(site.trampoline for site in scan.sites)
    for one in scan.trampolines:
        where = f"[{one.section}]+{one.value:#x}" if one.defined else "undefined"
        yield "trampoline", name, where, one.name, f"st_other={one.st_other:#x}", calls[one.name]
    for site in scan.sites:
        yield "site", name, *site_row(site)


def site_row(site: Site) -> tuple[str, ...]:
    """A site's fields in plain lines: place, function, trampoline, state, code, line, detail."""
    state = str(site.state)
    return place(site), spot(site), site.trampoline, state, site.code, site.line, site.detail


def _table(name: str, scan: Scan, where: Screen) -> Iterator[str]:
    kind = "kernel module" if scan.module else "linked image" if scan.image else "object"
    after = f", strategy {' and '.join(scan.strategies)}" if scan.strategies else ""
    total = f"{count(len(scan.trampolines), 'trampoline')}, {words.sites(len(scan.sites))}"
    yield f"{where.paint(name, Style.HEADING)}: {kind}, {total}{after}"
    calls = Counter(site.trampoline for site in scan.sites)
    if scan.trampolines:
        yield ""
        ordered = sorted(scan.trampolines, key=lambda one: (one.section, one.value, one.name))
        yield from lay_out([_trampoline_row(one, calls[one.name]) for one in ordered], where, "  ")
    if scan.sites:
        yield ""
        yield from site_table(scan.sites, where)
        yield ""
        states = words.enumerate_states(words.by_state(scan.sites))
        yield from (f"  {line}" for line in wrap(states, where.width - 2, ""))


def _trampoline_row(one: Trampoline, calls: int) -> tuple[Cell, ...]:
    notes = ["local symbol"] if one.local else []
    if one.clobbers_r2:
        notes.append("no local entry point (st_other = 1)")
    where = f"section {one.section}+{one.value:#x}" if one.defined else "undefined"
    return (
        Cell(clean(one.name)),
        Cell("", where),
        Cell("", count(calls, "call"), right=True),
        Cell("", ", ".join(notes)),
    )


def site_table(sites: Sequence[Site], where: Screen) -> Iterator[str]:
    """One line a site; a refused one has its reason on a second line."""
    lines = any(site.line for site in sites)
    rows = [_site_cells(site, lines) for site in sites]
    for site, line in zip(sites, lay_out(rows, where, "  "), strict=True):
        yield line
        if site.state is State.REFUSED:
            yield f"           {site.code} {clean(site.detail)}"


def _site_cells(site: Site, lines: bool) -> tuple[Cell, ...]:
    cells = (
        Cell("", str(site.state), words.style(site.state)),
        Cell(clean(site.section_name), f"+{site.offset:#x}"),
        Cell(clean(site.function), f"+{site.function_offset:#x}" if site.function else ""),
        Cell(clean(site.trampoline)),
    )
    path, colon, number = clean(site.line).rpartition(":")
    return (*cells, Cell(path, colon + number)) if lines else cells
