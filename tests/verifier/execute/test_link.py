"""Programs that are missing or wrong, files that cannot be linked, several runs at once."""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from scpatch.errors import ScpatchError
from scpatch.verifier.execute import execute
from scpatch.verifier.tools import Tools, find_tools
from tests.verifier.execute.support import STUB, TRAMPOLINE, assemble, run, site_at

GOOD = ".text\nsite: bl stub\n ld 2, 24(1)\n nop\n" + STUB + TRAMPOLINE
ENDED = "the run did not come to an end here: "
MIDDLE = [f"site_{n}" for n in range(12)]


def program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def failing(tmp_path: Path, tools: Tools) -> ScpatchError:
    path = assemble(tmp_path, GOOD)
    with pytest.raises(ScpatchError) as error:
        execute(path, [site_at(path)], tools)
    assert error.value.file == str(path)
    assert "--no-run" in error.value.hint
    return error.value


def test_a_linker_that_fails(tmp_path: Path) -> None:
    linker = program(tmp_path / "ld", "echo no such luck >&2; exit 1")
    error = failing(tmp_path, replace(find_tools(), ld=linker))
    assert error.code == "SCP302"
    assert error.message == "cannot be linked into a program to run: no such luck"


def test_a_linker_that_makes_something_else(tmp_path: Path) -> None:
    """The addresses in its map would be those of other code."""
    other = assemble(tmp_path, GOOD + "nop\n", "other")
    steps = f'ln -sf {other} object.o; exec {find_tools().ld} "$@"'
    error = failing(tmp_path, replace(find_tools(), ld=program(tmp_path / "ld", steps)))
    assert error.code == "SCP302"
    assert error.message == "section 1 (.text) is not in the linked program as it is in the file"


def test_an_assembler_that_fails(tmp_path: Path) -> None:
    error = failing(tmp_path, replace(find_tools(), assembler="/bin/false"))
    assert error.code == "SCP302"
    assert error.message == "cannot be linked into a program to run: no reason was given"


def test_an_emulator_that_fails(tmp_path: Path) -> None:
    emulator = program(tmp_path / "qemu", "echo no memory >&2; exit 3")
    error = failing(tmp_path, replace(find_tools(), emulator=emulator))
    assert error.code == "SCP302"
    assert error.message == "the program to run the call sites does not start: no memory"
    error = failing(tmp_path, replace(find_tools(), emulator="/bin/false"))
    assert error.message.endswith("does not start: the process left with status 1")


def test_the_program_runs_in_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = assemble(tmp_path, GOOD)
    # It may write no file, but make a folder.
    steps = f'mkdir "{tmp_path}/was-$(basename "$PWD")"; exec {find_tools().emulator or ""} "$@"'
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    tools = replace(find_tools(), emulator=program(tmp_path / "q", steps))
    (outcome,) = execute(path, [site_at(path)], tools)
    assert outcome.passed
    (seen,) = tmp_path.glob("was-scpatch-run-*")
    assert not (tmp_path / seen.name.removeprefix("was-")).exists()


def test_what_runs_can_write_no_file(tmp_path: Path) -> None:
    """Neither now nor after it has raised its limits, and no core."""
    limits = "$(ulimit -S -f) $(ulimit -H -f) $(ulimit -S -c) $(ulimit -H -c)"
    emulator = program(tmp_path / "qemu", f'echo "{limits}" >&2; exit 3')
    error = failing(tmp_path, replace(find_tools(), emulator=emulator))
    assert error.message.endswith("does not start: 0 0 0 0")


def test_an_emulator_that_does_nothing(tmp_path: Path) -> None:
    """It says that it is ready, and then gives no result: the site has not passed."""
    path = assemble(tmp_path, GOOD)
    emulator = program(tmp_path / "qemu", "printf SCPREADY")
    (outcome,) = execute(path, [site_at(path)], replace(find_tools(), emulator=emulator))
    assert outcome.reasons == (f"{ENDED}the process left with status 0",)


def test_a_file_that_is_no_object(tmp_path: Path) -> None:
    path = assemble(tmp_path, GOOD)
    site = site_at(path)
    for content, code, message in (
        (b"", "SCP107", "its section headers cannot be read"),
        (b"hello", "SCP302", "syntax error"),
        (path.read_bytes()[:200], "SCP302", "file format not recognized"),
    ):
        path.write_bytes(content)
        with pytest.raises(ScpatchError) as error:
            run(path, site)
        assert (error.value.code, error.value.file) == (code, str(path))
        assert error.value.message.endswith(message)


def test_runs_at_the_same_time_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = assemble(tmp_path, GOOD + "bad: bl __SCT__x\n nop\n nop\n")
    sites = [site_at(path), site_at(path, "bad")]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: run(path, *sites), range(8)))
    assert results == [results[0]] * 8
    assert [outcome.passed for outcome in results[0]] == [True, False]
    monkeypatch.setattr("scpatch.verifier.execute.run_sites", None)
    with pytest.raises(TypeError, match="'NoneType' object is not callable"):
        run(path, *sites)
    assert list(scratch.iterdir()) == []


def test_an_object_that_does_not_name_its_abi(tmp_path: Path) -> None:
    path = assemble(tmp_path, GOOD)
    data = bytearray(path.read_bytes())
    data[48:52] = bytes(4)  # e_flags
    path.write_bytes(data)
    assert run(path, site_at(path))[0].passed


def test_r2_points_into_no_memory_of_the_harness(tmp_path: Path) -> None:
    """Also if the object has no TOC: a store through r2 must not go unseen."""
    path = assemble(tmp_path, GOOD.replace("std 2, 24(1)", "std 2, 24(1)\nstd 3, 0(2)"))
    (outcome,) = run(path, site_at(path))
    assert outcome.reasons[0].startswith("crashed with SIGSEGV at .text+0x10, accessing 0x1")


def test_code_out_of_a_branchs_reach(tmp_path: Path) -> None:
    """One section over 64 MiB: in its middle, neither a stub nor the linker's help is in reach.

    The linker must tell of all such calls; by itself it would stop after ten.
    """
    gap = ".skip 0x2100000\n"
    calls = [f"{name}: bl stub\n ld 2, 24(1)\n nop\n" for name in ("a", *MIDDLE, "near")]
    source = calls[0] + gap + "".join(calls[1:-1]) + gap + calls[-1] + STUB + TRAMPOLINE
    path = assemble(tmp_path, f".text\n.globl stub\n{source}")
    *middle, end = run(path, *(site_at(path, name) for name in (*MIDDLE, "near")))
    path.unlink()
    for outcome in middle:
        assert "the linker says: relocation truncated to fit: R_PPC64_REL24" in outcome.reasons[-1]
    assert end.passed


def test_a_trampoline_out_of_a_branchs_reach(tmp_path: Path) -> None:
    """In another section, the linker adds a branch stub, as it does in a real link."""
    far = '.section .text.far, "ax"\n.skip 0x2000000\n' + TRAMPOLINE.replace(".text", "")
    path = assemble(tmp_path, GOOD.replace(TRAMPOLINE, far))
    (outcome,) = run(path, site_at(path))
    assert outcome.reasons == ()
