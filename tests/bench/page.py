"""Sections of pages that commands write: the lines between two marks."""

from collections.abc import Sequence
from pathlib import Path


def write_section(page: Path, name: str, lines: Sequence[str]) -> None:
    """Puts `lines` between the marks of the section `name`.

    Raises ValueError where the page does not have each mark once, in this order.
    """
    begin, end = (f"<!-- {name}: {word} -->\n" for word in ("begin", "end"))
    text = page.read_text()
    front, *inside = text.split(begin)
    if len(inside) != 1 or inside[0].count(end) != 1:
        raise ValueError(f"{page}: not one pair of marks {begin.strip()} and {end.strip()}")
    rest = inside[0].partition(end)[2]
    page.write_text(f"{front}{begin}\n" + "\n".join(lines) + f"\n\n{end}{rest}")
