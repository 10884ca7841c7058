"""Line charts as SVG, small enough to commit, and readable on a light and on a dark page.

    python -m tests.bench.run --write docs/explanation/benchmarks.md

draws them. Both axes are logarithmic. Lines differ by dashes and by the label at their end, not by
colour alone.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT = 640, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 128, 34, 46
_LOOKS = (("own", ""), ("a", "7 3"), ("b", "2 3"), ("c", "9 3 2 3"))
_STYLE = """
text{font:12px sans-serif;fill:#24292f}
.grid{stroke:#8c959f;stroke-opacity:.35}
polyline{fill:none;stroke-width:2}
.own{stroke:#0969da;fill:#0969da}.a{stroke:#9a6700;fill:#9a6700}
.b{stroke:#1a7f37;fill:#1a7f37}.c{stroke:#8250df;fill:#8250df}
text.own,text.a,text.b,text.c{stroke:none}
@media(prefers-color-scheme:dark){
text{fill:#e6edf3}
.own{stroke:#58a6ff;fill:#58a6ff}.a{stroke:#d29922;fill:#d29922}
.b{stroke:#3fb950;fill:#3fb950}.c{stroke:#bc8cff;fill:#bc8cff}}
"""


@dataclass(frozen=True, slots=True)
class Line:
    """What a line shows: points (x, y), both more than 0, in the order of x."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """A logarithmic axis: what it counts, and what its ticks are called."""

    title: str
    ticks: tuple[tuple[float, str], ...]
    start: int
    """Where it starts and ends, in the picture's units."""
    end: int

    def place(self, value: float) -> float:
        """Where a value is."""
        low, high = (math.log(self.ticks[at][0]) for at in (0, -1))
        share = (math.log(value) - low) / (high - low)
        return self.start + share * (self.end - self.start)


def seconds_axis(lines: Sequence[Line]) -> Axis:
    """An axis from the decade below all values to the one above."""
    values = [y for line in lines for _, y in line.points]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    ticks = tuple((10.0**n, _seconds(n)) for n in range(low, max(high, low + 1) + 1))
    return Axis("", ticks, _HEIGHT - _BOTTOM, _TOP)


def _seconds(power: int) -> str:
    return f"{10**power} s" if power >= 0 else f"{10 ** (power + 3):g} ms"


def draw(
    title: str, x_title: str, ticks: Sequence[tuple[float, str]], lines: Sequence[Line]
) -> str:
    """The picture. At most four lines; the first is scpatch's."""
    x = Axis(x_title, tuple(ticks), _LEFT, _WIDTH - _RIGHT)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
            f'role="img" aria-label="{escape(title)}">',
            f"<title>{escape(title)}</title>",
            f"<style>{_STYLE}</style>",
            f'<text x="{_LEFT}" y="18">{escape(title)}</text>',
            *_grid(x, seconds_axis(lines)),
            *_lines(x, seconds_axis(lines), lines),
            "</svg>\n",
        ]
    )


def _grid(x: Axis, y: Axis) -> Iterator[str]:
    for value, label in x.ticks:
        at = f"{x.place(value):.1f}"
        yield f'<path class="grid" d="M{at} {y.start}V{y.end}"/>'
        yield f'<text x="{at}" y="{y.start + 16}" text-anchor="middle">{escape(label)}</text>'
    for value, label in y.ticks:
        at = f"{y.place(value):.1f}"
        yield f'<path class="grid" d="M{x.start} {at}H{x.end}"/>'
        yield f'<text x="{x.start - 6}" y="{at}" dy="4" text-anchor="end">{escape(label)}</text>'
    middle = (x.start + x.end) / 2
    yield f'<text x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(x.title)}</text>'


def _lines(x: Axis, y: Axis, lines: Sequence[Line]) -> Iterator[str]:
    labels = _apart([y.place(line.points[-1][1]) for line in lines])
    for line, label, (name, dashes) in zip(lines, labels, _LOOKS, strict=False):
        places = [(x.place(at), y.place(value)) for at, value in line.points]
        points = " ".join(f"{to:.1f},{down:.1f}" for to, down in places)
        dash = f' stroke-dasharray="{dashes}"' if dashes else ""
        yield f'<polyline class="{name}" style="fill:none"{dash} points="{points}"/>'
        yield from (f'<circle class="{name}" cx="{a:.1f}" cy="{b:.1f}" r="3"/>' for a, b in places)
        at = f'x="{places[-1][0] + 8:.1f}" y="{label:.1f}" dy="4"'
        yield f'<text class="{name}" {at}>{escape(line.name)}</text>'


def _apart(places: Sequence[float], room: float = 14) -> list[float]:
    """Places of labels, moved down where two would overlap."""
    moved = list(places)
    last = -math.inf
    for index in sorted(range(len(places)), key=places.__getitem__):
        last = moved[index] = max(places[index], last + room)
    return moved
