"""The options of both programs: each has a single definition and message."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from enum import StrEnum
from pathlib import Path

import pytest

from scpatch.commands import COMMANDS, KBUILD
from scpatch.kbuild.settings import OPTIONS, Settings, parse
from scpatch.options import ASM_OFFSETS, Parameter, UsageError, Values, library_options
from scpatch.rewriter import Options
from scpatch.sites.choices import Hoist, NoNop, Undefined
from tests.kbuild.support import call, image_arguments, make_tree
from tests.test_cli import scpatch
from tests.tools import ROOT

ALL = {name: command.parameters for name, command in {**COMMANDS, **KBUILD}.items()} | {
    "scpatch-ld": OPTIONS
}


@pytest.mark.parametrize("program", ALL)
def test_no_program_has_two_options_of_one_name(program: str) -> None:
    flags = [flag for p in ALL[program] for flag in (p.flag, p.off_flag, p.short) if flag]
    assert len(set(flags)) == len(flags)


def test_an_option_takes_the_same_values_everywhere() -> None:
    """Only its help and its default may differ."""
    seen: dict[str, Parameter] = {}
    for parameters in ALL.values():
        for parameter in parameters:
            if not parameter.is_argument and parameter.name != "format":
                known = seen.setdefault(parameter.flag, parameter)
                assert parameter.kind is known.kind
                assert parameter.value_name == known.value_name
                assert parameter.repeatable == known.repeatable


def test_enums_offer_what_the_library_takes() -> None:
    kinds = {
        parameter.name: parameter.kind
        for parameters in ALL.values()
        for parameter in parameters
        if issubclass(parameter.kind, StrEnum)
    }
    assert kinds.pop("shell")
    assert kinds.pop("color")
    assert kinds == {"undefined": Undefined, "no_nop": NoNop, "hoist": Hoist}


WRONG = [
    ("--no-nop", "thnk", "'thnk' is not one of refuse, thunk"),
    ("--hoist", "always", "'always' is not one of auto, kernel, never"),
    ("--undefined", "AUTO", "'AUTO' is not one of auto, rewrite, skip"),
    ("--paca-toc-offset", "-8", "'-8' is not a number, 0 or more"),
    ("--paca-toc-offset", "0x10", "'0x10' is not a number, 0 or more"),
    ("--trampoline", "", "it is empty"),
    ("--asm-offsets", "", "it is empty"),
]


@pytest.mark.parametrize(("flag", "value", "reason"), WRONG)
def test_both_programs_say_the_same_of_a_wrong_value(
    tmp_path: Path, flag: str, value: str, reason: str
) -> None:
    message = f"invalid value for {flag}: {reason}"
    done = scpatch("rewrite", f"{flag}={value}", "x.o")
    assert done.returncode == 2
    assert done.stderr.startswith(f"scpatch: error: {message} [SCP401]\nhint: ")
    with pytest.raises(UsageError) as caught:
        parse([f"{flag}={value}"])
    assert caught.value.message == message


def test_the_build_step_ends_with_that_message(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    done = call(tree, image_arguments(), env={"SCPATCH_FLAGS": "--no-nop=thnk"})
    assert done.returncode == 2
    assert done.stderr.startswith(
        "scpatch: error: scpatch-ld: invalid value for --no-nop: 'thnk' is not one of refuse"
    )
    assert not (tree / "vmlinux").exists()


def test_the_settings_of_no_options_are_the_defaults() -> None:
    settings = parse([])
    assert isinstance(settings, Settings)
    assert {option.name: option.initial for option in OPTIONS} == vars(settings)
    assert settings.module_options == Options(hoist=Hoist.KERNEL)
    assert settings.image_options == Options(hoist=Hoist.KERNEL, undefined=Undefined.REWRITE)


def test_every_option_reaches_the_library(tmp_path: Path) -> None:
    header = tmp_path / "asm-offsets.h"
    header.write_text("#define PACATOC 16 /* */\n#define TI_livepatch_sp 40 /* */\n")
    values = Values(
        strategy="callsite",
        trampolines=("a*", "b"),
        undefined=Undefined.SKIP,
        no_nop=NoNop.THUNK,
        hoist=Hoist.NEVER,
        asm_offsets=header,
        paca_toc_offset=8,
        unmark=True,
        emit_sites=True,
        verbose=True,
    )
    options = library_options(values, lines="all")
    assert options.strategy == "callsite"
    assert options.trampolines == ("a*", "b")
    assert options[2:6] == (Undefined.SKIP, NoNop.THUNK, Hoist.NEVER, True)
    assert (options.offsets.paca_toc, options.offsets.livepatch_sp) == (8, 40)
    assert options.emit_sites
    assert options.lines == "all"
    assert library_options(Values(strategy="paca", trampolines=())) == Options("paca")


def test_the_help_names_the_default() -> None:
    assert ASM_OFFSETS.full_help == ASM_OFFSETS.help
    step = {option.flag: option.full_help for option in OPTIONS}
    assert step["--hoist"].endswith("[default: kernel]")
    rewrite = {parameter.flag: parameter.full_help for parameter in COMMANDS["rewrite"].parameters}
    assert rewrite["--hoist"].endswith("[default: auto]")
    assert rewrite["--trampoline"].endswith("[default: __SCT__*]")


def test_the_build_step_starts_without_the_command_lines_library() -> None:
    code = "import sys, scpatch.kbuild.link; print({'typer', 'click'} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, text=True, capture_output=True, check=True
    )
    assert done.stdout == "set()\n"


def test_no_command_line_names_an_option_that_is_defined_elsewhere() -> None:
    """The flags of options are in options.py and in the lists of the commands only."""
    flags = {p.flag for parameters in ALL.values() for p in parameters if not p.is_argument}
    for path in [ROOT / "scpatch/cli.py", *(ROOT / "scpatch/kbuild").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in flags, (path.name, node.value)
