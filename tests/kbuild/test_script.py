"""scpatch-ld itself: what it passes through, and what it notices at the start of a make."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import scpatch
from scpatch.kbuild.arguments import read
from scpatch.kbuild.settings import OPTIONS
from tests.kbuild.support import FLAGS, SCRIPT, call, environment
from tests.tools import run

FAKE = '#!/bin/sh\nprintf "%s\\n" "$#" "$@"\nexit 7\n'
PASSED = [
    ["--version"],
    [*FLAGS["bfd"], "-r", "-o", "fs/ext4/ext4.o", "@fs/ext4/ext4.mod"],
    [*FLAGS["lld"], "-r", "-o", "fs/ext4/ext4.o", "@fs/ext4/ext4.mod"],
    [*FLAGS["bfd"], "-r", "-o", "vmlinux.o", "--whole-archive", "vmlinux.a", "--no-whole-archive"],
    ["/tmp/a b.o", "-shared", "-Bsymbolic", "--use-android-relr-tags", "-o", "/tmp/it's"],
    ["-T", "arch/powerpc/kernel/vdso/vdso64.lds", "-o", "vdso64.so.dbg"],
    ["-T", "arch/powerpc/boot/zImage.lds", "-o", "zImage", "vmlinux.strip.gz"],
    [*FLAGS["bfd"], "-r", "-o", "drivers/x.o", "drivers/koala.o", "drivers/vmlinux.lds.o"],
    ["", "*", "$HOME", "a\nb", "-x  y"],
]


@pytest.fixture
def fake(tmp_path: Path) -> str:
    """A linker that prints its arguments and exits with status 7."""
    path = tmp_path / "fake-ld"
    path.write_text(FAKE)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("arguments", PASSED, ids=lambda words: words[-1][:30])
@pytest.mark.parametrize(
    "options", [[], ["--warn-only", "--trampoline=__SCT__*"], ["--strategy", "paca", "--prelink"]]
)
def test_a_call_passes_through_unchanged(
    tmp_path: Path, fake: str, arguments: list[str], options: list[str]
) -> None:
    """Even without Python: the shell script decides."""
    env = {"SCPATCH_PYTHON": "/bin/false"}
    done = call(tmp_path, arguments, linker=fake, options=options, env=env)
    expected = "".join(f"{word}\n" for word in (len(arguments), *arguments))
    assert (done.returncode, done.stdout, done.stderr) == (7, expected, "")


@pytest.mark.parametrize("words", [[], ["--warn-only"]])
def test_a_missing_linker_is_a_usage_error(tmp_path: Path, words: list[str]) -> None:
    done = subprocess.run(
        [SCRIPT, *words], cwd=tmp_path, env=environment(), text=True, capture_output=True
    )
    assert done.returncode == 2
    assert "usage: scpatch-ld" in done.stderr


def test_the_script_has_the_version_of_the_package() -> None:
    assert f"version={scpatch.__version__}\n" in SCRIPT.read_text()


LOOKALIKES = [
    ["-r", "-o", "x.o", "x.ko"],
    ["-shared", "-o", "x.ko", "x.o"],
    ["-r", "-o", "x.o", "vmlinux"],
]
LINKS = [
    [*kind, *script, *output, *inputs]
    for kind in ([], ["-r"], ["--relocatable"])
    for script in (
        *([], ["-T", "arch/powerpc/module.lds"], ["-Tscripts/module.lds"]),
        *(["--script=/o/scripts/module.lds"], ["-T", "arch/powerpc/kernel/vmlinux.lds"]),
        *(["--script=arch/x86/kernel/vmlinux.lds"], ["-T", "x.lds"]),
    )
    for output in (
        *([], ["-o", "x.ko"], ["-om/x.ko"], ["--output=x.ko"], ["-o", "x.o"], ["-o", "vmlinux"]),
        *(["-ovmlinux"], ["-o", "o/vmlinux.unstripped"], ["--output=.tmp_vmlinux.kallsyms1"]),
    )
    for inputs in (["x.o"], ["x.o", "x.mod.o", ".module-common.o"], ["@x.mod"])
]


def test_the_script_passes_on_no_link_that_python_knows(tmp_path: Path, fake: str) -> None:
    """It hands over every link of vmlinux or of a module: those to rewrite, and those to refuse."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho handed over\nexit 5\n")
    python.chmod(0o755)
    known = [words for words in LINKS if read(["ld", *words]).link is not None]
    assert 300 < len(known) < len(LINKS)
    for words in [*known, *LOOKALIKES]:
        done = call(tmp_path, words, linker=fake, env={"SCPATCH_PYTHON": str(python)})
        assert (done.returncode, done.stdout) == (5, "handed over\n"), words
    for words in LOOKALIKES:
        assert call(tmp_path, words, linker=fake).returncode == 7, words


def test_a_kernel_that_it_does_not_know_is_refused(tmp_path: Path, fake: str) -> None:
    done = call(
        tmp_path, ["-T", "arch/x86/kernel/vmlinux.lds", "-o", "vmlinux", "x.o"], linker=fake
    )
    assert done.returncode == 2
    assert done.stderr.startswith(
        "scpatch: error: vmlinux: it is linked like a kernel, but not by "
    )


def test_the_script_knows_the_options(tmp_path: Path, fake: str) -> None:
    """Each is skipped with its value, without Python."""
    switches = [option.flag for option in OPTIONS if option.kind is bool]
    others = [option.flag for option in OPTIONS if option.kind is not bool]
    options = [*switches, *(f"{flag}=x" for flag in others), *(w for f in others for w in (f, "x"))]
    env = {"SCPATCH_PYTHON": "/bin/false"}
    done = call(tmp_path, ["a.o"], linker=fake, options=options, env=env)
    assert (done.returncode, done.stdout) == (7, "1\na.o\n")


def test_an_unknown_option_is_told_at_any_call(tmp_path: Path, fake: str) -> None:
    done = call(tmp_path, ["--version"], linker=fake, options=["--warn-only", "--no-such"])
    assert done.returncode == 2
    assert done.stderr.startswith("scpatch: error: scpatch-ld: unknown option --no-such [SCP401]\n")


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("--help", "scpatch kbuild --help lists the options."),
        ("-h", "usage: scpatch-ld [OPTION...] LINKER ARGUMENT...\n"),
        ("--version", f"scpatch {scpatch.__version__}\n"),
    ],
)
def test_help_and_version(tmp_path: Path, word: str, text: str) -> None:
    done = subprocess.run([SCRIPT, word], cwd=tmp_path, text=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert text in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_python_imports_nothing_from_the_folder_of_the_build(tmp_path: Path) -> None:
    """A kernel's tree or an external module may have any file."""
    for name in ("re.py", "enum.py", "scpatch.py"):
        (tmp_path / name).write_text("raise SystemExit(9)\n")
    done = call(tmp_path, ["-r", "-o", "x.ko", "missing.o"])
    assert done.returncode == 1
    assert "cannot find missing.o" in done.stderr


@pytest.mark.parametrize("way", ["path", "symbolic link", "sh", "parents"])
def test_the_script_finds_its_python_part(tmp_path: Path, way: str) -> None:
    link = tmp_path / "scpatch-ld"
    link.symlink_to(SCRIPT)
    commands: dict[str, tuple[list[str | Path], Path]] = {
        "path": ([SCRIPT], tmp_path),
        "symbolic link": ([link], tmp_path),
        "sh": (["sh", SCRIPT.name], SCRIPT.parent),
        "parents": ([SCRIPT.parent / ".." / "kbuild" / SCRIPT.name], tmp_path),
    }
    command, folder = commands[way]
    words = ["ld", "-T", "arch/powerpc/kernel/vmlinux.lds", "@inputs"]
    done = run(*command, *words, cwd=folder, check=False)
    assert done.stderr.startswith("scpatch: error: @inputs: a response file ")
