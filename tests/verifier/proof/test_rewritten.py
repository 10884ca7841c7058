"""What the rewriter makes of real objects is proven, and both agree on every call site.

The rewriter's forward analysis and the proof's backward search answer the same question for each
site; `fixtures/expected.json`, written by hand, says what both have to find.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from scpatch.rewriter import Options, plan_file, write
from scpatch.verifier.types import Proof
from tests.bigendian import prove_both
from tests.tools import CROSS, FIXTURES, in_both, run

EXPECTED: dict[str, dict[str, list[str]]] = json.loads((FIXTURES / "expected.json").read_text())
STATE = {"rewrite": "stub", "refused": "left"}


def _options(path: Path, no_nop: str) -> Options:
    """As for an image, where an undefined trampoline needs no stub if r2 is saved."""
    undefined = "auto" if path.suffix == ".ko" else "rewrite"
    return Options(no_nop=no_nop, undefined=undefined)


def rewritten(path: Path, folder: Path, *, no_nop: str = "refuse") -> Path:
    target = folder / path.name
    write([plan_file(path, _options(path, no_nop), target)], allow_refused=True)
    return target


def by_function(proof: Proof) -> Iterator[tuple[str, list[str]]]:
    for name in dict.fromkeys(site.function for site in proof.sites):
        yield name, [site.state for site in proof.sites if site.function == name]


@pytest.mark.parametrize("name", in_both(*EXPECTED))
def test_every_site_is_what_it_should_be(name: str, tmp_path: Path) -> None:
    proof = prove_both(FIXTURES / name, rewritten(FIXTURES / name, tmp_path))
    assert proof.errors == ()
    wanted = {
        function: [STATE.get(word.split()[0], word.split()[0]) for word in words]
        for function, words in EXPECTED[Path(name).name].items()
        if words
    }
    assert dict(by_function(proof)) == wanted
    unchanged = {"left", "linker", "loader", "notoc", "done"}
    for site in proof.sites:
        assert site.right is (site.state != "left")
        assert site.was_right is (site.state in unchanged - {"left"})


@pytest.mark.parametrize("name", in_both(*EXPECTED))
def test_a_second_run_has_nothing_to_do(name: str, tmp_path: Path) -> None:
    once = rewritten(FIXTURES / name, tmp_path)
    proof = prove_both(once, once)
    assert proof.errors == ()
    done = {"done", "left", "linker", "loader", "notoc"}
    assert {site.state for site in proof.sites} <= done
    assert sum(s.state == "left" for s in proof.sites) == sum(
        word.startswith("refused") for words in EXPECTED[Path(name).name].values() for word in words
    )


@pytest.mark.parametrize("name", in_both("refused.o"))
def test_thunks_are_proven(tmp_path: Path, name: str) -> None:
    path = rewritten(FIXTURES / name, tmp_path, no_nop="thunk")
    proof = prove_both(FIXTURES / name, path)
    assert proof.errors == ()
    assert dict(by_function(proof))["no_nop"] == ["thunk"]


def test_stubs_survive_a_relocatable_link(tmp_path: Path) -> None:
    first, second = (rewritten(FIXTURES / name, tmp_path) for name in ("sites.o", "calls-gcc.o"))
    linked = tmp_path / "linked.o"
    run(CROSS + "ld", "-r", "-o", linked, first, second)
    proof = prove_both(linked, linked)
    assert proof.errors == ()
    # ld -r keeps all names; one call in the first object needs no r2.
    wanted = sum(len(w) for name in ("sites.o", "calls-gcc.o") for w in EXPECTED[name].values())
    assert [str(site.state) for site in proof.sites].count("done") == wanted - 1


def test_the_wrong_pair_of_files_is_an_error(tmp_path: Path) -> None:
    after = rewritten(FIXTURES / "sites.o", tmp_path)
    for pair in ((FIXTURES / "calls-gcc.o", after), (after, FIXTURES / "sites.o")):
        assert prove_both(*pair).errors[0].startswith("the file header was changed")
