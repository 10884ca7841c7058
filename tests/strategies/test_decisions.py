"""Facts, then decisions: what `sites` finds, and what each strategy makes of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scpatch import strategies
from scpatch.files.inputs import read_object
from scpatch.linux.offsets import Offsets
from scpatch.rewriter import Options, plan_file, write
from scpatch.sites.actions import Action, Common, Undecided
from scpatch.sites.choices import Choices
from scpatch.sites.model import Kind, Scan
from scpatch.strategies.scan import scan
from tests.tools import FIXTURES, in_both, run

OBJECTS = in_both("calls-gcc.o", "marked.o", "merged.o", "module.ko", "refused.o", "sites.o")
DONE_BY_OTHERS = {
    Kind.RESTORED: Common.DONE,
    Kind.LINKER: Common.LINKER,
    Kind.LOADER: Common.LOADER,
    Kind.NOTOC: Common.NOTOC,
}


def found(name: str) -> tuple[Path, Scan]:
    path = FIXTURES / name
    elf = read_object(memoryview(path.read_bytes()), name)
    return path, scan(elf, Choices())


@pytest.mark.parametrize("name", OBJECTS)
def test_a_scan_decides_nothing(name: str) -> None:
    _, facts = found(name)
    assert facts.sites
    assert {site.state for site in facts.sites} == {Undecided.UNDECIDED}


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize("strategy", strategies.names())
def test_a_strategy_decides_every_site(name: str, strategy: str) -> None:
    """What needs nothing is left as it is, and a decision changes no fact."""
    path, facts = found(name)
    elf = read_object(memoryview(path.read_bytes()), name)
    chosen = strategies.load(strategy)
    sites = chosen.decide(elf, facts)
    allowed = {*Common, *chosen.actions}
    for fact, site in zip(facts.sites, sites, strict=True):
        assert site.state in allowed
        assert site._replace(state=fact.state, code=fact.code, detail=fact.detail) == fact
        assert site.state is DONE_BY_OTHERS.get(fact.kind, site.state)
        assert bool(site.code) == (site.state is Common.REFUSED)


def loaded(path: Path) -> list[str]:
    """The strategies that a scan of a file imports."""
    code = f"""
import sys
from pathlib import Path
from scpatch import strategies
from scpatch.rewriter import Options, plan_file
plan_file(Path({str(path)!r}), Options(None))
print(*(name for name in strategies.names() if strategies.folder(name) in sys.modules))
"""
    return run(sys.executable, "-c", code).stdout.split()


def test_a_scan_loads_only_what_has_left_a_trace(tmp_path: Path) -> None:
    """Beside the default strategy, whose decisions it shows."""
    path = FIXTURES / "calls-gcc.o"
    assert loaded(path) == ["callsite"]
    options = Options("paca", offsets=Offsets(paca_toc=16))
    write([plan_file(path, options, tmp_path / "paca.o")])
    assert loaded(tmp_path / "paca.o") == ["callsite", "paca"]


def test_all_words_for_decisions_are_different() -> None:
    words = strategies.every_action()
    assert len(set(map(str, words))) == len(words)
    assert [str(word) for word in words if isinstance(word, Common)] == list(map(str, Common))
    assert all(isinstance(word, Action) and word.words for word in words)
