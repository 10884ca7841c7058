"""What a make notices as it starts: wrong options, and links that had other ones."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

import scpatch
from scpatch.kbuild.start import _is_dry
from tests.kbuild.support import SCRIPT, environment, make_tree, module_arguments, snapshot
from tests.tools import LD

KO = "fs/fs.ko"
MAKEFILE = f"""\
# As Kbuild does it: an option of the linker is tried first, and its messages are hidden.
-include flags.mk
ask := $(shell trap "rm -rf .tmp_$$$$" EXIT; mkdir .tmp_$$$$; \
	if ($(LD) -EL -v) >/dev/null 2>&1; then echo yes; else echo no; fi)
arguments := {" ".join(module_arguments())}
command = $(LD) $(arguments)
empty :=
joined = $(subst $(empty) ,_,$(strip $1))

-include fs/.fs.ko.cmd
{KO}: fs/fs.o fs/fs.mod.o FORCE
	$(if $(filter-out $(call joined,$(savedcmd_$@)),$(call joined,$(command))),\\
		@$(command) && echo 'savedcmd_$@ := $(command)' >fs/.fs.ko.cmd,@:)
below:
	@$(MAKE) {KO}
FORCE:
"""
LINKED = f"  SCPATCH {KO}\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = make_tree(tmp_path / "tree")
    (root / "Makefile").write_text(MAKEFILE)
    return root


def make(
    tree: Path,
    *words: str,
    linker: str = f"{SCRIPT} {LD}",
    env: Mapping[str, str] | None = None,
    stderr: int = subprocess.PIPE,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", f"LD={linker}", *words],
        cwd=tree,
        env=environment(**(env or {})),
        text=True,
        stdout=subprocess.PIPE,
        stderr=stderr,
        check=False,
    )


def linked(tree: Path, *words: str, env: Mapping[str, str] | None = None) -> bool:
    """Whether a make, which must succeed, links the module."""
    done = make(tree, *words, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    return LINKED in done.stdout


def in_environment(tree: Path, flags: str, *goals: str) -> bool:
    return linked(tree, *goals, env={"SCPATCH_FLAGS": flags})


def on_command_line(tree: Path, flags: str, *goals: str) -> bool:
    return linked(tree, f"SCPATCH_FLAGS={flags}", *goals)


def in_makefile(tree: Path, flags: str, *goals: str) -> bool:
    (tree / "flags.mk").write_text(f"export SCPATCH_FLAGS := {flags}\n")
    done = linked(tree, *goals)
    (tree / "flags.mk").unlink()
    return done


WAYS = [in_environment, on_command_line, in_makefile]


@pytest.mark.parametrize("goal", [KO, "below"])
@pytest.mark.parametrize("way", WAYS)
def test_other_flags_link_again_once(tree: Path, way: object, goal: str) -> None:
    assert callable(way)
    assert way(tree, "", goal)
    assert not way(tree, "", goal)
    for flags in ("--no-nop=thunk", "--no-nop thunk --warn-only"):
        assert way(tree, flags, goal)
        assert not way(tree, f" {flags}  ", goal)
    assert linked(tree, goal)
    assert not linked(tree, goal)


def test_the_same_flags_are_the_same_however_they_are_given(tree: Path) -> None:
    assert [way(tree, "--no-nop=thunk") for way in (*WAYS, *WAYS)] == [True, *[False] * 5]


@pytest.mark.parametrize("flags", ["a#b", "(a,[b-z]'\"\\"])
def test_flags_of_any_characters(tree: Path, flags: str) -> None:
    flags = f"--trampoline=__SCT__* --trampoline={flags}"
    assert in_environment(tree, flags)
    assert not in_environment(tree, flags)
    assert linked(tree)


def test_another_version_links_again_once(tree: Path) -> None:
    assert linked(tree)
    assert not linked(tree)
    notes = tree / ".tmp_scpatch"
    notes.write_text(notes.read_text().replace(scpatch.__version__, "0.0.1"))
    assert linked(tree)
    assert not linked(tree)


def test_a_link_that_did_not_start_starts_again(tree: Path) -> None:
    """Until the flags are again those of the module that is there."""
    assert linked(tree)
    before = (tree / KO).read_bytes()
    for _ in range(2):
        done = make(tree, env={"SCPATCH_FLAGS": "--asm-offsets=not-made-yet.h"})
        assert done.returncode == 2
        assert "scpatch: error: not-made-yet.h: " in done.stderr
        assert (tree / KO).read_bytes() == before
    assert not linked(tree)


def test_notes_of_an_old_version_are_no_notes(tree: Path) -> None:
    (tree / ".tmp_scpatch").write_text("scpatch 0.0.1 --warn-only\n")
    assert linked(tree)
    assert not linked(tree)


def test_only_the_links_of_this_make_are_compared(tree: Path) -> None:
    """vmlinux, made with other flags, is no concern of a make that does not link it."""
    (tree / ".vmlinux.cmd").write_text("savedcmd_vmlinux := ld\n")
    (tree / ".tmp_scpatch").write_text(f"new\t{scpatch.__version__}\t\t.vmlinux.cmd\n")
    assert on_command_line(tree, "--no-nop=thunk")
    before = (tree / ".vmlinux.cmd").read_text()
    assert before.startswith("savedcmd_vmlinux := ld\n\n# scpatch: flags of this link\n")
    assert linked(tree)
    assert (tree / ".vmlinux.cmd").read_text() == before


@pytest.mark.parametrize("option", ["-n", "-q", "-t", "--dry-run", "-kn"])
@pytest.mark.parametrize("goal", [KO, "below"])
@pytest.mark.parametrize("version", [scpatch.__version__, "0.0.1"])
def test_a_make_that_runs_nothing_changes_nothing(
    tree: Path, option: str, goal: str, version: str
) -> None:
    assert linked(tree)
    notes = tree / ".tmp_scpatch"
    notes.write_text(notes.read_text().replace(scpatch.__version__, version))
    before = snapshot(tree)
    make(tree, option, goal, "SCPATCH_FLAGS=--no-nop=thunk")
    after = snapshot(tree)
    if "t" in option:  # make itself touches the module
        before[KO] = after[KO]
    assert after == before


@pytest.mark.parametrize(
    ("words", "dry"),
    [
        (["-j4", "-C", "x"], False),
        (["-Cnt", "-fq", "-Int", "-ont"], False),
        (["--no-print-directory", "n", "X=-n"], False),
        (["-sj2n"], False),
        (["-sn"], True),
        (["--question"], True),
    ],
)
def test_options_of_make(monkeypatch: pytest.MonkeyPatch, words: Sequence[str], dry: bool) -> None:
    monkeypatch.delenv("MAKEFLAGS", raising=False)
    assert _is_dry(words) == dry
    for flags in ("rRn -j2 --jobserver-auth=3,4 -- X=1", "n"):
        monkeypatch.setenv("MAKEFLAGS", flags)
        assert _is_dry([])
    for flags in ("", " --no-print-directory -- X=n", "-j2", "rRs -- X=n", "X=n"):
        monkeypatch.setenv("MAKEFLAGS", flags)
        assert not _is_dry([])


WRONG = "scpatch: error: scpatch-ld: invalid value for --strategy: 'pcaa' is not one of "


@pytest.mark.parametrize("goal", [KO, "below"])
@pytest.mark.parametrize(
    ("words", "linker", "env", "message"),
    [
        (["SCPATCH_FLAGS=--strategy=pcaa"], f"{SCRIPT} {LD}", {}, WRONG),
        ([], f"{SCRIPT} {LD}", {"SCPATCH_FLAGS": "--strategy pcaa"}, WRONG),
        ([], f"{SCRIPT} --strategy pcaa {LD}", {}, WRONG),
        ([], f"{SCRIPT} --strategy=pcaa {LD}", {}, WRONG),
        (
            [],
            f"{SCRIPT} --strategy=localentry --unmark {LD}",
            {},
            "scpatch: error: invalid value for --u",
        ),
        (
            [],
            f"{SCRIPT} --warn-only no-such-ld",
            {},
            "scpatch: error: no-such-ld: cannot run the linker",
        ),
        ([], f"{SCRIPT} {LD}", {"SCPATCH_PYTHON": "/no/python"}, "scpatch: error: /no/python: "),
        (
            [],
            f"{SCRIPT} --verify {LD}",
            {"CROSS_COMPILE": "no-such-"},
            "scpatch: error: no-such-ld is needed to run the call sites, and is not installed "
            "[SCP301]\nhint: install GNU binutils for ppc64le "
            "(Debian: binutils-powerpc64le-linux-gnu), or leave out --verify\n",
        ),
    ],
)
def test_what_is_wrong_ends_the_make_at_its_start(
    tree: Path, words: Sequence[str], linker: str, env: Mapping[str, str], message: str, goal: str
) -> None:
    before = snapshot(tree)
    done = make(tree, goal, *words, linker=linker, env=env)
    assert done.returncode == -signal.SIGTERM
    assert done.stderr.startswith(message)
    assert snapshot(tree) == before
    assert list(tree.glob(".tmp_*")) == []


def test_the_message_stays_in_a_log(tree: Path, tmp_path: Path) -> None:
    """make goes on writing where it was, over the start of what another process adds."""
    (tree / "outer").write_text(f"all:\n\t@$(MAKE) -f Makefile {KO}\n")
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            ["make", f"LD={SCRIPT} --strategy=pcaa {LD}", "-f", "outer"],
            cwd=tree,
            env=environment(),
            stdout=file,
            stderr=file,
        )
        assert process.wait() == 2
    lines = log.read_text().splitlines()
    assert any(line.startswith(WRONG) for line in lines)
    assert "make: *** [outer:2: all] Terminated" in log.read_text()


def test_a_make_that_cannot_be_told_goes_on_to_the_link(tree: Path) -> None:
    """Nobody can open a socket to add a message. Silence would be worse than a late one."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            command = ["make", f"LD={SCRIPT} --strategy=pcaa {LD}"]
            stream = theirs.fileno()
            status = subprocess.run(
                command, cwd=tree, env=environment(), stdout=stream, stderr=stream, check=False
            ).returncode
        text = ours.makefile().read()
    assert status == 2
    assert text.startswith(WRONG)
    assert f"[Makefile:11: {KO}] Error 2" in text


def test_a_message_that_is_shown_is_enough(tree: Path) -> None:
    words = [str(SCRIPT), "--strategy=pcaa", LD, "-v"]
    done = subprocess.run(words, cwd=tree, env=environment(), capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(WRONG)


def test_a_make_that_did_not_ask_goes_on(tree: Path) -> None:
    """A program between make and the linker hides the message: it is not Kbuild's question."""
    program = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:], stderr=-3).returncode)"
    words = f"'{sys.executable}' -c '{program}' {SCRIPT} --strategy=pcaa {LD} -v"
    (tree / "Makefile").write_text(f"all:\n\t@{words} || echo gave $$?\n")
    done = make(tree)
    assert (done.returncode, done.stdout, done.stderr) == (0, "gave 2\n", "")


def test_an_external_module_has_its_own_notes(tree: Path) -> None:
    """Linux before 6.13 links it from the kernel's tree, which may be another user's."""
    module = tree.parent / "outside"
    (tree / "fs").rename(module)
    text = MAKEFILE.replace("fs/", f"{module}/")
    (tree / "Makefile").write_text(text)
    words = [f"{module}/fs.ko", f"M={module}", f"KBUILD_EXTMOD={module}"]
    before = snapshot(tree)
    for flags in ("", "--no-nop=thunk"):
        expected = f"  SCPATCH {module}/fs.ko\n"
        assert make(tree, *words, f"SCPATCH_FLAGS={flags}").stdout == expected
        assert make(tree, *words, f"SCPATCH_FLAGS={flags}").stdout == ""
    assert snapshot(tree) == before
    assert (module / ".tmp_scpatch").exists()


def test_a_folder_that_cannot_be_written_is_left_alone(tree: Path) -> None:
    assert linked(tree)
    notes = tree / ".tmp_scpatch"
    before = notes.read_bytes()
    os.mkdir(tree / ".tmp_scpatch.new")
    assert make(tree).returncode == 0
    assert notes.read_bytes() == before
