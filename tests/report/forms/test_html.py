"""The HTML page in a browser: it fetches nothing, runs no name, fits a phone, filters, prints."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from scpatch.differ.model import FunctionDiff
from scpatch.errors import ScpatchError
from scpatch.report.blocks import (
    Block,
    Cell,
    Finding,
    Level,
    Line,
    Listing,
    Paragraph,
    Style,
    Table,
    Title,
)
from scpatch.report.diff import DiffReport
from scpatch.report.forms import html
from scpatch.report.look import DEFAULT_LOOK
from scpatch.report.scan import ScanReport
from tests.browser import Tab, browser
from tests.report.support import FIXTURES, compare, plan, rewritten
from tests.test_trees import scpatch
from tests.tools import assemble

HOSTILE = (
    "<script>document.title='ran'</script>",
    '"><img src=x onerror="document.title=\'ran\'">',
    "' onmouseover='x",
    "</style></script></details><!--",
    "&lt;b&gt;&amp;",
    "\x1b[31m\x00\r\n\udcff",
    "\u202eab\u2066cd\u200f",
    "grüße",
)


class Made:
    """A report of these blocks and findings."""

    command = "scan"

    failed: Sequence[ScpatchError] = ()

    def __init__(self, blocks: list[Block], findings: list[Finding] | None = None) -> None:
        self._blocks, self._findings = blocks, findings or []

    def blocks(self) -> Iterator[Block]:
        return iter(self._blocks)

    def findings(self) -> Iterator[Finding]:
        return iter(self._findings)


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def page(report: object, folder: Path) -> Path:
    stream = io.StringIO()
    html.write(report, stream, DEFAULT_LOOK)  # type: ignore[arg-type]
    assert stream.getvalue().isascii()
    path = folder / "page.html"
    path.write_text(stream.getvalue(), newline="")
    return path


def scan_page(folder: Path) -> Path:
    return page(ScanReport([("refused.o", plan("refused.o").objects[0].scan)]), folder)


def diff_page(folder: Path) -> Path:
    diff = compare(FIXTURES / "sites.o", rewritten("sites.o", folder))
    return page(DiffReport([("a.o", "b.o", diff)]), folder)


def shown(tab: Tab) -> int:
    return int(tab.value("document.querySelectorAll('.item:not([hidden])').length"))


@pytest.mark.parametrize("make", [scan_page, diff_page])
def test_a_page_is_whole_and_fetches_nothing(make: object, tab: Tab, tmp_path: Path) -> None:
    assert callable(make)
    path = make(tmp_path)
    assert not re.search(r"\b(src|href|url)\b\s*[=(]", path.read_text())
    tab.look(1280)
    tab.open(path)
    assert tab.requested == [path.as_uri()]
    assert tab.complaints == []
    assert tab.value("document.getElementById('filters').hidden") is False


def test_no_name_is_markup_or_code(tab: Tab, tmp_path: Path) -> None:
    cells = [(Cell("x"), Cell(name, "+0x0"), Cell(name), Cell(name)) for name in HOSTILE]
    function = compare(FIXTURES / "sites.o", rewritten("sites.o", tmp_path)).functions[0]
    blocks: list[Block] = [Table(cells, columns=("state", "place", "function", "trampoline"))]
    findings = []
    for name in HOSTILE:
        after = function.range.__class__(1, name, name, 0, 8)
        renamed = FunctionDiff(None, after, function.counts, name, name, function.hunks)
        head = Cell(name, style=Style.HEADING)
        blocks += [Title(name, name), Line((head,)), Paragraph(name), Listing(renamed, True)]
        findings.append(Finding(Level.ERROR, name, name, name, name, name, name))
        findings.append(Finding(Level.NOTE, "advice", name, "", "", name))
    path = page(Made(blocks, findings), tmp_path)
    tab.look(1280)
    tab.open(path)
    assert tab.value("document.title") == "scpatch scan"
    assert tab.complaints == []
    assert tab.value("document.images.length + document.querySelectorAll('script').length") == 1
    assert tab.value("document.querySelectorAll('[onmouseover],[onerror]').length") == 0
    text = tab.value("document.body.textContent")
    for name in (*HOSTILE[:5], HOSTILE[-1]):
        assert text.count(name) >= 8, name
    assert r"\x1b[31m\x00\x0d\x0a\xff" in text
    assert r"\u202eab\u2066cd\u200f" in text
    assert not re.search("[\u200e\u200f\u202a-\u202e\u2066-\u2069]", text)
    assert tab.value("document.querySelectorAll('.item').length") == 2 * len(HOSTILE)


def test_the_policy_stops_a_script_that_got_in(tab: Tab, tmp_path: Path) -> None:
    """Seen to fail without the policy."""
    path = scan_page(tmp_path)
    evil = "<script>document.title='ran'</script><img src=x onerror=\"document.title='ran'\">"
    path.write_text(path.read_text().replace("<main>", f"<main>{evil}"))
    tab.open(path)
    assert tab.value("document.title") == "scpatch scan"
    assert any("Content Security Policy" in complaint for complaint in tab.complaints)


def test_errors_come_before_everything_else(tab: Tab, tmp_path: Path) -> None:
    tab.open(scan_page(tmp_path))
    text = " ".join(tab.value("document.body.innerText").split())
    order = ("7 errors", "1 warning", "SCP203", "sibling_call+0x8", "refused.o: object")
    places = [text.index(piece) for piece in order]
    assert places == sorted(places)


def test_a_filter_hides_files_of_which_nothing_is_left(tab: Tab, tmp_path: Path) -> None:
    scan = plan("refused.o").objects[0].scan
    few = scan._replace(sites=scan.sites[:1])
    path = page(ScanReport([("few.o", few), ("refused.o", scan)]), tmp_path)
    seen = "[...document.querySelectorAll('main h2')].filter(e => e.offsetParent)"
    seen += ".map(e => e.textContent.split(':')[0])"
    tab.open(path)
    assert tab.value(seen) == ["7 errors", "few.o", "refused.o"]
    tab.open(path, "#function=sibling")
    assert tab.value(seen) == ["refused.o"]


@pytest.mark.parametrize(
    ("fragment", "count"),
    [
        ("", 8),
        ("#state=refused", 7),
        ("#section=.text.past_the_end", 1),
        ("#function=SIBLING", 1),
        ("#trampoline=__SCT__name", 8),
        ("#search=scp203+sibling", 1),
        ("#search=nothing", 0),
        ("#state=rewrite&function=sibling", 0),
    ],
)
def test_filters(fragment: str, count: int, tab: Tab, tmp_path: Path) -> None:
    tab.open(scan_page(tmp_path), fragment)
    assert shown(tab) == count
    assert tab.value("document.getElementById('shown').textContent") == f"{count} of 8 shown"


def test_a_user_filters_and_shows_all_again(tab: Tab, tmp_path: Path) -> None:
    tab.open(scan_page(tmp_path))
    tab.call("Input.dispatchKeyEvent", type="char", text="/")
    tab.call("Input.dispatchKeyEvent", type="keyDown", key="/", text="/")
    assert tab.value("document.activeElement.name") == "search"
    tab.value("document.forms[0].elements.state.value = 'refused'")
    tab.value("document.forms[0].dispatchEvent(new Event('input')); 0")
    waiting = "new Promise(resolve => setTimeout(resolve, 300))"
    tab.call("Runtime.evaluate", expression=waiting, awaitPromise=True)
    assert shown(tab) == 7
    assert "state=refused" in tab.value("location.hash")
    tab.value("document.forms[0].reset()")
    tab.call("Runtime.evaluate", expression=waiting, awaitPromise=True)
    assert shown(tab) == 8


def test_functions_fold(tab: Tab, tmp_path: Path) -> None:
    tab.open(diff_page(tmp_path))
    opened = "document.querySelectorAll('details[open]').length"
    every = tab.value("document.querySelectorAll('details').length")
    assert every > 3
    tab.value("document.getElementById('collapse').click()")
    assert tab.value(opened) == 0
    tab.value("dispatchEvent(new Event('beforeprint')); 0")
    assert tab.value(opened) == every
    tab.value("dispatchEvent(new Event('afterprint')); 0")
    assert tab.value(opened) == 0


def test_rows_have_the_marks_of_the_text_report(tab: Tab, tmp_path: Path) -> None:
    diff = compare(FIXTURES / "sites.o", rewritten("sites.o", tmp_path))
    tab.open(page(DiffReport([("a.o", "b.o", diff)]), tmp_path))
    marks = tab.value("[...document.querySelectorAll('.code .m')].map(m => m.textContent[0] || '')")
    rows = [row for f in diff.functions for hunk in f.hunks() for row in hunk]
    assert marks == [str(row.mark).strip() for row in rows]
    sides = tab.value("[...document.querySelectorAll('.code .a')].map(m => m.textContent)")
    for side, row in zip(sides, rows, strict=True):
        words = " ".join(side.split()[: 1 + len((row.after.text if row.after else "").split())])
        expected = f"{row.after.digits} {row.after.text}" if row.after else ""
        assert words.startswith(" ".join(expected.split()))


@pytest.mark.parametrize("make", [scan_page, diff_page])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_and_can_be_read(
    make: object, width: int, dark: bool, tab: Tab, tmp_path: Path
) -> None:
    """Nothing is wider than the window, and text has a contrast of 4.5 (WCAG 2.2, AA)."""
    assert callable(make)
    tab.look(width, dark=dark)
    tab.open(make(tmp_path))
    assert tab.value("document.documentElement.scrollWidth") <= width
    pairs = tab.value(
        """[...document.querySelectorAll('main *, header *, form *')].filter(e =>
        [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && e.offsetParent)
        .map(e => { let b = e; const bg = x => getComputedStyle(x).backgroundColor;
        while (b.parentElement && bg(b) === 'rgba(0, 0, 0, 0)') b = b.parentElement;
        return [getComputedStyle(e).color, bg(b)].join('|') })"""
    )
    assert len(pairs) > 20
    assert min(contrast(*pair.split("|")) for pair in set(pairs)) >= 4.5
    background = tab.value("getComputedStyle(document.body).backgroundColor")
    assert (luminance(background) < 0.1) is dark


def test_the_total_of_many_files_comes_first_and_fits_a_phone(tab: Tab, tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / f"{number}.o").write_bytes((FIXTURES / "calls-gcc.o").read_bytes())
    assemble(tmp_path, "f:\tblr\n", "nocalls.o")
    for command in ("scan", "advise"):
        page = tmp_path / f"{command}.html"
        page.write_text(scpatch(command, tmp_path, "--format", "html").stdout)
        tab.look(390)
        tab.open(page)
        first = tab.value("document.querySelector('main :is(h2, h3, p)').innerText")
        assert first.startswith("total: 104 call sites in 8 of 9")
        head = tab.value("document.querySelector('header').innerText")
        assert ".o" not in head
        wider = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > 390).length"
        assert tab.value(wider) == 0


def test_on_paper_it_is_black_on_white_and_without_filters(tab: Tab, tmp_path: Path) -> None:
    tab.look(1280, dark=True, media="print")
    tab.open(diff_page(tmp_path))
    assert tab.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.value("getComputedStyle(document.forms[0]).display") == "none"


def luminance(color: str) -> float:
    """Relative luminance of `rgb(r, g, b)` (WCAG 2.2)."""
    shares = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    red, green, blue = (s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first: str, second: str) -> float:
    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


def test_a_big_page_loads(tab: Tab, tmp_path: Path) -> None:
    """700 call sites and 20,000 rows of code; the bound on time is generous."""
    diff = compare(FIXTURES / "sites.o", rewritten("sites.o", tmp_path))
    one = max(diff.functions, key=lambda function: sum(map(len, function.hunks())))
    rows = sum(map(len, one.hunks()))
    cell = (Cell("", "rewrite"), Cell(".text", "+0x10"), Cell("f", "+0x10"), Cell("__SCT__x"))
    table = Table([cell] * 700, columns=("state", "place", "function", "trampoline"))
    listings = [Listing(one, False)] * (20_000 // rows + 1)
    path = page(Made([table, *listings]), tmp_path)
    assert path.stat().st_size < 8_000_000
    tab.look(390)
    tab.open(path)
    tab.call("Runtime.evaluate", expression="new Promise(setTimeout)", awaitPromise=True)
    timing = "performance.getEntriesByType('navigation')[0].loadEventEnd"
    assert 0 < tab.value(timing) < 20_000
    assert shown(tab) == 700 + len(listings)
