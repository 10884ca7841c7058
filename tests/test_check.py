"""`scpatch check` as a command, and the exit codes of the commands that compare."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from scpatch.errors import Exit
from tests.archives import make
from tests.report.support import validated
from tests.test_trees import scpatch
from tests.tools import CROSS, FIXTURES, LD, assemble, in_both, run

MODULE = FIXTURES / "module.ko"


@pytest.mark.parametrize("name", in_both("module.ko"))
def test_a_naive_call_is_named_with_its_function_and_the_remedy(name: str) -> None:
    result = scpatch("check", FIXTURES / name)
    lines = result.stdout.splitlines()
    assert lines[0] == "WRONG: 4 call sites in 1 of 1 object: 2 right (2 loader), 2 wrong"
    assert lines[2] == f"{FIXTURES / name}   module"
    assert lines[3].split() == ["BAD", ".text+0x24", "calls_own+0x14", "__SCT__own", "wrong"]
    assert "hint: `scpatch rewrite` patches such calls" in result.stdout
    assert (result.returncode, result.stderr) == (Exit.ERROR, "")


@pytest.mark.parametrize("name", in_both("module.ko"))
def test_a_tree_is_right_after_the_rewrite(tmp_path: Path, name: str) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    assemble(tree, "f:\tblr\n", "nocalls.o")
    assert scpatch("rewrite", FIXTURES / name, "-o", tree / "module.ko").returncode == Exit.OK
    result = scpatch("check", tree)
    expected = "right: 4 call sites in 1 of 2 objects: 4 right (2 stub, 2 loader)"
    assert result.stdout.splitlines()[0] == expected
    assert "nocalls.o" not in result.stdout
    assert (result.returncode, result.stderr) == (Exit.OK, "")


def test_a_bad_file_is_an_error_and_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / "bad.o").write_text("no object\n")
    (tmp_path / "module.ko").write_bytes(MODULE.read_bytes())
    result = scpatch("check", tmp_path, "--format", "json")
    validated(result.stdout)
    document = json.loads(result.stdout)
    assert [Path(file["file"]).name for file in document["files"]] == ["module.ko"]
    assert [(Path(file["file"]).name, file["code"]) for file in document["failed"]] == [
        ("bad.o", "SCP101")
    ]
    assert (document["proven"], result.returncode) == (False, Exit.USAGE)
    assert "[SCP101]" in result.stderr


@pytest.mark.parametrize("form", ["plain", "csv", "markdown", "github", "sarif", "html"])
def test_each_form_names_the_wrong_calls(form: str) -> None:
    result = scpatch("check", MODULE, "--format", form)
    assert result.returncode == Exit.ERROR
    for name in ("calls_own", "init_module", "__SCT__own"):
        assert name in result.stdout, name


def test_the_number_of_jobs_changes_nothing() -> None:
    files = sorted(FIXTURES.glob("calls-*.o"))
    one, two = (scpatch("check", "-j", jobs, *files) for jobs in (1, 2))
    assert (one.stdout, one.returncode) == (two.stdout, two.returncode)


def test_a_module_without_trampolines_is_a_module(tmp_path: Path) -> None:
    source = '\t.section .gnu.linkonce.this_module, "aw"\n\t.quad 0\n'
    path = assemble(tmp_path, source, "plain.ko")
    (scanned,) = json.loads(scpatch("scan", "--format", "json", path).stdout)["files"]
    (checked,) = json.loads(scpatch("check", "--format", "json", path).stdout)["files"]
    assert (scanned["module"], checked["kind"]) == (True, "module")
    result = scpatch("rewrite", "-n", "--strategy", "paca", "--paca-toc-offset", 16, path)
    assert result.returncode == Exit.OK


@pytest.mark.parametrize("command", ["diff", "verify"])
def test_trouble_is_no_difference(command: str, tmp_path: Path) -> None:
    good = FIXTURES / "sites.o"
    for bad in (tmp_path, tmp_path / "none.o", FIXTURES / "note.txt", "/proc/self/mem"):
        for files in ((bad, good), (good, bad)):
            assert scpatch(command, *files).returncode == Exit.USAGE, files


@pytest.mark.parametrize("command", ["diff", "verify"])
def test_a_library_that_is_missing_is_no_difference(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "msgspec.py").write_text("raise ImportError('broken')\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.getcwd()]))
    new = tmp_path / "new.o"
    assert scpatch("rewrite", FIXTURES / "sites.o", "-o", new).returncode == Exit.OK
    arguments = ["--format", "json", *(["--no-run"] if command == "verify" else [])]
    result = scpatch(command, *arguments, FIXTURES / "sites.o", new)
    assert (result.returncode, "msgspec" in result.stderr) == (Exit.USAGE, True), result.stderr


@pytest.mark.parametrize("command", ["scan", "advise", "rewrite", "check"])
def test_a_link_to_itself_is_a_file_that_cannot_be_read(command: str, tmp_path: Path) -> None:
    path = tmp_path / "loop.o"
    path.symlink_to(path)
    result = scpatch(command, path)
    assert "[SCP109]" in result.stderr
    assert result.returncode == (Exit.ERROR if command == "rewrite" else Exit.USAGE)


def test_quiet_names_what_is_wrong(tmp_path: Path) -> None:
    done = scpatch("check", "--quiet", MODULE, tmp_path / "gone.o")
    assert (done.returncode, done.stdout) == (Exit.USAGE, "")
    first, second, gone, hint = done.stderr.splitlines()
    place = "scpatch: error: {}: .text+{:#x} in {}: call of __SCT__own: "
    assert first.startswith(place.format(MODULE, 0x24, "calls_own+0x14"))
    assert second.startswith(f"scpatch: error: {MODULE}: ")
    assert gone.startswith(f"scpatch: error: {tmp_path}/gone.o: cannot read")
    assert hint.startswith("hint: ")


def test_code_without_symbols_is_not_shown(tmp_path: Path) -> None:
    """Its trampolines have no names, and the assembler resolves calls within a section."""
    path = tmp_path / "stripped.o"
    run(f"{CROSS}strip", "-o", path, FIXTURES / "calls-gcc.o")
    assert ".symtab" not in run(f"{CROSS}readelf", "-SW", path).stdout
    done = scpatch("check", path)
    assert done.returncode == Exit.ERROR
    assert done.stdout.startswith("NOT SHOWN: 0 call sites in 0 of 1 object; 1 object cannot")
    assert "no symbol table" in done.stdout


WITH_TOC = """
        .globl  f
        .type   f,@function
f:      addis   2, 12, .TOC.-f@ha
        addi    2, 2, .TOC.-f@l
        .localentry f, .-f
        mflr    0
        std     0, 16(1)
        stdu    1, -32(1)
        bl      __SCT__x@notoc
        addi    1, 1, 32
        ld      0, 16(1)
        mtlr    0
        blr
        .size   f, .-f
"""


@pytest.mark.parametrize("local", ["", ".localentry f, 1", ".localentry f, .-f"])
def test_a_call_without_toc(tmp_path: Path, local: str) -> None:
    """The relocation decides, not the caller's symbol: the same rule for each command."""
    path = assemble(tmp_path, WITH_TOC.replace(".localentry f, .-f", local), "x.o")
    for command, files in (("check", [path]), ("scan", ["--check", path]), ("verify", [path] * 2)):
        result = scpatch(command, *files)
        assert (result.returncode, "notoc" in result.stdout) == (0, True), result.stdout


@pytest.mark.parametrize(
    ("option", "value", "field"),
    [
        ("--function", "calls_own", "function"),
        ("--callee", "__SCT__own", "trampoline"),
        ("--state", "loader", "reason"),
        ("--section", ".nothing", "section"),
    ],
)
def test_filters_select_what_is_shown_not_what_is_judged(
    option: str, value: str, field: str
) -> None:
    everything = json.loads(scpatch("check", MODULE, "--format", "json").stdout)
    wanted = [site for site in everything["files"][0]["sites"] if site[field] == value]
    assert len(wanted) == {"function": 1, "section": 0}.get(field, 2)
    result = scpatch("check", MODULE, option, value, "--format", "json")
    assert json.loads(result.stdout)["files"][0]["sites"] == wanted
    assert result.returncode == Exit.ERROR
    text = scpatch("check", MODULE, option, value).stdout
    assert text.startswith("WRONG: 4 call sites in 1 of 1 object: 2 right (2 loader), 2 wrong")
    assert [line.split()[1] for line in text.splitlines() if line.split()[:1] == ["BAD"]] == [
        f"{site['section']}+{site['offset']:#x}"
        for site in wanted
        if site["verdict"] == "not proven"
    ]


def test_modules_as_they_are_shipped(tmp_path: Path) -> None:
    """Signed, compressed, both, in archives: what is wrong is found in each, and nothing else."""
    right = tmp_path / "right.ko"
    assert scpatch("rewrite", "--no-nop", "thunk", MODULE, "-o", right).returncode == 0
    folders = {}
    for name, path in (("right", right), ("wrong", MODULE)):
        folder = folders[name] = tmp_path / name
        folder.mkdir()
        content = path.read_bytes()
        signature = b"\x30" + bytes(100)
        info = bytes((0, 0, 2, 0, 0, 0, 0, 0)) + len(signature).to_bytes(4, "big")
        signed = content + signature + info + b"~Module signature appended~\n"
        for stem, data in (("plain", content), ("signed", signed)):
            (folder / f"{stem}.ko").write_bytes(data)
            for tool in ("gzip", "bzip2", "xz", "zstd"):
                command = [tool, "--keep", "--quiet", f"{stem}.ko"]
                subprocess.run(command, cwd=folder, check=True)
        run("powerpc64le-linux-gnu-ar", "rc", folder / "regular.a", folder / "plain.ko")
        run("powerpc64le-linux-gnu-ar", "rcT", folder / "thin.a", folder / "plain.ko")
    result = scpatch("check", folders["right"])
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("right: 48 call sites in 12 of 12 objects: 48 right")
    result = scpatch("check", folders["wrong"], folders["right"], "--format", "json")
    assert (result.returncode, result.stderr) == (Exit.ERROR, "")
    verdicts = {file["file"]: file["proven"] for file in validated(result.stdout)["files"]}  # type: ignore[attr-defined]
    assert len(verdicts) == 24
    for name, proven in verdicts.items():
        assert proven == name.startswith(str(folders["right"])), name


MEMBERS = {
    "a text": (b"hello\n", True),
    "nothing": (b"", True),
    "bitcode": (b"BC\xc0\xde1234", False),
    "for another machine": ((FIXTURES / "sites.o").read_bytes()[:18] + b">\0" + bytes(46), False),
    "cut off": ((FIXTURES / "sites.o").read_bytes()[:200], False),
    "an archive": (b"!<arch>\n", False),
}
"""Members of archives, and whether they are no objects, so that nobody judges them."""


@pytest.mark.parametrize("name", MEMBERS)
def test_a_member_without_machine_code(name: str, tmp_path: Path) -> None:
    """One that is no object is passed over, one that cannot be judged is an error, not a finding;
    neither hides the other members."""
    content, is_passed = MEMBERS[name]
    (tmp_path / "other").write_bytes(content)
    new = tmp_path / "sites.o"
    assert scpatch("rewrite", FIXTURES / "sites.o", "-o", new).returncode == Exit.OK
    archive = make(tmp_path / "x.a", "sites.o", "other", options="rcS")
    expected = Exit.OK if is_passed else Exit.USAGE
    assert scpatch("scan", archive).returncode == expected
    for command in (["verify", "--no-run", archive, archive], ["check", "-v", archive]):
        result = scpatch(*command)
        assert (result.returncode, result.stderr) == (expected, "")
        assert f"{archive}(sites.o)" in result.stdout
        assert (f"{archive}(other)" in result.stdout) == (not is_passed)


def test_a_member_of_data_is_proven(tmp_path: Path) -> None:
    assemble(tmp_path, " .data\n .quad 1\n", "data.o")
    archive = make(tmp_path / "x.a", "data.o")
    for command in (["verify", archive, archive], ["check", archive]):
        assert scpatch(*command).returncode == Exit.OK


def test_a_wrong_call_beside_what_cannot_be_judged(tmp_path: Path) -> None:
    """If there is an error and a finding, the error counts."""
    (tmp_path / "sites.o").write_bytes((FIXTURES / "sites.o").read_bytes())
    (tmp_path / "other").write_bytes(MEMBERS["bitcode"][0])
    archive = make(tmp_path / "x.a", "sites.o", "other", options="rcS")
    for command in (["verify", "--no-run", archive, archive], ["check", archive]):
        assert scpatch(*command).returncode == Exit.USAGE


def test_an_object_of_a_link_that_cannot_be_judged(tmp_path: Path) -> None:
    source = "FUNC __SCT__x\n blr\n END __SCT__x\n"
    source += "FRAME f\n std 2,24(1)\n bl __SCT__x\n ld 2,24(1)\nLEAVE f\n"
    image, other = tmp_path / "image", tmp_path / "other"
    run(LD, "-e0", "-o", image, assemble(tmp_path, source))
    assert scpatch("verify", tmp_path / "x.o", image).returncode == Exit.OK
    other.write_bytes(MEMBERS["bitcode"][0])
    archive = make(tmp_path / "x.a", "x.o", "other", options="rcS")
    result = scpatch("verify", archive, image)
    assert result.returncode == Exit.USAGE
    assert "error other: LLVM bitcode" in result.stdout
