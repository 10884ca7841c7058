"""Signed and compressed modules: read as they are, rewritten without loss."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scpatch import Options, RefusedError, ScpatchError, advise, diff, plan, rewrite, scan, verify
from tests.tools import FIXTURES, ROOT

MODULE, SIGNED = FIXTURES / "module.ko", FIXTURES / "module-signed.ko"
STRIP = Options(strip_signature=True)
SUFFIXES = {".gz": "gzip", ".xz": "xz", ".zst": "zstd"}


@pytest.fixture(params=SUFFIXES)
def packed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The signed module, as a distribution ships it."""
    path = tmp_path / f"module.ko{request.param}"
    with path.open("wb") as out:
        subprocess.run([SUFFIXES[request.param], "-c", SIGNED], stdout=out, check=True)
    return path


def unpacked(path: Path) -> bytes:
    return subprocess.run(
        [SUFFIXES[path.suffix], "-dc", path], capture_output=True, check=True
    ).stdout


def test_the_same_is_read(packed: Path) -> None:
    for source in (SIGNED, packed, packed.read_bytes()):
        assert scan(source).sites == scan(MODULE).sites
        assert advise(source)._replace(path=MODULE) == advise(MODULE)
    assert diff(packed, SIGNED) == []


def test_a_signed_module_stays_as_it_is(packed: Path, tmp_path: Path) -> None:
    for source in (SIGNED, packed):
        copy = Path(shutil.copy(source, tmp_path / f"copy{source.suffix}"))
        with pytest.raises(ScpatchError, match="any change breaks its signature") as caught:
            rewrite(copy)
        assert caught.value.code == "SCP105"
        assert copy.read_bytes() == source.read_bytes()


def test_nothing_to_do_keeps_signature_and_bytes(packed: Path, tmp_path: Path) -> None:
    options = Options(trampolines=["no such name"])
    for source in (SIGNED, packed):
        target = tmp_path / f"target{source.suffix}"
        assert rewrite(source, options=options, output=target).outputs
        assert target.read_bytes() == source.read_bytes()
        assert plan(source.read_bytes(), options=options).data == source.read_bytes()


def test_the_result_is_that_of_the_plain_module(packed: Path) -> None:
    expected = plan(MODULE).data
    assert plan(SIGNED, options=STRIP).data == expected
    from_bytes = plan(packed.read_bytes(), options=STRIP).data
    written = rewrite(packed, options=STRIP)
    assert unpacked(packed) == expected
    assert from_bytes == packed.read_bytes()
    assert len(written.outputs) == 1


def test_verify_compares_without_signatures(packed: Path, tmp_path: Path) -> None:
    target = tmp_path / f"new{packed.suffix}"
    rewrite(packed, options=STRIP, output=target)
    (verdict,) = verify(packed, target)
    assert verdict.proven
    assert verdict.label == str(target)
    wrong = bytearray(unpacked(target))
    wrong[wrong.index(b"vermagic=") + 9] ^= 1
    target.write_bytes(gzip.compress(wrong))
    (verdict,) = verify(packed, target)
    assert not verdict.proven
    assert verdict.label == str(target)


def test_the_command_says_what_to_do(tmp_path: Path) -> None:
    copy = shutil.copy(SIGNED, tmp_path)
    command = [sys.executable, "-m", "scpatch", "rewrite", copy]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"scpatch: error: {copy}: a signed module" in done.stderr
    assert "--strip-signature" in done.stderr
    assert "sign-file" in done.stderr
    subprocess.run([*command, "--strip-signature"], cwd=ROOT, check=True)
    assert Path(copy).read_bytes() == plan(MODULE).data


def test_a_refused_call_leaves_a_packed_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "refused.o.gz"
    path.write_bytes(gzip.compress((FIXTURES / "refused.o").read_bytes()))
    before = path.read_bytes()
    with pytest.raises(RefusedError):
        rewrite(path)
    assert path.read_bytes() == before
