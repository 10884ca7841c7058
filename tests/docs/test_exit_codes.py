"""The table of exit codes: each of its cells is tried."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tests.tools import FIXTURES, ROOT, run

PAGE: Final = ROOT / "docs" / "reference" / "commands.md"
OLD, NEW, BAD, NONE = "sites.o", "new.o", "refused.o", "none.o"
TRIED: Final[dict[tuple[str, int], list[str]]] = {
    ("rewrite", 0): ["-n", OLD],
    ("rewrite", 1): [NONE],
    ("rewrite", 2): ["--no-such"],
    ("rewrite", 3): ["-n", BAD],
    ("scan", 0): ["--check", NEW],
    ("scan", 1): ["--check", OLD],
    ("scan", 2): ["--check", OLD, NONE],
    ("check", 0): ["--state", "stub", NEW],
    ("check", 1): [OLD],
    ("check", 2): [OLD, NONE],
    ("verify", 0): ["--no-run", OLD, NEW],
    ("verify", 1): ["--no-run", OLD, OLD],
    ("verify", 2): ["--no-run", OLD, NONE],
    ("diff", 0): [OLD, OLD],
    ("diff", 1): [OLD, NEW],
    ("diff", 2): [OLD, NONE],
    ("advise", 0): [OLD],
    ("advise", 2): [NONE],
    ("explain", 0): ["SCP203"],
    ("explain", 1): ["SCP999"],
    ("explain", 2): ["--no-such"],
}


def test_every_cell_is_true(tmp_path: Path) -> None:
    for name in ("module.ko", BAD):
        (tmp_path / name).write_bytes((FIXTURES / name).read_bytes())
    (tmp_path / "module.ko").rename(tmp_path / OLD)
    run("scpatch", "rewrite", "-q", OLD, "-o", NEW, cwd=tmp_path)
    rows = re.findall(r"^\| `(\w+)`.*?\|(.*)\|$", PAGE.read_text().partition("## Options")[0], re.M)
    cells = {
        (command, status)
        for command, row in rows
        for status, cell in enumerate(row.split("|"))
        if cell.strip() and not cell.strip().startswith("`scpatch-ld`")
    }
    assert cells == set(TRIED)
    for (command, status), words in TRIED.items():
        done = run("scpatch", command, *words, cwd=tmp_path, check=False)
        assert done.returncode == status, (command, words, done.stderr)
