"""Files without machine code are refused by name, by every command, alone and in archives."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from scpatch.errors import ScpatchError
from scpatch.kbuild.plans import plan_copy
from scpatch.kbuild.record import NOTHING
from scpatch.verifier.proof import prove
from tests import archives
from tests.elfwriter import Elf, Section, Symbol, build
from tests.tools import CLANG, GCC, LD, ROOT, compile_c, options, run, scan_file

SOURCE = "extern void __SCT__x(void); void f(void) { __SCT__x(); }"
SLIM, FAT = ("-flto", "-fno-fat-lto-objects"), ("-flto", "-ffat-lto-objects")
COMMANDS = {
    "scan": ["scan"],
    "rewrite": ["rewrite", "-k", "-o", "out"],
    "advise": ["advise"],
    "verify": ["verify", "--no-run", "."],
    "diff": ["diff", "."],
}


def without_code(folder: Path, kind: str) -> Path:
    if kind == "slim":
        return compile_c(folder, SOURCE, *SLIM, compiler=GCC)
    if kind == "slim-merged":
        entry = compile_c(folder, SOURCE, *SLIM, compiler=GCC, name="one.o")
        two = compile_c(folder, SOURCE.replace("f(", "g("), "-O2", name="two.o")
        run(LD, "-r", "-o", folder / "x.o", entry, two)
    elif kind == "slim-no-symbol":
        info = Section(name=".gnu.lto_.lto.1a2b", data=bytes((12, 0, 0, 0, 1, 0, 0, 0)))
        (folder / "x.o").write_bytes(build(Elf(sections=[info])))
    elif kind == "slim-old":
        info = Section(name=".gnu.lto_.opts", data=bytes(8))
        mark = Symbol(name="__gnu_lto_slim", bind=1, st_shndx=0xFFF2, size=1, value=1)
        (folder / "x.o").write_bytes(build(Elf(sections=[info], symbols=[mark])))
    else:
        path = compile_c(folder, SOURCE, "-flto", compiler=CLANG)
        if kind == "bitcode-wrapper":
            code = path.read_bytes()
            fields = (0x0B17C0DE, 0, 20, len(code), 0xFFFFFFFF)
            path.write_bytes(b"".join(entry.to_bytes(4, "little") for entry in fields) + code)
    return folder / "x.o"


KINDS = ("slim", "slim-merged", "slim-no-symbol", "slim-old", "bitcode", "bitcode-wrapper")


def packed(path: Path, packing: str) -> Path:
    if packing == "alone":
        return path
    good = compile_c(path.parent, SOURCE, "-O2", name="good.o")
    if packing == "regular":
        return archives.make(path.with_name("x.a"), good.name, path.name, options="rcS")
    if packing == "thin":
        return archives.make(path.with_name("x.a"), good.name, path.name, options="rcST")
    archives.make(path.with_name("in.a"), good.name, path.name, options="rcS")
    return archives.thin(path.parent, "in.a")


def scpatch(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scpatch", *arguments]
    return run(*command, cwd=folder, check=False)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("packing", ["alone", "regular", "thin", "nested"])
@pytest.mark.parametrize("kind", ["slim", "bitcode"])
def test_every_command_refuses_it(
    tmp_path: Path, kind: str, packing: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    path = packed(without_code(tmp_path, kind), packing)
    words = [str(path) if entry == "." else entry for entry in COMMANDS[command]]
    done = scpatch(tmp_path, *words, str(path))
    assert done.returncode == (1 if command == "rewrite" else 2)
    said = done.stderr + done.stdout
    assert re.search("no(t)? machine code yet", said)
    assert packing == "alone" or "x.o" in said or "in.a" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_refused_and_not_proven(tmp_path: Path, kind: str) -> None:
    path = without_code(tmp_path, kind)
    with pytest.raises(ScpatchError) as caught:
        scan_file(path)
    assert caught.value.code == "SCP111"
    assert "not machine code yet" in prove(path, path).errors[0]
    with pytest.raises(ScpatchError) as caught:
        plan_copy(str(path), tmp_path / "copy", options(), NOTHING)
    assert caught.value.code == "SCP111"


@pytest.mark.parametrize("command", COMMANDS)
def test_fat_objects_are_taken_with_a_note(
    tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    path = compile_c(tmp_path, SOURCE, "-O2", *FAT)
    assert len(scan_file(path).sites) == 1
    run(sys.executable, "-m", "scpatch", "rewrite", path, "-o", tmp_path / "new.o")
    words = [str(path) if entry == "." else entry for entry in COMMANDS[command]]
    last = "new.o" if command in ("verify", "diff") else "x.o"
    done = scpatch(tmp_path, *words, last)
    assert done.stderr.count("link-time optimisation") == 1
    assert "no machine code" not in done.stderr
    assert done.returncode == (command == "diff")
