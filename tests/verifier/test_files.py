"""Files of every kind through the top of the verifier."""

from __future__ import annotations

from pathlib import Path

import pytest

from scpatch.verifier.files import IN_MEMORY, verify_files, verify_link
from scpatch.verifier.options import VerifyOptions
from scpatch.verifier.tools import find_tools
from tests.archives import make, objects
from tests.tools import LD, assemble, rewritten, run


def test_bytes_are_verified_like_files(tmp_path: Path) -> None:
    (path,) = objects(tmp_path, "sites.o")
    after = rewritten(path)
    (by_path,) = verify_files(path, after, tools=find_tools())
    (by_bytes,) = verify_files(path.read_bytes(), after.read_bytes(), tools=find_tools())
    assert by_path.runs
    assert (by_bytes.label, by_bytes.proof, by_bytes.runs) == (
        IN_MEMORY,
        by_path.proof,
        by_path.runs,
    )


def test_an_archive_of_bytes(tmp_path: Path) -> None:
    objects(tmp_path, "sites.o", "marked.o")
    data = make(tmp_path / "x.a", "sites.o", "marked.o").read_bytes()
    labels = [verdict.label for verdict in verify_files(data, data)]
    assert labels == [f"{IN_MEMORY}(sites.o)", f"{IN_MEMORY}(marked.o)"]


def test_an_image_of_bytes(tmp_path: Path) -> None:
    source = "FUNC __SCT__x\n blr\n END __SCT__x\n"
    source += "FRAME f\n std 2,24(1)\n bl __SCT__x\n ld 2,24(1)\nLEAVE f\n"
    path = assemble(tmp_path, source)
    run(LD, "-e0", "-o", tmp_path / "image", path)
    verdict = verify_link([path.read_bytes()], (tmp_path / "image").read_bytes())
    assert (verdict.label, verdict.proven) == (IN_MEMORY, True)
    assert [site.state for site in verdict.proof.sites] == ["saved"]


def test_one_pattern_is_no_sequence_of_patterns() -> None:
    with pytest.raises(ValueError, match="not a sequence of patterns"):
        VerifyOptions(trampolines="__SCT__*")  # type: ignore[arg-type]
