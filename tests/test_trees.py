"""Commands on folders and lists of files."""

from __future__ import annotations

import lzma
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
    assert lines[0].startswith("total: ")
    assert "in 2 of 3 objects" in lines[0]
    assert [line.split()[0] for line in lines[2:]] == [f"{tree}/sites.o", f"{tree}/net/module.ko"]
    assert (len(lines), result.returncode, result.stderr) == (4, 0, "")


@pytest.mark.parametrize("form", ["text", "plain", "json", "csv"])
def test_the_number_of_jobs_changes_nothing(tree: Path, form: str) -> None:
    (tree / "bad.o").write_text("no object\n")
    alone, shared = (scpatch("scan", tree, "-j", jobs, "--format", form) for jobs in (1, 3))
    assert (alone.stdout, alone.stderr) == (shared.stdout, shared.stderr)
    assert alone.returncode == shared.returncode == 2
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


def _bytes(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


OPTIONS = ("--no-nop", "thunk", "--undefined", "rewrite")


@pytest.mark.parametrize("jobs", [1, 3])
def test_rewrite_mirrors_a_tree(tree: Path, tmp_path: Path, jobs: int) -> None:
    (tree / "again.o").symlink_to("net/module.ko")
    (tree / "notes.txt").write_text("no object\n")
    old = _bytes(tree)
    out = tmp_path / "a" / "b"
    result = scpatch("rewrite", *OPTIONS, tree, "--output-dir", out, "--jobs", jobs)
    assert result.returncode == 0, result.stderr
    assert _bytes(tree) == old
    new = _bytes(out)
    assert sorted(new) == ["again.o", "net/module.ko", "nocalls.o", "sites.o"]
    for name, content in new.items():
        alone = scpatch("rewrite", *OPTIONS, tree / name, "-o", tmp_path / "alone.o")
        assert alone.returncode == 0, alone.stderr
        assert content == (tmp_path / "alone.o").read_bytes()
    lines = result.stderr.splitlines()
    assert [line.partition(" ")[0] for line in lines] == [
        *(f"{tree}/again.o", f"{tree}/sites.o", f"{tree}/net/module.ko", "total:"),
    ]
    assert "in 3 of 4 objects" in lines[-1]


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_bad_file_in_a_tree(tree: Path, jobs: int) -> None:
    (tree / "bad.o").write_text("no object\n")
    old = _bytes(tree)
    result = scpatch("rewrite", *OPTIONS, tree, "--jobs", jobs)
    assert result.returncode == 1
    assert "bad.o: not an ELF file [SCP101]" in result.stderr
    assert "nothing was written; --keep-going rewrites the rest" in result.stderr
    assert _bytes(tree) == old
    result = scpatch("rewrite", "-k", *OPTIONS, tree, "--jobs", jobs)
    assert result.returncode == 1
    changed = [name for name, content in _bytes(tree).items() if content != old[name]]
    assert changed == ["net/module.ko", "sites.o"]
    assert result.stderr.endswith("bytes of code (3 files; 1 more failed)\n")


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_file_that_cannot_be_written(tree: Path, tmp_path: Path, jobs: int) -> None:
    """All or nothing, folders included; with --keep-going the others."""
    out = tmp_path / "out"
    (out / "sites.o").mkdir(parents=True)
    arguments = ("rewrite", *OPTIONS, tree, "--output-dir", out, "--jobs", jobs)
    result = scpatch(*arguments)
    assert (result.returncode, "cannot write: it is a directory" in result.stderr) == (1, True)
    assert [path.name for path in out.rglob("*")] == ["sites.o"]
    result = scpatch(*arguments, "--keep-going")
    assert (result.returncode, "cannot write: it is a directory" in result.stderr) == (1, True)
    assert sorted(_bytes(out)) == ["net/module.ko", "nocalls.o"]


def test_two_files_for_one_place(tree: Path, tmp_path: Path) -> None:
    shutil.copy(FIXTURES / "module.ko", tree / "x.o")
    shutil.copy(FIXTURES / "marked.o", tree / "net" / "x.o")
    names = [tree / "x.o", tree / "net" / "x.o"]
    result = scpatch("rewrite", *names, "--output-dir", tmp_path / "out")
    assert result.returncode == 1
    assert f"{names[0]} and {names[1]} would both be written here [SCP110]\n" in result.stderr
    assert not (tmp_path / "out").exists()


def test_an_output_folder_in_the_tree_is_no_input_of_the_next_run(tree: Path) -> None:
    command = ("rewrite", tree, "--output-dir", tree / "out")
    first, second = scpatch(*command), scpatch(*command)
    assert (first.returncode, second.returncode) == (0, 0)
    note = f"scpatch: note: left out 1 folder that new files go to: {tree}/out\n"
    assert note + first.stderr == second.stderr
    assert not (tree / "out/out").exists()


def test_names_in_messages_cannot_break_lines(tree: Path, tmp_path: Path) -> None:
    names = ["a\nb.o", "\x1b[31m.o", "caf\udce9.o", "\u202e.o"]
    result = scpatch("scan", *names)
    assert result.returncode == 2
    shown = [r"a\x0ab.o", r"\x1b[31m.o", r"caf\xe9.o", r"\u202e.o"]
    errors = [line for line in result.stderr.splitlines() if "error: " in line]
    assert errors == [
        f"scpatch: error: {name}: cannot read: No such file or directory [SCP109]" for name in shown
    ]
    result = scpatch("rewrite", tree / "nocalls.o", "-o", tmp_path / "a\nb" / "x.o")
    assert result.stderr.endswith(f"hint: there is no folder {tmp_path}/a\\x0ab; make it first\n")


def _stream(*arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "scpatch", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, check=False)


@pytest.mark.parametrize("name", ["module.ko", "members.a"])
def test_streams(tmp_path: Path, name: str) -> None:
    content = (FIXTURES / name).read_bytes()
    (tmp_path / name).write_bytes(content)
    wanted = tmp_path / "out"
    assert scpatch("rewrite", *OPTIONS, tmp_path / name, "-o", wanted).returncode == 0
    filtered = _stream("rewrite", *OPTIONS, "-", stdin=content)
    assert filtered.stderr.startswith(b"<stdin>: ")
    assert (filtered.returncode, filtered.stdout) == (0, wanted.read_bytes())
    out = _stream("rewrite", *OPTIONS, tmp_path / name, "-o", "-")
    assert (out.returncode, out.stdout) == (0, wanted.read_bytes())
    read = scpatch("rewrite", *OPTIONS, "-", "-o", tmp_path / "read", stdin=content)
    assert read.returncode == 0, read.stderr
    assert (tmp_path / "read").read_bytes() == wanted.read_bytes()
    assert (tmp_path / name).read_bytes() == content
    scan = scpatch("scan", "-", "--format", "plain", stdin=content)
    assert scan.stdout.startswith("trampoline\t<stdin>")


def test_refused_sites_write_nothing_to_a_stream() -> None:
    result = _stream("rewrite", FIXTURES / "refused.o", "-o", "-")
    assert (result.returncode, result.stdout) == (3, b"")


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["-", "x.o"], "- does not go with other files"),
        (["-", "--output-dir", "d"], "nor with --output-dir"),
        (
            ["x.o", "-o", "-", "--format", "json"],
            "--format does not go with a file from stdin or on stdout",
        ),
        (["-", "--diff"], "--diff does not go with a file from stdin or on stdout"),
        ([".", "-o", "y.o"], "--output does not go with a folder; --output-dir does"),
        (["x.o", "-o", "y.o", "--output-dir", "d"], "--output does not go with --output-dir"),
        (["x.o", "--output-dir", "d", "--backup"], "--output-dir does not go with --backup"),
    ],
)
def test_outputs_that_do_not_go_together(
    arguments: list[str], what: str, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tree)
    result = scpatch("rewrite", *arguments)
    assert result.returncode == 2
    assert what in result.stderr


_KILLED = """
import os, signal
from scpatch.files import filling, output

def fill(*arguments, **options):
    filling.fill(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)

output.fill = fill
from scpatch.__main__ import main
main()
"""


def test_a_worker_that_is_killed_leaves_the_tree_as_it_was(tree: Path, tmp_path: Path) -> None:
    """Killed when it has written a new file, before that has its name."""
    old = _bytes(tree)
    out = tmp_path / "out"
    command = [sys.executable, "-c", _KILLED, "rewrite", *OPTIONS, str(tree), "--jobs", "2"]
    for more in ([], ["--output-dir", str(out)]):
        result = subprocess.run([*command, *more], capture_output=True, text=True, check=False)
        assert result.returncode == 1
        assert "[SCP122]" in result.stderr
        assert _bytes(tree) == old
        assert not out.exists()


@pytest.fixture
def versions(tree: Path, tmp_path: Path) -> tuple[Path, Path]:
    after = tmp_path / "after"
    assert scpatch("rewrite", *OPTIONS, tree, "--output-dir", after).returncode == 0
    return tree, after


def test_verify_of_two_trees(versions: tuple[Path, Path]) -> None:
    before, after = versions
    alone, shared = (scpatch("verify", *versions, "-j", jobs) for jobs in (1, 2))
    assert (alone.stdout, alone.stderr, alone.returncode) == (shared.stdout, shared.stderr, 0)
    lines = alone.stdout.splitlines()
    assert "in 3 objects: 3 proven" in lines[0]
    assert [line.partition(": proven: ")[0] for line in lines[1:3]] == [
        *(f"{after}/sites.o", f"{after}/net/module.ko"),
    ]
    (before / "nocalls.o").unlink()
    shutil.copy(before / "sites.o", after / "sites.o")
    result = scpatch("verify", *versions, "--format", "json")
    assert result.returncode == 1
    document = validated(result.stdout)
    files = {file["file"]: file for file in document["files"]}  # type: ignore[attr-defined]
    assert {name: file["proven"] for name, file in files.items()} == {
        f"{after}/sites.o": False,
        f"{after}/net/module.ko": True,
        f"{after}/nocalls.o": False,
    }
    assert files[f"{after}/nocalls.o"]["errors"] == [f"there is no such file in {before}"]
    (after / "sites.o").write_text("no object")
    result = scpatch("verify", *versions)
    assert (result.returncode, "not an ELF file [SCP101]" in result.stderr) == (2, True)
    assert "module.ko: proven" in result.stdout


def test_diff_of_two_trees(versions: tuple[Path, Path]) -> None:
    before, after = versions
    same = scpatch("diff", before, before)
    assert (same.returncode, same.stderr) == (0, "")
    assert same.stdout == "total: nothing in 3 files differs\n"
    result = scpatch("diff", *versions, "--format", "plain")
    files = [line.split("\t") for line in result.stdout.splitlines() if line.startswith("file\t")]
    assert [row[1:4] for row in files] == [
        [f"{after}/{name}", f"{before}/{name}", "different"]
        for name in ("sites.o", "net/module.ko")
    ]
    assert result.returncode == 1
    (after / "new.o").write_bytes(b"")
    (after / "sites.o").unlink()
    (after / "net" / "module.ko").write_bytes((before / "net" / "module.ko").read_bytes())
    result = scpatch("diff", *versions)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        f"scpatch: warning: {before}/sites.o: there is no such file in {after}",
        f"scpatch: warning: {after}/new.o: there is no such file in {before}",
    ]
    assert result.stdout == "total: nothing in 2 files differs; 2 files in one folder only\n"
    document = validated(scpatch("diff", *versions, "--format", "json").stdout)
    assert document["alone"] == [f"{before}/sites.o", f"{after}/new.o"]
    rows = scpatch("diff", *versions, "--format", "plain").stdout.splitlines()
    assert rows[-1].split("\t") == ["alone", f"{after}/new.o", str(before)]
    result = scpatch("diff", before, after / "new.o")
    assert (result.returncode, f"it is no folder, but {before} is one" in result.stderr) == (
        2,
        True,
    )


@pytest.mark.parametrize(
    ("form", "more"),
    [("text", ("--callee", "__SCT__*")), ("text", ("--stat",)), ("json", ()), ("html", ())],
)
def test_diff_with_several_jobs(
    versions: tuple[Path, Path], form: str, more: tuple[str, ...]
) -> None:
    (versions[1] / "nocalls.o").write_text("no object\n")
    command = ("diff", *versions, "--format", form, *more)
    alone, shared = (scpatch(*command, "-j", jobs) for jobs in (1, 3))
    assert (alone.stdout, alone.stderr) == (shared.stdout, shared.stderr)
    assert alone.returncode == shared.returncode == 2
    assert "module.ko" in alone.stdout
    if form == "text":
        total = alone.stdout.splitlines()[0]
        assert total.startswith("total: 2 objects in 2 files differ: ")
        assert total.endswith("; 1 file cannot be read")


@pytest.mark.parametrize("command", ["diff", "verify"])
@pytest.mark.parametrize("end", ["\n", "\0"])
def test_a_list_of_places_in_two_trees(versions: tuple[Path, Path], command: str, end: str) -> None:
    """A folder stands for what is in it, and a file for its version in another packing."""
    module = versions[1] / "net" / "module.ko"
    module.with_name("module.ko.xz").write_bytes(lzma.compress(module.read_bytes()))
    module.unlink()
    null = ["-0"] if end == "\0" else []
    for names in (["net"], ["./net/module.ko", "net/module.ko"], ["net/module.ko.xz"]):
        stdin = "".join(name + end for name in names)
        result = scpatch(
            command, *versions, "--files-from", "-", *null, "--format", "json", stdin=stdin.encode()
        )
        assert result.returncode == (command == "diff"), result.stderr
        files = validated(result.stdout)["files"]
        name = "after" if command == "diff" else "file"
        assert [file[name] for file in files] == [f"{module}.xz"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", ["diff", "verify"])
def test_a_list_with_names_that_are_no_places(versions: tuple[Path, Path], command: str) -> None:
    before, after = versions
    (after / "nocalls.o").unlink()
    names = ["missing.ko", str(before / "sites.o"), "../x.o", "nocalls.o", "net"]
    stdin = "\n".join(names).encode()
    result = scpatch(command, *versions, "--files-from", "-", stdin=stdin)
    assert result.returncode == 2
    assert "net/module.ko" in result.stdout
    assert f"there is no such file in {after}" in result.stdout + result.stderr
    errors = [line for line in result.stderr.splitlines() if "error: " in line]
    assert errors == [
        f"scpatch: error: {name}: neither folder has such a file [SCP109]" for name in names[:3]
    ]
    assert "hint: a list names places in the folders: cd " in result.stderr
    result = scpatch(command, before / "sites.o", after / "sites.o", "--files-from", "-", stdin=b"")
    assert result.returncode == 2
    assert "it is no folder, and a list names files in two folders [SCP109]" in result.stderr


def test_packed_and_unpacked_files_are_versions_of_each_other(tmp_path: Path) -> None:
    content = (FIXTURES / "module.ko").read_bytes()
    for folder, name, data in (("a", "m.ko", content), ("b", "m.ko.xz", lzma.compress(content))):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(data)
    result = scpatch("diff", tmp_path / "a", tmp_path / "b")
    assert (result.returncode, result.stderr) == (0, "")


def test_advise_on_a_tree(tree: Path) -> None:
    alone, shared = (scpatch("advise", tree, "-j", jobs) for jobs in (1, 2))
    assert (alone.stdout, alone.stderr, alone.returncode) == (shared.stdout, shared.stderr, 0)
    lines = alone.stdout.splitlines()
    assert "in 2 of 3 files: take " in lines[0]
    assert [line.split()[0] for line in lines[2:4]] == [f"{tree}/sites.o", f"{tree}/net/module.ko"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("host.o", (FIXTURES / "x86_64.o").read_bytes()), ("vmlinuz-6.12", b"MZ\xea\x07" + bytes(99))],
)
def test_objects_for_other_machines_are_left_out_of_a_tree_and_told(
    tree: Path, name: str, content: bytes
) -> None:
    (tree / name).write_bytes(content)
    result = scpatch("scan", tree)
    note = f"scpatch: note: left out 1 file for other machines: {tree / name}\n"
    assert (result.returncode, result.stderr) == (0, note)
    named = scpatch("scan", tree / name)
    assert (named.returncode, "[SCP102]" in named.stderr) == (2, True)


@pytest.mark.parametrize("command", ["scan", "check", "advise", "rewrite", "verify", "diff"])
def test_a_list_that_names_nothing_is_no_silent_success(tmp_path: Path, command: str) -> None:
    """As `find` makes it in the wrong folder. A list of what has changed may well be empty."""
    (tmp_path / "list").write_text("\n")
    folders = (tmp_path, tmp_path) if command in ("verify", "diff") else ()
    result = scpatch(command, *folders, "--files-from", tmp_path / "list")
    assert result.returncode == 0
    assert f"scpatch: warning: {tmp_path}/list: it names no file\n" in result.stderr


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


def test_a_hint_that_many_files_share_is_printed_once(tree: Path) -> None:
    for name in ("a.o", "b.o", "c.o"):
        (tree / name).write_text("no object\n")
    for command in ("scan", "rewrite", "advise", "check"):
        lines = scpatch(command, tree).stderr.splitlines()
        wrong = [number for number, line in enumerate(lines) if "not an ELF file" in line]
        hints = [number for number, line in enumerate(lines) if "it is a text" in line]
        assert (len(wrong), hints) == (3, [wrong[-1] + 1])
