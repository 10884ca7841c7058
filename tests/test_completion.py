"""`scpatch completion`: the scripts, and a bash that uses its script."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_cli import scpatch

ASK = """
eval "$(scpatch completion bash)"
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
read -r _ _ _ _ function _ < <(complete -p scpatch)
"$function" scpatch
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completed(*words: str) -> list[str]:
    """What bash offers for the last of the words."""
    bash = shutil.which("bash")
    assert bash is not None
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [bash, "-c", ASK, "bash", "scpatch", *words],
        env={**os.environ, "PATH": programs},
        text=True,
        capture_output=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["re"], ["rewrite"]),
        (["kbuild", ""], ["edit"]),
        (["rewrite", "--no"], ["--no-nop", "--no-sync", "--no-pager"]),
        (["rewrite", "--no-nop", ""], ["refuse", "thunk"]),
        (["rewrite", "--strategy", "call"], ["callsite"]),
        (["rewrite", "--hoist", "k"], ["kernel"]),
        (["diff", "--format", "j"], ["json"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        # Nothing: bash then completes names of files.
        (["rewrite", "x"], []),
        (["rewrite", "--output", ""], []),
    ],
)
def test_bash(words: list[str], expected: list[str]) -> None:
    assert completed(*words) == expected


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        ("bash", "complete -o default -F _scpatch_completion scpatch"),
        ("zsh", "compdef _scpatch_completion scpatch"),
        ("fish", "complete --command scpatch "),
    ],
)
def test_the_scripts(shell: str, line: str) -> None:
    done = scpatch("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert line in done.stdout


@pytest.mark.parametrize(
    ("instruction", "arguments", "expected"),
    [
        ("complete_zsh", "scpatch completion z", '"zsh"'),
        ("complete_fish", "scpatch completion z", "zsh"),
    ],
)
def test_what_the_other_shells_ask(instruction: str, arguments: str, expected: str) -> None:
    done = scpatch(
        _SCPATCH_COMPLETE=instruction,
        _TYPER_COMPLETE_ARGS=arguments,
        _TYPER_COMPLETE_FISH_ACTION="get-args",
    )
    assert done.returncode == 0
    assert expected in done.stdout


def test_another_shell_is_a_usage_error() -> None:
    done = scpatch("completion", "csh")
    assert done.returncode == 2
    assert "invalid value for SHELL: 'csh' is not one of bash, zsh, fish [SCP401]\n" in done.stderr
