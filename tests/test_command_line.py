"""Ordinary command lines are read without click, and as click reads them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scpatch.cli import application
from scpatch.command_line import read
from scpatch.commands import COMMANDS
from scpatch.options import Parameter
from tests.kbuild.support import make_tree, module_arguments, stubs
from tests.test_cli import scpatch
from tests.tools import FIXTURES, LD, ROOT

ODD = ["-", "--", "-h", "-x", "--help", "--strat", "-vq", "-ofile", "", "x.o", "7", "-3", "a=b"]
"""Words that are no option, or one only to click, or none at all."""


def spellings(parameter: Parameter) -> st.SearchStrategy[list[str]]:
    """Ways to write an option or an argument, right and wrong."""
    good = list(parameter.words) or (["3"] if parameter.kind is int else ["file"])
    value = st.sampled_from([*good, *ODD])
    if parameter.is_argument:
        return value.map(lambda text: [text])
    flags = [flag for flag in (parameter.flag, parameter.off_flag, parameter.short) if flag]
    flag = st.sampled_from(flags)
    forms = [flag.map(lambda f: [f]), st.builds(lambda f, v: [f"{f}={v}"], flag, value)]
    if parameter.kind is not bool:
        forms += [st.builds(lambda f, v: [f, v], flag, value)] * 3
    return st.one_of(forms)


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    name = draw(st.sampled_from(sorted(COMMANDS)))
    parameters = COMMANDS[name].parameters
    pieces = draw(st.lists(st.sampled_from(parameters).flatmap(spellings), max_size=5))
    files = draw(st.lists(st.sampled_from(["x.o", "y.ko", "bash", *ODD]), max_size=2))
    return [name, *(word for piece in pieces for word in piece), *files]


def by_click(words: list[str]) -> dict[str, object] | None:
    command = application(words[0]).commands[words[0]]
    try:
        return command.make_context(words[0], words[1:]).params
    except (click.ClickException, click.exceptions.Exit):
        return None


@given(lines())
def test_the_values_are_those_of_click(words: list[str]) -> None:
    command = read(words)
    if command is not None:
        values = vars(command.args[-1])  # type: ignore[attr-defined]
        assert values == by_click(words)
        kinds = {name: type(value) for name, value in values.items()}
        assert kinds == {name: type(value) for name, value in (by_click(words) or {}).items()}


ORDINARY = [
    "scan x.o",
    "scan --check --no-lines -t __SCT__* -t foo x.o y.o",
    "rewrite x.o -o y.o",
    "rewrite --strategy=paca --paca-toc-offset 8 --hoist never -q x.o",
    "rewrite -n --no-sync --format json x.o",
    "diff x.o y.o -U 5",
    "verify --no-run x.o y.o",
    "explain",
    "explain SCP203",
]


@pytest.mark.parametrize("line", ORDINARY)
def test_an_ordinary_line_needs_no_click(line: str) -> None:
    words = line.split()
    command = read(words)
    assert command is not None
    assert vars(command.args[-1]) == by_click(words)  # type: ignore[attr-defined]


@pytest.mark.parametrize("line", ["", "ld -r -o x.ko --help x.o", "--strategy=paca ld -- -h"])
def test_the_step_of_a_build_needs_no_click(line: str) -> None:
    command = read(["kbuild", "step", *line.split()])
    assert command is not None
    assert vars(command.args[-1]) == {"files": tuple(line.split())}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "line",
    ["", "--version", "diff", "scan --help x", "scan -x x", "diff x.o", "explain a b", "x y"],
)
def test_click_reads_the_rest(line: str) -> None:
    assert read(line.split()) is None


def test_an_option_that_the_command_refuses() -> None:
    """Read without click, with a hint as what click reads."""
    done = scpatch("rewrite", "-q", "-v", FIXTURES / "sites.o")
    assert done.returncode == 2
    assert done.stderr == (
        "scpatch: error: --verbose does not go with --quiet [SCP401]\n"
        "hint: `scpatch rewrite --help` says how to call it\n"
    )


NOT_FOR_ONE_OBJECT = {
    *("click", "typer", "inspect", "dataclasses", "threading", "subprocess", "concurrent.futures"),
    *("multiprocessing", "msgspec", "json", "zlib", "lzma", "bz2", "mmap", "tempfile", "shutil"),
    *("lief", "capstone", "keystone", "rich", "elftools", "dask", "logging", "argparse", "ast"),
    *("scpatch.cli", "scpatch.api", "scpatch.verifier", "scpatch.differ", "scpatch.dwarf"),
    *("scpatch.ar", "scpatch.batch.processes", "scpatch.batch.fleet"),
    *("copy", "signal", "weakref", "scpatch.advisor"),
}
MOST = 153
"""Modules that a rewrite of one object or the link of a module imports at most, those of Python's
start included."""


def imported(program: str, *arguments: str | Path, cwd: Path) -> set[str]:
    """The modules that are there when the program ends, without what `site` imports for an
    editable installation. The program fails if the type of a named tuple's field is a string, which
    `typing` has to compile: `from __future__ import annotations` makes each one."""
    code = (
        f"import os, sys; os._exit = sys.exit; sys.path.insert(0, {str(ROOT)!r})\n"
        f"import typing; typing.ForwardRef = None; from {program} import main\n"
        "try: main()\n"
        "finally: open('modules', 'w').write('\\n'.join(sys.modules))"
    )
    subprocess.run(
        [sys.executable, "-S", "-c", code, *map(str, arguments)],
        cwd=cwd,
        check=True,
        capture_output=True,
    )
    return set((cwd / "modules").read_text().split("\n"))


def test_what_a_rewrite_of_one_object_imports(tmp_path: Path) -> None:
    out = tmp_path / "out.o"
    names = imported("scpatch.__main__", "rewrite", FIXTURES / "sites.o", "-o", out, cwd=tmp_path)
    assert out.exists()
    assert names & {*NOT_FOR_ONE_OBJECT, "scpatch.kbuild"} == set()
    assert len(names) <= MOST


def test_what_the_link_of_a_module_imports(tmp_path: Path) -> None:
    tree, step = make_tree(tmp_path / "tree"), ("kbuild", "step")
    names = imported("scpatch.kbuild.__main__", LD, *module_arguments(), cwd=tree)
    assert len(stubs(tree / "fs/fs.ko")) == 1
    in_the_tree = imported("scpatch.__main__", *step, LD, *module_arguments(), cwd=tree)
    assert in_the_tree - names == {
        *("scpatch.__main__", "scpatch.command_line", "scpatch.commands", "scpatch.kbuild.step")
    }
    not_for_a_module = {"scpatch.kbuild.image", "scpatch.kbuild.copies", "scpatch.kbuild.record"}
    assert names & (NOT_FOR_ONE_OBJECT | not_for_a_module) == set()
    assert len(names) <= MOST


def test_the_version_needs_next_to_nothing(tmp_path: Path) -> None:
    names = imported("scpatch.__main__", "--version", cwd=tmp_path)
    assert {name for name in names if name.startswith("scpatch.")} == {
        *("scpatch.__main__", "scpatch.program")
    }
