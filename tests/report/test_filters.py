"""Filters select what is shown, and change neither counts nor exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.report.support import FIXTURES, ROOT, rewritten, validated

REFUSED = FIXTURES / "refused.o"


def scpatch(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scpatch", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "functions"),
    [
        (["--function", "sib*"], {"sibling_call"}),
        (["--function", "sib*", "--function", "accepted"], {"sibling_call", "accepted"}),
        (["--section", ".text.p*"], {"past_the_end"}),
        (["--state", "rewrite"], {"accepted"}),
        (["--state", "refused", "--function", "a*"], set()),
        (["--callee", "__SCT__other"], set()),
        (["--callee", "*name", "--function", "*call"], {"sibling_call"}),
    ],
)
def test_sites_of_a_scan(arguments: list[str], functions: set[str]) -> None:
    text = scpatch("scan", REFUSED, "--check", *arguments)
    assert (text.returncode, text.stderr) == (1, "")
    rows = [line.split() for line in text.stdout.splitlines()]
    places = {row[2].partition("+")[0] for row in rows if len(row) == 4 and "+0x" in row[2]}
    assert places == functions
    assert text.stdout.splitlines()[1:3] == [
        "  1 to rewrite, 7 refused",
        f"  {len(functions)} of 8 call sites shown",
    ]
    document = validated(scpatch("scan", REFUSED, "--format", "json", *arguments).stdout)
    file = document["files"][0]  # type: ignore[index]
    assert {site["function"] for site in file["sites"]} == functions
    assert file["states"] == {"rewrite": 1, "refused": 7}


def test_a_rewrite_does_not_depend_on_them(tmp_path: Path) -> None:
    out, whole = tmp_path / "out.o", tmp_path / "whole.o"
    command = ("rewrite", FIXTURES / "sites.o", "--format", "text", "-o")
    done = scpatch(*command, out, "--function", "none")
    assert done.returncode == 0
    assert "  0 of 22 call sites shown" in done.stdout
    assert scpatch(*command, whole).returncode == 0
    assert out.read_bytes() == whole.read_bytes()


def test_functions_of_a_diff(tmp_path: Path) -> None:
    before, after = FIXTURES / "calls-gcc.o", rewritten("calls-gcc.o", tmp_path)
    everything = scpatch("diff", before, after).stdout
    for arguments, expected in (
        (["--function", "in_*"], ["in_a_loop"]),
        (["--section", ".noinstr*", "--callee", "__SCT__local_hook"], ["call_in_noinstr_text"]),
    ):
        text = scpatch("diff", before, after, *arguments)
        assert text.returncode == 1
        assert "Symbols" in everything
        assert "Symbols" not in text.stdout
        assert text.stdout.splitlines()[2] == everything.splitlines()[2]
        document = json.loads(
            scpatch("diff", before, after, "--format", "json", *arguments, "--stat").stdout
        )
        functions = document["files"][0]["functions"]
        assert [f["name"] for f in functions if not f["note"]] == expected
        assert not any(f["hunks"] for f in functions)


def test_verify_judges_all_calls(tmp_path: Path) -> None:
    before = FIXTURES / "calls-gcc.o"
    for options in (["--function", "none"], ["--state", "stub"]):
        done = scpatch("verify", "--no-run", before, before, *options)
        assert done.returncode == 1
        assert done.stdout.startswith(f"{before}: NOT PROVEN: 13 call sites (13 left)")
        assert "  0 of 13 call sites shown" in done.stdout
    done = scpatch("verify", "--no-run", "-q", before, before, "--function", "none")
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 13
    place = ".text+0x1e0 in in_a_loop+0x60"
    assert (
        f"scpatch: error: {before}: {place}: a nop follows: r2 stays what the target made it"
        in (lines)
    )


@pytest.mark.parametrize(("command", "word"), [("scan", "stub"), ("verify", "rewrite")])
def test_a_state_of_another_command(command: str, word: str) -> None:
    files = [REFUSED] * (1 + (command == "verify"))
    done = scpatch(command, "--state", word, *files)
    assert done.returncode == 2
    assert f"invalid value for --state: '{word}' is not one of " in done.stderr


def test_diff_counts_the_calls_of_other_trampolines(tmp_path: Path) -> None:
    after = tmp_path / "out.o"
    names = ("-t", "memset")
    assert scpatch("rewrite", FIXTURES / "calls-gcc.o", "-o", after, "-q").returncode == 0
    diff = ("diff", FIXTURES / "calls-gcc.o", after)
    assert "13 call sites" in scpatch(*diff).stdout.splitlines()[2]
    assert "call sites" not in scpatch(*diff, *names).stdout.splitlines()[2]
