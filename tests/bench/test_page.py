"""Sections of pages that commands write."""

from pathlib import Path

import pytest

from tests.bench.page import write_section

PAGE = "# A page\n\n<!-- a.b: begin -->\nold\n<!-- a.b: end -->\n\nThe rest.\n"


def test_what_is_between_the_marks_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    for lines in (["new", "text"], ["newer"]):
        write_section(page, "a.b", lines)
        inside = "\n".join(lines)
        expected = f"<!-- a.b: begin -->\n\n{inside}\n\n<!-- a.b: end -->\n\nThe rest.\n"
        assert page.read_text() == "# A page\n\n" + expected


@pytest.mark.parametrize("text", ["", PAGE * 2, PAGE.replace("begin", "end")])
def test_a_page_without_one_pair_of_marks_stays_as_it_is(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ValueError, match="not one pair of marks"):
        write_section(page, "a.b", ["new"])
    assert page.read_text() == text
