"""Call sites as `scan` and `rewrite` show them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from scpatch.report.blocks import Block, Cell, Line, Style, Table, place_cell
from scpatch.report.words import place, spot
from scpatch.sites.actions import Action, Common
from scpatch.sites.model import Site


def site_table(sites: Sequence[Site]) -> Iterator[Block]:
    """One row a site; below a refused one, why."""
    lined = any(site.line for site in sites)
    notes = {
        index: [Line((Cell(f"{site.code} {site.detail}"),), indent=11)]
        for index, site in enumerate(sites)
        if site.state is Common.REFUSED
    }
    if sites:
        yield Table([_cells(site, lined=lined) for site in sites], notes=notes)


def _cells(site: Site, *, lined: bool) -> tuple[Cell, ...]:
    cells = (
        Cell("", str(site.state), _style(site.state)),
        place_cell(site.section_name, site.offset),
        place_cell(site.function, site.function_offset) if site.function else Cell(""),
        Cell(site.trampoline),
    )
    path, colon, number = site.line.rpartition(":")
    return (*cells, Cell(path, colon + number)) if lined else cells


def _style(state: Action) -> Style:
    if state is Common.REFUSED:
        return Style.REFUSED
    return Style.CHANGED if state.changes else Style.PLAIN


def site_record(name: str, site: Site) -> tuple[str, ...]:
    """The place, function, trampoline, state, code, line and detail of a site in an object."""
    return (
        *("site", name, place(site.section_name, site.offset)),
        *(spot(site.function, site.function_offset), site.trampoline, str(site.state)),
        *(site.code, site.line, site.detail),
    )
