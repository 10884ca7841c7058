"""Names that are not UTF-8: of files, members, sections and symbols."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from scpatch.verifier.proof import prove
from tests import archives
from tests.elfwriter import (
    R_PPC64_REL24,
    STB_GLOBAL,
    STT_FILE,
    Elf,
    Relocation,
    Symbol,
    build,
    code_section,
    function,
)
from tests.relocated import CALL, CODE
from tests.sites.support import listed
from tests.tools import ROOT, rewritten, run

LATIN = b"\xe9\xff\x80"
SHOWN = r"\xe9\xff\x80"


def odd(folder: Path) -> Path:
    """An object with such names everywhere."""
    place = "__placeholder__"[:15]
    call = Relocation(offset=CALL, type=R_PPC64_REL24, symbol=f"__SCT__{place}")
    home = f".text.{place}"
    elf = Elf(
        sections=[code_section(CODE, call, name=home)],
        symbols=[
            Symbol(name=f"{place}.c", type=STT_FILE, st_shndx=0xFFF1),
            function(f"f{place}", len(CODE), section=home),
            Symbol(name=f"__SCT__{place}", bind=STB_GLOBAL),
            Symbol(name=f"__SCK__{place}", bind=STB_GLOBAL),
        ],
    )
    path = folder / "x.o"
    path.write_bytes(build(elf).replace(place.encode(), LATIN * 5))
    return path


@pytest.mark.parametrize("choices", [{}, {"no_nop": "thunk"}])
def test_symbols_and_sections(tmp_path: Path, choices: dict[str, str]) -> None:
    path = odd(tmp_path)
    for new in (rewritten(path, **choices), listed(path, **choices)):
        proof = prove(path, new)
        assert proof.errors == ()
        assert [site.state for site in proof.sites] == ["stub"]


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
@pytest.mark.parametrize("options", ["rcS", "rcST"])
def test_files_and_members(
    tmp_path: Path, options: str, locale: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("LC_ALL", locale)
    folder = tmp_path / os.fsdecode(b"d" + LATIN)
    folder.mkdir()
    name = os.fsdecode(b"member-" + LATIN + b".o")
    odd(tmp_path).rename(folder / name)
    archive = archives.make(folder / os.fsdecode(b"x" + LATIN + b".a"), name, options=options)
    new = archive.with_name("new.a")
    scpatch = [sys.executable, "-m", "scpatch"]
    run(*scpatch, "rewrite", archive, "-o", new)
    commands: list[list[str | Path]] = [["scan", new], ["advise", archive]]
    # The members of a new thin archive are copies with other names.
    commands += [["diff", archive, new]] if options == "rcS" else []
    for words in commands:
        done = run(*scpatch, *words, check=False)
        assert "Traceback" not in done.stderr
        assert SHOWN in done.stdout
    done = run(*scpatch, "verify", "--no-run", archive, new)
    assert ": proven: " in done.stdout
    assert SHOWN in done.stdout
