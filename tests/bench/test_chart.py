"""The charts: well-formed, each point where its value says, readable without colour."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from tests.bench.chart import Line, draw

SVG = "{http://www.w3.org/2000/svg}"
TICKS = [(10, "10 MB"), (100, "100 MB"), (1000, "1 GB")]
LINES = [Line("own", ((10, 0.1), (1000, 10))), Line("cp <x>", ((10, 0.01), (1000, 9.9)))]


def picture() -> ElementTree.Element:
    return ElementTree.fromstring(draw("A & B", "size", TICKS, LINES))


def test_a_point_is_where_its_value_says() -> None:
    own, other = ([tuple(map(float, pair.split(","))) for pair in line.get("points", "").split()]
                  for line in picture().iter(f"{SVG}polyline"))  # fmt: skip
    texts = {text.text: text for text in picture().iter(f"{SVG}text")}
    for (x, y), (column, row) in ((own[0], ("10 MB", "100 ms")), (own[1], ("1 GB", "10 s"))):
        assert float(texts[column].get("x", "")) == x
        assert float(texts[row].get("y", "")) == y
    assert other[0][1] == float(texts["10 ms"].get("y", ""))


def test_lines_differ_without_colour_and_labels_do_not_overlap() -> None:
    lines = list(picture().iter(f"{SVG}polyline"))
    assert len({line.get("stroke-dasharray") for line in lines}) == len(lines)
    labels = {t.text: float(t.get("y", "")) for t in picture().iter(f"{SVG}text")}
    assert abs(labels["own"] - labels["cp <x>"]) >= 12


def test_each_colour_has_contrast_on_a_light_and_on_a_dark_page() -> None:
    """WCAG 2.1, 1.4.3 and 1.4.11: 4.5 for text, which the labels are."""
    light, dark = draw("t", "x", TICKS, LINES).split("@media")
    for style, page in ((light, "ffffff"), (dark, "0d1117")):
        colours = set(re.findall(r"fill:#([0-9a-f]{6})", style))
        assert len(colours) == 5
        for colour in colours:
            assert _contrast(colour, page) >= 4.5, (colour, page)


def _contrast(first: str, second: str) -> float:
    low, high = sorted(map(_luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
