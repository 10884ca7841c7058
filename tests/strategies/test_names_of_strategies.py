"""A strategy is named in its own folder, in its file of the verifier, in docs and in tests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from scpatch import strategies

PACKAGE = Path(strategies.__file__).parents[1]
NAMES = strategies.names()
EXAMPLE = '    scpatch.plan("x.o", "localentry").refused '
"""A line of the session in the package's docstring."""


OTHER = re.compile(r"(?<!\w)\.localentry\b|--paca-toc-offset\b")
"""A directive of the assembler, and an option that several strategies take."""


def names(line: str, name: str) -> bool:
    """Whether a line has the name as a word, also with `_`."""
    word = rf"(?<!\w){name.replace('-', '[-_]')}(?!\w)"
    return re.search(word, OTHER.sub("", line)) is not None


def allowed(package: Path, file: Path, line: str, name: str) -> bool:
    folder = name.replace("-", "_")
    place = file.relative_to(package).as_posix()
    return (
        place.startswith(f"strategies/{folder}/")
        or place == f"verifier/reasons/{folder}.py"
        or (place == "strategies/__init__.py" and line == f'DEFAULT = "{strategies.DEFAULT}"')
        or (place == "__init__.py" and line.startswith(EXAMPLE))
        # The document's schema lists the words for states and reasons, made from the enumerations.
        or (place == "report/schema.json" and line.strip(" ,") == f'"{name}"')
    )


def elsewhere(package: Path) -> Iterator[str]:
    """Where a strategy is named and must not be."""
    for file in sorted(package.rglob("*")):
        if not file.is_file() or "__pycache__" in file.parts:
            continue
        for number, line in enumerate(file.read_text().splitlines(), start=1):
            for name in NAMES:
                if names(line, name) and not allowed(package, file, line, name):
                    yield f"{file.relative_to(package)}:{number}: {line.strip()}"


def test_a_strategy_is_named_in_its_own_folder() -> None:
    assert list(elsewhere(PACKAGE)) == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "place", ["sites/model.py", "strategies/scan.py", "verifier/reasons/__init__.py", "cli.py"]
)
def test_a_planted_name_is_found(tmp_path: Path, name: str, place: str) -> None:
    file = tmp_path / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"if strategy == '{name}':\n    pass\n")
    assert list(elsewhere(tmp_path)) == [f"{place}:1: if strategy == '{name}':"]
    file.write_text(f"from scpatch.strategies.{name.replace('-', '_')} import STRATEGY\n")
    assert len(list(elsewhere(tmp_path))) == 1


def test_what_is_no_name_of_a_strategy(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text('asm = ".localentry f, 1"\npaca_toc = PACA\nlivepatch = 1\n')
    assert list(elsewhere(tmp_path)) == []
