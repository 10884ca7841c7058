"""The wheel and the sdist: what is in them, and that a second build gives the same bytes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path

import pytest

from scpatch import __version__
from tests.tools import ROOT, run

PARTS = ("scpatch", "docs/man", "LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py")
"""What a build needs; there are also tests here, which it must leave out."""
MAN_PAGES = ("scpatch.1", "scpatch-ld.1")


def checkout(folder: Path) -> Path:
    """A copy of the sources, all files as new as a checkout makes them."""
    for part in (*PARTS, "tests/__init__.py", "tests/test_cli.py"):
        source, target = ROOT / part, folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, target, ignore=ignored, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(source, target)
    (folder / "scpatch/kbuild/scpatch-ld").chmod(0o777 & ~_umask())
    return folder


def _umask() -> int:
    old = os.umask(0)
    os.umask(old)
    return old


def build_wheel(source: Path, target: Path, *options: str) -> Path:
    """Builds as `pip install` does, with the setuptools of this environment and no index."""
    offline = ("--no-deps", "--no-index", "--no-build-isolation", "--no-cache-dir")
    run(sys.executable, "-m", "pip", "wheel", "-q", *offline, *options, "-w", target, source)
    (wheel,) = target.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    return build_wheel(checkout(folder / "source"), folder / "out")


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    source = checkout(folder / "source")
    code = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
    run(sys.executable, "-c", code, folder, cwd=source)
    (path,) = folder.glob("*.tar.gz")
    return path


@pytest.fixture
def other_umask() -> Iterator[None]:
    old = os.umask(0o077)
    yield
    os.umask(old)


@pytest.mark.usefixtures("other_umask")
def test_a_second_build_gives_the_same_bytes(wheel: Path, tmp_path: Path) -> None:
    """In another folder, at another time, with another umask."""
    again = build_wheel(checkout(tmp_path / "elsewhere"), tmp_path / "out")
    assert again.name == wheel.name
    assert again.read_bytes() == wheel.read_bytes()


def test_the_licence_is_an_spdx_expression(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        name = f"scpatch-{__version__}.dist-info"
        metadata = Parser().parsestr(file.read(f"{name}/METADATA").decode())
        licence = file.read(f"{name}/licenses/LICENSE")
    assert metadata["License-Expression"] == "MIT"
    assert metadata["License"] is None
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert licence == (ROOT / "LICENSE").read_bytes()
    assert not [line for line in metadata.get_all("Classifier", []) if "License" in line]


def test_the_build_warns_of_nothing_deprecated(tmp_path: Path) -> None:
    source = checkout(tmp_path / "source")
    code = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    done = run(sys.executable, "-W", "default", "-c", code, tmp_path, cwd=source)
    assert not re.findall(r".*[Dd]eprecat.*", done.stderr)


def test_an_installation_has_the_programs_and_the_man_pages(wheel: Path, tmp_path: Path) -> None:
    options = ("--no-deps", "--no-index", "--ignore-installed", "--prefix", tmp_path)
    run(sys.executable, "-m", "pip", "install", "-q", *options, wheel)
    programs = {path.name for path in (tmp_path / "bin").iterdir()}
    assert programs == {"scpatch", "scpatch-ld", "scpatch-link"}
    assert os.access(tmp_path / "bin/scpatch-ld", os.X_OK)
    for page in MAN_PAGES:
        installed = tmp_path / "share/man/man1" / page
        assert installed.read_bytes() == (ROOT / "docs/man" / page).read_bytes()
    (packages,) = tmp_path.glob("lib/python*/site-packages")
    done = subprocess.run(
        [tmp_path / "bin/scpatch-ld", "ld", "-T", "arch/powerpc/kernel/vmlinux.lds", "@inputs"],
        env={**os.environ, "PYTHONPATH": str(packages)},
        cwd=tmp_path,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.stderr.startswith("scpatch: error: @inputs: a response file ")


def test_the_package_is_whole(wheel: Path) -> None:
    """Every file of the package is in the wheel, and nothing else but programs and man pages."""
    expected = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "scpatch").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
    data = f"scpatch-{__version__}.data"
    programs = {f"{data}/scripts/scpatch-ld"}
    assert names == expected | programs | {f"{data}/data/share/man/man1/{p}" for p in MAN_PAGES}


def test_the_sdist_has_no_tests_and_gives_the_same_wheel(
    sdist: Path, wheel: Path, tmp_path: Path
) -> None:
    with tarfile.open(sdist) as file:
        names = [name.partition("/")[2] for name in file.getnames()]
    subprocess.run(["tar", "-xf", sdist, "-C", tmp_path], check=True)
    assert not [name for name in names if name.startswith(("tests", "fixtures"))]
    assert {"LICENSE", "README.md", "setup.py", *(f"docs/man/{p}" for p in MAN_PAGES)} <= {*names}
    (source,) = tmp_path.iterdir()
    assert build_wheel(source, tmp_path / "out").read_bytes() == wheel.read_bytes()
