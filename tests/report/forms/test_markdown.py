"""Markdown: tables that a renderer reads back, names as code, listings that cannot end early."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

from scpatch.report.blocks import Block, Cell, Line, Paragraph, Record, Style, Table, heading
from scpatch.report.diff import DiffReport
from scpatch.report.forms import markdown
from scpatch.report.look import DEFAULT_LOOK
from scpatch.report.scan import ScanReport
from tests.report.support import FIXTURES, compare, plan


class Blocks:
    def __init__(self, *blocks: Block) -> None:
        self._blocks = blocks

    def blocks(self) -> Iterator[Block]:
        return iter(self._blocks)

    def records(self) -> Iterator[Record]:
        raise AssertionError

    document = findings = records


def drawn(report: object) -> str:
    stream = io.StringIO()
    markdown.write(report, stream, DEFAULT_LOOK)  # type: ignore[arg-type]
    return stream.getvalue()


def tables(text: str) -> list[list[list[str]]]:
    """The cells of each table, row by row, without the line below the titles."""
    found: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif found[-1]:
            found.append([])
    return [[row for i, row in enumerate(rows) if i != 1] for rows in found if rows]


def test_a_table_has_all_rows_and_columns() -> None:
    scan = plan("refused.o").objects[0].scan
    trampolines, sites = tables(drawn(ScanReport([("refused.o", scan)])))
    assert trampolines[1:] == [["`__SCT__name`", "undefined", "8 calls", ""]]
    assert [row[1] for row in sites[1:]] == [
        f"{site.section_name}+{site.offset:#x}".replace("past_the_end", "past_the_end")
        if "_" not in site.section_name
        else f"`{site.section_name}+{site.offset:#x}`"
        for site in scan.sites
    ]
    assert sites[2][0] == "**refused**"
    assert sites[2][3].startswith("`__SCT__name`<br>SCP203 sibling call")


def test_titles_become_the_heading() -> None:
    text = drawn(Blocks(Table([heading("name", "size"), (Cell("x"), Cell("", "1", right=True))])))
    assert text.splitlines() == ["| name | size |", "| --- | ---: |", "| x | 1 |", ""]


def test_nothing_in_a_name_is_markup() -> None:
    names = ["a|b", "a`b|c", "<b>", "x y_z_", "\x1b[1m", "[a](b)", "a*b*"]
    text = drawn(Blocks(Table([(Cell(name), Cell("end")) for name in names])))
    assert [row[0] for row in tables(text)[0][1:]] == [
        r"`a\|b`",
        r"a\`b\|c",
        "`<b>`",
        r"x y\_z\_",
        r"`\x1b[1m`",
        "`[a](b)`",
        "`a*b*`",
    ]
    assert all(len(row) == 2 for row in tables(text)[0])


def test_empty_lines_are_single() -> None:
    text = drawn(Blocks(Line(), Line((Cell("one"),)), Line(), Line(), Paragraph("two")))
    assert text == "one\n\ntwo\n\n"


def test_a_refused_cell_is_strong() -> None:
    assert drawn(Blocks(Line((Cell("no", style=Style.REFUSED), Cell(" way"))))) == "**no** way\n\n"


def test_listings_are_code() -> None:
    diff = compare(FIXTURES / "refused.o", FIXTURES / "sites.o")
    text = drawn(DiffReport([("refused.o", "sites.o", diff)]))
    assert text.count("```diff\n") == len(diff.functions)
    assert text.count("```") == 2 * len(diff.functions)
