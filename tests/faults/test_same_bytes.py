"""The same input gives the same bytes, wherever, whenever and by whichever Python."""

from __future__ import annotations

import glob
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import archives
from tests.tools import FIXTURES, ROOT

_PROGRAM = """
import hashlib, json, os, sys
from pathlib import Path
sys.path.insert(0, os.environ["SCPATCH_ROOT"])
from scpatch.errors import ScpatchError
from scpatch.rewriter import Options, plan_file, write
from scpatch.strategies import names
from scpatch.linux.offsets import Offsets

common = Options(offsets=Offsets(paca_toc=16), lines="none")
ways = [common._replace(strategy=name, hoist="kernel", no_nop="thunk") for name in names()]
ways.append(common._replace(hoist="never"))
digests = {}
for number, way in enumerate(ways):
    for path in sys.argv[1:]:
        target = Path(path).with_name("out")
        what = []
        try:
            write([plan_file(Path(path), way, target)], allow_refused=True)
        except ScpatchError as error:
            what.append(error.code)
        if target.exists():
            what.append(hashlib.sha256(target.read_bytes()).hexdigest())
            target.unlink()
        for member in sorted(Path(str(target) + ".members").glob("*")):
            what += [member.name, hashlib.sha256(member.read_bytes()).hexdigest()]
            member.unlink()
        digests[f"{number} {os.path.basename(path)}"] = what
print(sys.version_info[:2])
print(json.dumps(digests, sort_keys=True))
"""
_OBJECTS = ("calls-clang.o", "calls-gcc.o", "refused.o", "sites.o", "module.ko")


def digests(
    folder: Path, python: str = sys.executable, *, backwards: bool = False, **changes: str
) -> dict[str, list[str]]:
    """What becomes of fixtures and of archives of them, in a folder: digests by name."""
    folder.mkdir()
    for name in (*_OBJECTS, "members.a"):
        shutil.copy(FIXTURES / name, folder)
    archives.make(folder / "thin.a", *_OBJECTS[:2], options="cDPrST")
    paths = [str(folder / name) for name in (*_OBJECTS, "members.a", "thin.a")]
    done = subprocess.run(
        [python, "-c", _PROGRAM, *(reversed(paths) if backwards else paths)],
        env={"PATH": os.environ["PATH"], "SCPATCH_ROOT": str(ROOT), **changes},
        text=True,
        capture_output=True,
        check=True,
    )
    version, found = done.stdout.splitlines()
    print(version)
    result: dict[str, list[str]] = json.loads(found)
    return result


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    found = digests(tmp_path_factory.mktemp("same") / "expected", PYTHONHASHSEED="0")
    assert len(found) == 5 * (len(_OBJECTS) + 2)
    assert sum(len(what) > 0 for what in found.values()) == len(found)
    assert len({what[-1] for what in found.values()}) > len(found) // 2
    return found


_ENVIRONMENTS = (
    {"PYTHONHASHSEED": "1", "LC_ALL": "C", "PYTHONUTF8": "0", "TZ": "UTC+12", "HOME": "/nowhere"},
    {"PYTHONOPTIMIZE": "2", "LANG": "tr_TR.UTF-8", "TZ": "Pacific/Kiritimati", "COLUMNS": "20"},
)


@pytest.mark.parametrize("changes", _ENVIRONMENTS)
def test_the_environment(
    tmp_path: Path, expected: dict[str, list[str]], changes: dict[str, str]
) -> None:
    """The second one has a random PYTHONHASHSEED."""
    assert digests(tmp_path / "x", **changes) == expected  # type: ignore[arg-type]


def test_the_path_and_the_order(tmp_path: Path, expected: dict[str, list[str]]) -> None:
    folder = tmp_path / os.fsdecode(b"with space, \xc3\xa4, \xff and a long name " + b"n" * 150)
    assert digests(folder, backwards=True) == expected


def pythons() -> list[str]:
    """The interpreters of the versions that scpatch is for, as far as they are here."""
    found = {}
    for minor in range(11, 20):
        name = f"python3.{minor}"
        versions = os.path.join(os.environ.get("PYENV_ROOT", "/nowhere"), "versions")
        for path in (shutil.which(name), *glob.glob(f"{versions}/3.{minor}.*/bin/{name}")):
            if path and subprocess.run([path, "-c", ""], capture_output=True).returncode == 0:
                found[name] = path
    return list({"this one": sys.executable, **found}.values())


@pytest.mark.parametrize("python", pythons())
def test_the_version_of_python(tmp_path: Path, expected: dict[str, list[str]], python: str) -> None:
    assert digests(tmp_path / "x", python) == expected
