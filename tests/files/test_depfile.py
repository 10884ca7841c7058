"""Dependency files, as GNU make and ninja read them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scpatch.errors import ScpatchError
from scpatch.files.depfile import depfile
from tests import archives
from tests.archives import objects
from tests.tools import FIXTURES, run

NAMES = (
    "a.o",
    "a b.o",
    "a  b#c.o",
    "a$b.o",
    "a$(b).o",
    "$$.o",
    "a:b.o",
    "é,{+}~@[1]!.o",
    "p/a b/c",
)
RULE = [sys.executable, "-c", "import os; open('log', 'a').write('x'); open(os.environ['T'], 'w')"]


def of_make(folder: Path, target: str) -> int:
    """How often the rule for `target` has run after a `make`."""
    quoted = target.replace("$", "$$").replace(" ", "\\ ").replace("#", "\\#").replace(":", "\\:")
    (folder / "rule.py").write_text(RULE[2])
    recipe = f"{quoted}:\n\t@{sys.executable} rule.py\ninclude d\n"
    (folder / "Makefile").write_text(f"all: {quoted}\n{recipe}")
    run("env", f"T={target}", "make", cwd=folder)
    return len((folder / "log").read_text())


def of_ninja(folder: Path, target: str) -> int:
    """How often the edge for `target` has run after a `ninja`."""
    (folder / "rule.py").write_text(f"{RULE[2]}\nimport shutil; shutil.copy('d', 'd.read')")
    quoted = target.replace("$", "$$").replace(" ", "$ ").replace(":", "$:")
    rule = f"rule r\n  command = {sys.executable} rule.py\n  depfile = d.read\n  deps = gcc\n"
    (folder / "build.ninja").write_text(f"{rule}build {quoted}: r\n")
    run("env", f"T={target}", "ninja", cwd=folder)
    return len((folder / "log").read_text())


@pytest.mark.parametrize("runs", [of_make, of_ninja])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("role", ["target", "file", "other"])
def test_a_build_redoes_what_has_changed(
    runs: Callable[[Path, str], int], name: str, role: str, tmp_path: Path
) -> None:
    words = {"target": "out.o", "file": "in.o", "other": "other.h"} | {role: name}
    for source in (words["file"], words["other"]):
        (tmp_path / source).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / source).write_text("old")
    (tmp_path / words["target"]).parent.mkdir(parents=True, exist_ok=True)
    text = depfile(Path("d"), [words["target"]], [words["file"]], [words["other"]])
    (tmp_path / "d").write_text(text)
    assert [runs(tmp_path, words["target"]) for _ in range(2)] == [1, 1]
    for count, source in enumerate((words["file"], words["other"]), 2):
        later(tmp_path / source, tmp_path / words["target"])
        assert [runs(tmp_path, words["target"]) for _ in range(2)] == [count, count]


def later(file: Path, than: Path) -> None:
    """Makes a file newer than another one, however coarse the clock of the file system is. That one
    was made just now: put both into the past, so that what is made next is newer still."""
    now = than.stat().st_mtime_ns
    os.utime(than, ns=(now - 2 * 10**9,) * 2)
    os.utime(file, ns=(now - 10**9,) * 2)


@pytest.mark.parametrize("name", ["a\nb", "a\tb", "a%b", "a*b", "a?b", "a=b", "a|b", "a;b", "a\\b"])
def test_a_name_that_one_of_them_cannot_read_is_refused(name: str) -> None:
    for words in ([name], ["in"], []), (["out"], [name], []), (["out"], ["in"], [name]):
        with pytest.raises(ScpatchError, match="do not both read") as error:
            depfile(Path("x.d"), *words)
        assert (error.value.code, error.value.file) == ("SCP110", "x.d")


def rewrite(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "scpatch", "rewrite", *words, cwd=folder, check=False)


def test_what_an_output_was_made_from(tmp_path: Path) -> None:
    """The members of a thin archive, in it and in another folder, and the header of offsets."""
    objects(tmp_path / "lib", "sites.o")
    objects(tmp_path, "calls-gcc.o")
    archives.thin(tmp_path / "lib", "sites.o", "../calls-gcc.o")
    (tmp_path / "offsets.h").write_text("#define PACATOC 16\n")
    strategy = ("--strategy=paca", "--asm-offsets=offsets.h")
    done = rewrite(tmp_path, "lib/x.a", "-o", "out.a", "--depfile", "out.d", *strategy)
    assert done.returncode == 0, done.stderr
    members = ["lib/sites.o", "lib/../calls-gcc.o"]
    first, *others = (tmp_path / "out.d").read_text().split("\n\n")
    assert first.split(" \\\n ") == ["out.a: lib/x.a", *members, "offsets.h"]
    assert " ".join(others).split() == [f"{name}:" for name in (*members, "offsets.h")]


def test_what_several_outputs_were_made_from(tmp_path: Path) -> None:
    """Also the list that names the files."""
    objects(tmp_path, "sites.o", "calls-gcc.o")
    (tmp_path / "list").write_text("sites.o\ncalls-gcc.o\n")
    words = ("--files-from", "list", "--output-dir", "out", "--depfile", "out.d")
    done = rewrite(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    expected = "out/sites.o \\\n out/calls-gcc.o: sites.o \\\n calls-gcc.o \\\n list\n\nlist:\n"
    assert (tmp_path / "out.d").read_text() == expected


def test_ninja_rewrites_a_thin_archive_again_when_a_member_has_changed(tmp_path: Path) -> None:
    """Without a rule for the archive: only the dependency file names the members."""
    member, _ = objects(tmp_path, "sites.o", "calls-gcc.o")
    archives.thin(tmp_path, "sites.o", "calls-gcc.o")
    command = f"echo $out >>log; {sys.executable} -m scpatch rewrite -q $in -o $out"
    (tmp_path / "build.ninja").write_text(
        f"rule scpatch\n  command = {command} --depfile $out.d\n  depfile = $out.d\n  deps = gcc\n"
        "build y.a: scpatch x.a\nbuild copy.o: scpatch calls-gcc.o\n"
    )
    for _ in range(2):
        run("ninja", cwd=tmp_path)
        assert sorted((tmp_path / "log").read_text().split()) == ["copy.o", "y.a"]
    os.utime(member)
    run("ninja", cwd=tmp_path)
    assert (tmp_path / "log").read_text().split()[2:] == ["y.a"]
    assert "no work to do" in run("ninja", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["refused.o", "-o", "out.o"], 3, "nothing was written"),
        (["x86_64.o", "-o", "out.o"], 1, "SCP102"),
        (["sites.o", "-o", "none/out.o"], 1, "SCP110"),
        (["sites.o", "-o", "out.o", "--dry-run"], 0, "would be"),
        (["sites.o"], 2, "--depfile needs --output"),
        (["sites.o", "-o", "./sites.o"], 2, "an output that is another file"),
        (["sites.o", "--output-dir", "."], 2, "an output that is another file"),
        ([".", "--output-dir", "out"], 2, "--depfile does not go with a folder"),
    ],
)
def test_it_is_not_written_without_an_output(
    words: list[str], status: int, message: str, tmp_path: Path
) -> None:
    for name in ("refused.o", "x86_64.o", "sites.o"):
        (tmp_path / name).write_bytes((FIXTURES / name).read_bytes())
    before = sorted(tmp_path.iterdir())
    done = rewrite(tmp_path, *words, "--depfile", "out.d")
    assert (done.returncode, message in done.stderr) == (status, True), done.stderr
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "sites.o").read_bytes() == (FIXTURES / "sites.o").read_bytes()


@pytest.mark.parametrize("name", ["./sites.o", "link", "out.o", "./asm-offsets.h", "list"])
def test_it_overwrites_nothing_that_is_read_or_written(name: str, tmp_path: Path) -> None:
    (tmp_path / "sites.o").write_bytes((FIXTURES / "sites.o").read_bytes())
    (tmp_path / "asm-offsets.h").write_text("#define PACATOC 16 /* */\n")
    (tmp_path / "list").write_text("sites.o\n")
    (tmp_path / "link").symlink_to("sites.o")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    files = ["--files-from", "list", "--output-dir", "o"] if name == "list" else ["sites.o"]
    output = [] if name == "list" else ["-o", "out.o"]
    done = rewrite(tmp_path, *files, *output, "--asm-offsets", "asm-offsets.h", "--depfile", name)
    assert done.returncode == 2
    assert f"--depfile {Path(name)} would overwrite " in done.stderr
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_dependency_file_that_cannot_be_written_leaves_no_output(tmp_path: Path) -> None:
    (tmp_path / "sites.o").write_bytes((FIXTURES / "sites.o").read_bytes())
    done = rewrite(tmp_path, "sites.o", "-o", "out.o", "--depfile", "none/out.d")
    assert done.returncode == 1
    assert "none/out.d: cannot write: No such file or directory [SCP110]" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["sites.o"]
