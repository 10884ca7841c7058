"""Commands on folders and lists of files."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.report.support import validated
from tests.tools import FIXTURES, assemble


def scpatch(*arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        [sys.executable, "-m", "scpatch", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        check=False,
    )
    return subprocess.CompletedProcess(
        result.args, result.returncode, result.stdout.decode(), result.stderr.decode()
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree of a module, an archive, an object with refused sites and one without sites."""
    folder = tmp_path / "tree"
    (folder / "net").mkdir(parents=True)
    shutil.copy(FIXTURES / "module.ko", folder / "net" / "module.ko")
    shutil.copy(FIXTURES / "sites.o", folder / "sites.o")
    assemble(folder, "f:\tblr\n", "nocalls.o")
    return folder


def test_scan_of_a_tree_has_a_line_per_file_with_sites_and_a_total(tree: Path) -> None:
    result = scpatch("scan", tree)
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[:2]] == [f"{tree}/sites.o", f"{tree}/net/module.ko"]
    assert lines[-1].startswith("total: ")
    assert "in 2 of 3 objects" in lines[-1]
    assert (len(lines), result.returncode, result.stderr) == (4, 0, "")


@pytest.mark.parametrize("form", ["text", "plain", "json", "csv"])
def test_the_number_of_jobs_changes_nothing(tree: Path, form: str) -> None:
    (tree / "bad.o").write_text("no object\n")
    alone, shared = (scpatch("scan", tree, "-j", jobs, "--format", form) for jobs in (1, 3))
    assert (alone.stdout, alone.stderr) == (shared.stdout, shared.stderr)
    assert alone.returncode == shared.returncode == 1
    assert "bad.o: not an ELF file [SCP101]" in shared.stderr
    if form == "json":
        assert len(validated(shared.stdout)["files"]) == 3  # type: ignore[arg-type]


def test_lists_and_response_files_name_the_same(tree: Path, tmp_path: Path) -> None:
    names = sorted(str(path) for path in tree.rglob("*o"))
    (tmp_path / "args").write_text(" ".join(names))
    by_name = scpatch("scan", "--format", "plain", *names)
    assert by_name.stdout.count("\n") > 3
    lines = "\n".join(names).encode()
    nulls = lines.replace(b"\n", b"\0")
    for arguments, stdin in (
        (("--files-from", "-"), lines),
        (("--files-from", "-", "-0"), nulls),
        ((f"@{tmp_path}/args",), b""),
    ):
        result = scpatch("scan", "--format", "plain", *arguments, stdin=stdin)
        assert (result.stdout, result.stderr) == (by_name.stdout, "")


def test_objects_for_other_machines_are_left_out_of_a_tree_and_told(tree: Path) -> None:
    shutil.copy(FIXTURES / "x86_64.o", tree / "host.o")
    result = scpatch("scan", tree)
    note = f"scpatch: note: left out 1 file for other machines: {tree}/host.o\n"
    assert (result.returncode, result.stderr) == (0, note)
    named = scpatch("scan", tree / "host.o")
    assert (named.returncode, "[SCP102]" in named.stderr) == (1, True)


def test_without_files() -> None:
    result = scpatch("scan")
    assert result.returncode == 2
    assert "missing argument 'FILE...'" in result.stderr


def test_one_file_imports_no_executor(tmp_path: Path) -> None:
    code = (
        "import sys; from scpatch.cli import application;"
        "application('scan')(['scan', sys.argv[1]], standalone_mode=False);"
        "assert 'concurrent.futures' not in sys.modules;"
        "assert 'multiprocessing' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, FIXTURES / "sites.o"], check=True)
