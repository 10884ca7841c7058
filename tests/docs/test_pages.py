"""The README and the tutorial are true: their commands run, and print what the pages show."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docs.console import ROOT, check, commands, files
from tests.kbuild.support import image_arguments, make_tree
from tests.tools import CROSS, run

README = (ROOT / "README.md").read_text()

RUN_ELSEWHERE = {
    "sh fixtures/demo.sh": "tests/test_demo_script.py",
    "sh tests/run.sh": "is this run",
}


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files of the project, in which a session may write."""
    folder = tmp_path_factory.mktemp("docs") / "scpatch"
    names = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True)
    for name in filter(None, names.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def test_the_session_of_the_readme(checkout: Path, tmp_path: Path) -> None:
    """pip installs below a folder of the test: the checkout under test stays installed."""
    pip = {"PREFIX": str(tmp_path), "IGNORE_INSTALLED": "1", "NO_DEPS": "1", "QUIET": "2"}
    shown = commands(README)
    assert [command.text.split()[:2] for command in shown] == [
        ["pip", "install"],
        ["scpatch", "rewrite"],
        ["scpatch", "verify"],
        ["scpatch", "diff"],
    ]
    for command in shown:
        check(command, checkout, **{f"PIP_{name}": value for name, value in pip.items()})
    assert (tmp_path / "bin" / "scpatch").exists()


@pytest.mark.parametrize(("page", "least"), [("tutorial.md", 9), ("how-to/ninja.md", 5)])
def test_the_session_of_a_page(page: str, least: int, tmp_path: Path) -> None:
    text = (ROOT / "docs" / page).read_text()
    for name, content in files(text).items():
        (tmp_path / name).write_text(content.replace("powerpc64le-linux-gnu-", CROSS))
    shown = commands(text)
    assert len(shown) >= least
    for command in shown:
        check(command, tmp_path)


def test_the_kernel_build_of_the_readme(tmp_path: Path) -> None:
    """In a tree that is linked as Kbuild links vmlinux."""
    line = next(line for line in lines() if line.startswith("make "))
    tree = make_tree(tmp_path)
    arguments = " ".join(image_arguments())
    (tree / "Makefile").write_text(f"vmlinux: vmlinux.a\n\t$(LD) {arguments}\n")
    run("sh", "-c", line, cwd=tree)
    listing = run(f"{CROSS}objdump", "-d", tree / "vmlinux").stdout
    assert "<r2save.__SCT__work" in listing


def test_every_other_command_of_the_readme_is_run() -> None:
    left = [line for line in lines() if not line.startswith("make LD=")]
    assert left == list(RUN_ELSEWHERE)


def lines() -> list[str]:
    """The commands that the README shows without their output."""
    text = re.sub(r"```.*?```", "", README, flags=re.S)
    return re.findall(r"^    (\S.*?)(?:  +#.*)?$", text, re.M)


def test_the_packages_of_the_readme_are_those_of_the_set_up() -> None:
    packages = re.findall(r"`apt-get install ([^`]+)`", README)
    assert packages
    needed = (ROOT / "fixtures" / "setup.sh").read_text()
    named = {line.split()[2] for line in needed.splitlines() if line.split()[:1] == ["need"]}
    assert named.issuperset(name for text in packages for name in text.split())
