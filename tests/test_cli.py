"""The command line as a user meets it: processes, streams, exit codes, help."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scpatch import __version__
from tests import tools
from tests.images import link
from tests.report.support import validated
from tests.sites.support import entries, key
from tests.tools import FIXTURES, ROOT, assemble

CALLS, REFUSED, SITES = (FIXTURES / f"{name}.o" for name in ("calls-gcc-dwarf", "refused", "sites"))


def scpatch(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scpatch", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | environment,
        text=True,
        capture_output=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copy(CALLS, tmp_path / "calls.o"))


def test_version_and_help() -> None:
    assert scpatch("--version").stdout == f"scpatch {__version__}\n"
    assert "Commands:" in scpatch("--help").stdout
    for command in ("scan", "rewrite", "diff", "verify", "advise", "explain"):
        assert scpatch(command, "--help").returncode == 0
    assert "Objects (.o, .ko) and archives (.a), or" in scpatch("scan", "--help").stdout


def test_in_place_and_again(copy: Path) -> None:
    first = scpatch("rewrite", copy)
    assert first.returncode == 0
    assert first.stdout == ""
    assert "13 call sites rewritten (11 by 5 stubs, 2 saved already)" in first.stderr
    changed, status = copy.read_bytes(), copy.stat()
    assert changed != CALLS.read_bytes()
    again = scpatch("rewrite", copy)
    assert again.returncode == 0
    assert "nothing to do" in again.stderr
    assert copy.read_bytes() == changed
    assert copy.stat().st_mtime_ns == status.st_mtime_ns


def test_the_table_of_call_sites(tmp_path: Path) -> None:
    path = assemble(tmp_path, key("x") + "FRAME f\nCALL __SCT__x\nLEAVE f\n")
    assert scpatch("rewrite", path).returncode == 0
    done = scpatch("rewrite", "--emit-sites", path)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"{path}: 1 call site listed, 1 done already, +0 bytes of code\n"
    assert entries(path) == [(".text", 20, "__SCK__x")]
    before = path.read_bytes()
    assert "nothing to do" in scpatch("rewrite", "--emit-sites", path).stderr
    assert path.read_bytes() == before


def test_a_call_without_a_key_is_an_error(copy: Path) -> None:
    done = scpatch("rewrite", "--emit-sites", copy)
    assert done.returncode == 1
    assert done.stderr.startswith(f"scpatch: error: {copy}: .text")
    assert "[SCP217]" in done.stderr
    assert "hint: enable HAVE_STATIC_CALL_INLINE" in done.stderr
    assert copy.read_bytes() == CALLS.read_bytes()


def test_nothing_to_do_gives_the_input(tmp_path: Path) -> None:
    source, target = FIXTURES / "calls-pcrel.o", tmp_path / "out.o"
    assert scpatch("rewrite", source, "-o", target).returncode == 0
    assert target.read_bytes() == source.read_bytes()


@pytest.mark.parametrize(
    ("names", "advised"),
    [
        (["x86_64.o"], False),
        (["x86_64.o", "ppc32-be.o"], False),
        (["x86_64.o", "calls-gcc.o"], True),
        (["refused.o"], True),
    ],
)
def test_keep_going_is_suggested_if_there_is_a_rest(
    tmp_path: Path, names: list[str], advised: bool
) -> None:
    for name in names:
        (tmp_path / name).write_bytes((FIXTURES / name).read_bytes())
    done = scpatch("rewrite", *(tmp_path / name for name in names))
    assert done.returncode in (1, 3)
    ending = "; --keep-going rewrites the rest" if advised else ""
    assert done.stderr.endswith(f"scpatch: note: nothing was written{ending}\n")


def test_quiet_prints_nothing(copy: Path) -> None:
    result = scpatch("rewrite", "-q", copy)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_dry_run_writes_nothing(copy: Path) -> None:
    result = scpatch("rewrite", "--dry-run", "--diff", copy)
    assert result.returncode == 0
    assert "ld    r2,24(r1)" in result.stdout
    assert result.stdout.startswith(f"{copy} -> {copy}")
    assert copy.read_bytes() == CALLS.read_bytes()
    assert list(copy.parent.iterdir()) == [copy]


def test_backup(copy: Path) -> None:
    assert scpatch("rewrite", "--backup", copy).returncode == 0
    assert copy.with_name("calls.o.orig").read_bytes() == CALLS.read_bytes()


def test_a_refused_site_prevents_writing_without_keep_going(tmp_path: Path, copy: Path) -> None:
    refused = Path(shutil.copy(REFUSED, tmp_path / "refused.o"))
    result = scpatch("rewrite", copy, refused)
    assert result.returncode == 3
    assert f"scpatch: error: {refused}: .text+0x34 in sibling_call+0x8: " in result.stderr
    assert "\nhint: " in result.stderr
    assert "nothing was written" in result.stderr
    assert copy.read_bytes() == CALLS.read_bytes()
    assert refused.read_bytes() == REFUSED.read_bytes()
    assert scpatch("rewrite", "--keep-going", copy, refused).returncode == 3
    assert copy.read_bytes() != CALLS.read_bytes()
    assert refused.read_bytes() != REFUSED.read_bytes()


def test_a_refused_site_leaves_an_earlier_output_as_it_was(tmp_path: Path) -> None:
    """With its time, so that make sees that it is older than its source."""
    old = tmp_path / "old.o"
    old.write_bytes(b"of an earlier run")
    os.utime(old, ns=(1, 1))
    before = old.stat()
    result = scpatch("rewrite", REFUSED, "-o", old)
    assert result.returncode == 3
    assert "nothing was written" in result.stderr
    after = old.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert old.read_bytes() == b"of an earlier run"
    assert list(tmp_path.iterdir()) == [old]


def test_thunks(tmp_path: Path) -> None:
    refused = tmp_path / "refused.o"
    shutil.copy(REFUSED, refused)
    result = scpatch("rewrite", "-k", "--no-nop", "thunk", refused)
    assert result.returncode == 3
    assert "SCP201" not in result.stderr
    assert "SCP203" in result.stderr


@pytest.mark.parametrize(
    ("name", "code", "what"),
    [
        ("linked.so", "SCP104", "linked image"),
        ("elfv1.o", "SCP103", "ELFv1"),
        ("big/elfv1-unmarked.o", "SCP103", "ELFv1"),
        ("ppc64-be.o", "SCP103", "ELFv1"),
        ("ppc32-be.o", "SCP102", "32-bit"),
        ("x86_64.o", "SCP102", "x86-64"),
        ("note.txt", "SCP101", "not an ELF file"),
        ("no-such-file.o", "SCP109", "No such file"),
        ("/dev/null", "SCP109", "not a regular file"),
    ],
)
@pytest.mark.parametrize("command", ["scan", "rewrite", "diff", "verify"])
def test_not_accepted(tmp_path: Path, command: str, name: str, code: str, what: str) -> None:
    arguments: list[object] = [FIXTURES / name]
    if command == "rewrite":
        arguments += ["-o", tmp_path / "out.o"]
    elif command in ("diff", "verify"):
        arguments.append(CALLS)
    if (command, code) == ("scan", "SCP104"):
        code, what = "SCP222", "no symbol table"  # scan reads images, but this one is stripped
    result = scpatch(command, *arguments)
    assert result.returncode == (1 if command == "rewrite" else 2)
    assert result.stdout == ""
    assert result.stderr.startswith(f"scpatch: error: {FIXTURES / name}: ")
    assert f"[{code}]" in result.stderr
    assert what in result.stderr
    assert "\nhint: " in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["rewrite"],
        ["rewrite", "a.o", "b.o", "-o", "c.o"],
        ["rewrite", "a.o", "-o", "c.o", "--backup"],
        ["rewrite", "a.ko.xz", "-o", "c.ko"],
        ["rewrite", "a.o", "-q", "-v"],
        ["rewrite", "a.o", "--strategy", "none"],
        ["scan", "a.o", "--format", "xml"],
        ["diff", "a.o"],
        ["unknown"],
    ],
)
def test_usage(arguments: list[str]) -> None:
    result = scpatch(*arguments)
    assert result.returncode == 2
    assert re.fullmatch(r"scpatch: error: .* \[SCP401\]\nhint: .*\n", result.stderr)


def test_one_bad_file_does_not_hide_the_others() -> None:
    result = scpatch("scan", FIXTURES / "x86_64.o", SITES)
    assert result.returncode == 2
    assert "SCP102" in result.stderr
    assert "__SCT__global" in result.stdout


@pytest.mark.parametrize("command", ["scan", "rewrite", "advise"])
def test_a_file_that_cannot_be_read_matches_no_pattern_and_lacks_none(command: str) -> None:
    result = scpatch(command, "-t", "foo_*", FIXTURES / "x86_64.o")
    assert result.returncode == (1 if command == "rewrite" else 2)
    assert "SCP102" in result.stderr
    assert "no symbol matches" not in result.stderr


@pytest.mark.parametrize(
    ("name", "status"), [("sites.o", 1), ("refused.o", 1), ("calls-pcrel.o", 0), ("x86_64.o", 2)]
)
def test_scan_is_a_gate_if_told_to_check(name: str, status: int, tmp_path: Path) -> None:
    assert scpatch("scan", "--check", FIXTURES / name).returncode == status
    assert scpatch("scan", FIXTURES / name).returncode == (2 if name == "x86_64.o" else 0)
    if name == "sites.o":
        scpatch("rewrite", FIXTURES / name, "-o", tmp_path / name)
        assert scpatch("scan", "--check", tmp_path / name).returncode == 0


def test_a_gate_that_prints_nothing(copy: Path, tmp_path: Path) -> None:
    after = tmp_path / "after.o"
    scpatch("rewrite", "-q", copy, "-o", after)
    gates: list[tuple[list[object], int]] = [
        (["scan", "--check", copy], 1),
        (["scan", "--check", after], 0),
        (["diff", copy, after], 1),
        (["diff", copy, copy], 0),
    ]
    for command, status in gates:
        result = scpatch(*command, "-q")
        assert (result.returncode, result.stdout, result.stderr) == (status, "", "")
    commands: list[list[object]] = [["scan", "none.o"], ["diff", copy, "none.o"]]
    for command in commands:
        result = scpatch(*command, "--quiet")
        assert (result.returncode, result.stdout) == (2, "")
        assert "none.o: cannot read" in result.stderr


def test_diff_exit_codes(copy: Path) -> None:
    assert scpatch("diff", CALLS, copy).returncode == 0
    scpatch("rewrite", copy)
    result = scpatch("diff", CALLS, copy, "--format", "json")
    assert result.returncode == 1
    assert json.loads(result.stdout)["command"] == "diff"


def test_verify_exit_codes(copy: Path) -> None:
    assert scpatch("verify", CALLS, copy).returncode == 1
    scpatch("rewrite", copy)
    result = scpatch("verify", CALLS, copy)
    assert result.returncode == 0
    verdict, *_, checked = result.stdout.splitlines()
    assert verdict.startswith(f"{copy}: proven: ")
    assert checked.startswith("Checked with ")
    quiet = scpatch("verify", "-q", "--no-run", CALLS, copy)
    assert (quiet.stdout, quiet.stderr, result.stderr) == ("", "", "")


def test_verify_names_the_missing_package(copy: Path) -> None:
    python = Path(sys.executable)
    result = scpatch("verify", CALLS, copy, PATH=str(copy.parent))
    assert python.exists()
    assert result.returncode == 2
    assert "binutils-powerpc64le-linux-gnu" in result.stderr
    assert "--no-run" in result.stderr


def test_json_of_every_command(copy: Path) -> None:
    for arguments in (
        ["scan", "--format", "json", CALLS],
        ["rewrite", "--format", "json", "-n", copy],
        ["diff", "--format", "json", CALLS, copy],
        ["verify", "--format", "json", "--no-run", CALLS, copy],
    ):
        document = json.loads(scpatch(*arguments).stdout)
        assert document["schema"].startswith("scpatch/")
        assert document["command"] == arguments[0]


@pytest.mark.parametrize("code", ["SCP20l", "scp2OI"])
def test_explain_suggests_the_code_that_looks_the_same(code: str) -> None:
    unknown = scpatch("explain", code)
    assert unknown.returncode == 1
    assert unknown.stderr.splitlines()[-1] == "hint: did you mean SCP201?"


def test_explain() -> None:
    assert "sibling call" in scpatch("explain", "scp203").stdout
    assert "std     r2,24(r1)" in scpatch("explain", "callsite").stdout
    assert "SCP301" in scpatch("explain").stdout
    unknown = scpatch("explain", "SCP999")
    assert unknown.returncode == 1
    assert "unknown code or strategy 'SCP999'\n" in unknown.stderr


def test_a_pipe_gets_no_colour(copy: Path) -> None:
    scpatch("rewrite", copy)
    for command in (["scan", copy], ["diff", CALLS, copy], ["verify", "--no-run", CALLS, copy]):
        assert "\x1b" not in scpatch(*command).stdout


def test_a_pipe_gets_text_with_whole_names(copy: Path) -> None:
    scpatch("rewrite", copy)
    stub = re.search(r"r2save\.__SCT__\w+\.[0-9a-f]{12}", tools.run("strings", copy).stdout)
    assert stub is not None
    text = scpatch("diff", CALLS, copy).stdout
    assert stub[0] in text
    assert text == scpatch("diff", CALLS, copy, "--format", "text", "--wide").stdout
    assert text == scpatch("diff", CALLS, copy, "--color", "never").stdout
    colored = scpatch("diff", CALLS, copy, "--color", "always").stdout
    assert re.sub(r"\x1b\[[0-9;]*m", "", colored).split() == text.split()
    assert "\x1b" in colored


def test_a_reader_that_leaves_early(copy: Path) -> None:
    scpatch("rewrite", copy)
    command = f"{sys.executable} -m scpatch diff {CALLS} {copy} | head -n 1"
    result = subprocess.run(
        ["sh", "-c", command], cwd=ROOT, text=True, capture_output=True, check=False
    )
    assert result.stdout == f"{CALLS} -> {copy}\n"
    assert "Traceback" not in result.stderr


def test_nothing_heavy_is_imported_for_a_rewrite(copy: Path) -> None:
    code = (
        "import os, sys; sys.argv = ['scpatch', 'rewrite', sys.argv[1]]\n"
        "from scpatch.__main__ import main; os._exit = sys.exit\n"
        "try: main()\n"
        "finally: print(sorted({'lief', 'capstone', 'rich', 'elftools'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(copy)],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=True,
    )
    assert result.stdout == "[]\n"


def test_the_help_shown_in_docs_is_current() -> None:
    readme = (ROOT / "README.md").read_text()
    for command in set(re.findall(r"`scpatch (\w+)", readme)):
        assert scpatch(command, "--help").returncode == 0, command
    options = set(re.findall(r"`scpatch (\w+)[^`]* (--[\w-]+)", readme))
    for command, option in options:
        assert option in scpatch(command, "--help").stdout, (command, option)


def test_a_linked_image(tmp_path: Path) -> None:
    """It is scanned, patched in place and verified; a header has the offset of the TOC pointer."""
    image = link(tmp_path)
    header = tmp_path / "asm-offsets.h"
    header.write_text("#define PACATOC 16 /* offsetof(struct paca_struct, kernel_toc) */\n")
    assert "linked image" in scpatch("scan", "--format", "text", image).stdout
    assert "[SCP104]" in scpatch("rewrite", image).stderr
    assert "[SCP115]" in scpatch("rewrite", "--strategy", "paca", image).stderr
    options = ("--strategy", "paca", "--asm-offsets", header)
    result = scpatch("rewrite", "--backup", *options, image)
    assert result.returncode == 0, result.stderr
    assert "3 call sites rewritten (from the PACA), +0 bytes of code" in result.stderr
    before = tmp_path / "vmlinux.orig"
    form = ("--format", "text")
    result = scpatch("verify", *form, "--asm-offsets", header, before, image)
    assert result.returncode == 0, result.stdout
    assert "proven: 3 call sites (3 paca); PACATOC 16; not executed" in result.stdout
    result = scpatch("verify", "--paca-toc-offset", "8", before, image)
    assert result.returncode == 1
    assert "[SCP104]" in scpatch("verify", image, tmp_path / "x.o").stderr
    assert scpatch("verify", tmp_path / "x.o", image).returncode == 0


def test_a_pattern_that_matches_nothing() -> None:
    """A typing error must not look like a file without call sites."""
    warning = "scpatch: warning: no symbol matches --trampoline '__STC__*'\n"
    for command in (["scan", CALLS], ["rewrite", "-n", CALLS], ["advise", CALLS]):
        done = scpatch(command[0], "-t", "__STC__*", "-t", "__SCT__*", *command[1:])
        assert warning in done.stderr
        assert done.stderr.count("warning") == 1
        assert done.returncode == 0
        assert "warning" not in scpatch(command[0], "-t", "__SCT__*", *command[1:]).stderr
    done = scpatch("verify", "--no-run", "-t", "__STC__*", CALLS, CALLS)
    assert done.stderr == warning


def test_the_default_pattern_warns_only_if_it_was_given(tmp_path: Path) -> None:
    path = assemble(tmp_path, "FUNC f\n blr\nEND f\n")
    assert "warning" not in scpatch("scan", path).stderr
    assert "'__SCT__*'" in scpatch("scan", "-t", "__SCT__*", path).stderr


@pytest.mark.parametrize(("name", "explained"), [("vmlinux.o", True), ("vmlinux-2.o", False)])
def test_vmlinux_o_is_explained(tmp_path: Path, name: str, explained: bool) -> None:
    """On powerpc, Kbuild does not link the image from it."""
    path = tmp_path / name
    shutil.copy(FIXTURES / "merged.o", path)
    lines = scpatch("rewrite", path).stderr.splitlines()
    notes = [f"scpatch: note: {path}: Kbuild makes it for modpost", "hint: to get an image"]
    starts = zip(lines[1:], notes[: 2 * explained], strict=True)
    assert all(line.startswith(start) for line, start in starts)
    if explained:
        assert "vmlinux.a" in lines[1]
        assert "scpatch-ld" in lines[2]
    assert scpatch("rewrite", "-q", path).stderr == ""


def test_a_difference_is_part_of_the_document(copy: Path) -> None:
    """Nothing else is on stdout, and it is what `diff` says of the written file."""
    result = scpatch("rewrite", "--diff", "--format", "json", copy)
    assert validated(result.stdout)["written"] is True
    (shown,) = json.loads(result.stdout)["differences"]
    (real,) = json.loads(scpatch("diff", "--format", "json", CALLS, copy).stdout)["files"]
    assert shown["functions"] == real["functions"] != []
    assert (shown["before"], shown["after"]) == (str(copy), str(copy))


@pytest.mark.parametrize("form", ["plain", "csv", "markdown", "html"])
def test_each_form_has_the_difference(form: str, copy: Path) -> None:
    command = ("rewrite", "--dry-run", "--format", form, copy)
    without, with_it = (scpatch(*command, *more).stdout for more in ([], ["--diff"]))
    assert "e8410018" not in without
    assert "e8410018" in with_it


def test_a_page_of_a_folder_has_each_call_site(tmp_path: Path) -> None:
    """Text has one line for each object."""
    shutil.copy(REFUSED, tmp_path)
    shutil.copy(CALLS, tmp_path)
    sites = [
        line
        for line in scpatch("scan", "--format", "plain", tmp_path).stdout.splitlines()
        if line.startswith("site\t")
    ]
    page = scpatch("scan", "--format", "html", tmp_path).stdout
    assert page.count('<tbody class="item">') == len(sites) > 8
    page = scpatch("rewrite", "-k", "--format", "html", tmp_path).stdout
    assert page.count('<tbody class="item">') == len(sites)


def test_without_a_command_the_help_has_its_lines() -> None:
    result = scpatch()
    assert result.returncode == 2
    assert "\nCommands:\n  scan        List " in result.stderr
