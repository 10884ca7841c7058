"""Programs of every compiler and option set, rewritten, linked, and run under QEMU."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.real.programs import CALLER, MAIN, PRINTED, TARGETS, THROWING, THROWN
from tests.tools import CLANG, GCC, GXX, QEMU, compile_c, rewritten, run, states

GCC_OPTIONS = ["-O0", "-O1", "-O2", "-O3", "-Os", "-O2 -ffunction-sections", "-O2 -g -gdwarf-4"]
GCC_OPTIONS += ["-O2 -gdwarf-5 -gz", "-O2 -fPIC", "-O2 -mcpu=power9 -pg"]
GCC_OPTIONS += [
    "-O2 -mcmodel=large",
    "-O2 -mcmodel=small",
    "-O2 -fstack-protector-all",
    "-O2 -flto",
]
GCC_OPTIONS += ["-O2 -flto", "-O2 -fpatchable-function-entry=2", "-O2 -msave-toc-indirect"]
CLANG_OPTIONS = ["-O0", "-O2", "-Os", "-O2 -g", "-O2 -ffunction-sections", "-O2 -fPIC"]
CLANG_OPTIONS += ["-O2 -mcpu=pwr9"]

NOT_FOR_LLD = {"-Os", "-O2 -mcmodel=large"}
"""lld 14 has no _restfpr_30 and does not know R_PPC64_ENTRY."""

CASES = [(GCC, option) for option in GCC_OPTIONS] + [(CLANG, option) for option in CLANG_OPTIONS]
DRIVERS = [GCC, [*CLANG, "-fuse-ld=lld"]]
"""GNU ld and lld, with the C library of the cross compiler."""


def link(folder: Path, *objects: Path, compiler: Sequence[str] = GCC, more: str = "") -> Path:
    program = folder / "program"
    run(*compiler, *more.split(), "-o", program, *objects)
    return program


def output(program: Path) -> str:
    return run(*QEMU, program, cwd=program.parent).stdout


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The main program and the targets, compiled once."""
    folder = tmp_path_factory.mktemp("others")
    return [
        compile_c(folder, MAIN, "-O2", name="main.o"),
        compile_c(folder, TARGETS, "-O2", name="targets.o"),
    ]


@pytest.mark.parametrize(
    ("compiler", "option"), CASES, ids=[f"{compiler[0][-5:]} {opt}" for compiler, opt in CASES]
)
def test_compiled(tmp_path: Path, others: list[Path], compiler: Sequence[str], option: str) -> None:
    fat = ["-ffat-lto-objects", "-fno-lto"] if "-flto" in option else []
    path = compile_c(tmp_path, CALLER, *option.split(), *fat, compiler=compiler)
    found_states = [state for states_here in states(path).values() for state in states_here]
    assert len(found_states) >= 7
    assert set(found_states) <= {"rewrite", "saved"}
    new = rewritten(path)
    assert {state for states_here in states(new).values() for state in states_here} == {"done"}
    more = "-pg" if "-pg" in option else ""
    for driver in DRIVERS[: 1 if option in NOT_FOR_LLD and compiler == GCC else 2]:
        assert output(link(tmp_path, new, *others, compiler=driver, more=more)) == PRINTED


@pytest.mark.parametrize("compiler", [GCC, CLANG], ids=["gcc", "clang"])
def test_compiled_as_a_shared_object(
    tmp_path: Path, others: list[Path], compiler: Sequence[str]
) -> None:
    """Caller and targets in two units, so with two TOCs, and trampolines between them."""
    path = rewritten(compile_c(tmp_path, CALLER, "-O2", "-fPIC", compiler=compiler))
    # A trampoline that another module may preempt would be called through the PLT.
    hidden = re.sub(r"\.globl (\w+)", r".globl \1\\n.hidden \1", TARGETS)
    targets = compile_c(tmp_path, hidden, "-O2", "-fPIC", name="targets.o")
    for driver in DRIVERS:
        library = tmp_path / "libcaller.so"
        run(*driver, "-shared", "-o", library, path, targets)
        program = link(tmp_path, others[0], library, compiler=driver, more=f"-Wl,-rpath,{tmp_path}")
        assert output(program) == PRINTED


@pytest.mark.parametrize("linker", ["ld", "lld"])
@pytest.mark.parametrize("option", ["-O0", "-O2", "-O2 -g"])
def test_exceptions_pass_through(tmp_path: Path, linker: str, option: str) -> None:
    """The unwinder can unwind through a rewritten call, and restores r2."""
    compiled = compile_c(tmp_path, THROWING, *option.split(), compiler=GXX, language="c++")
    for path in (compiled, rewritten(compiled)):
        driver = GXX if linker == "ld" else ["clang++", *CLANG[1:], "-fuse-ld=lld"]
        program = link(tmp_path, path, compiler=driver)
        assert output(program) == THROWN


def test_a_program_that_is_not_rewritten_runs_too(tmp_path: Path, others: list[Path]) -> None:
    """Within one unit nothing can go wrong: what the tests above see is that nothing breaks."""
    path = compile_c(tmp_path, CALLER, "-O2")
    assert output(link(tmp_path, path, *others)) == PRINTED
