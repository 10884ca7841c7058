"""Names that are no UTF-8, and symbols that a linker wants defined: every command takes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scpatch.verifier.files import verify_files
from scpatch.verifier.proof import prove
from scpatch.verifier.tools import find_tools
from scpatch.verifier.verdict import Result
from tests import elfwriter as ew
from tests.test_cli import scpatch
from tests.tools import GCC, GXX, compile_c, rewritten

LATIN = "caf\udce9"
"""A name in Latin-1, as it is read: 0xe9 is no UTF-8."""


def latin(directory: Path) -> Path:
    """The file name, a function, a trampoline and a section in Latin-1."""
    prologue = ew.words(0x7C0802A6, 0xF8010010, 0xF821FFC1)
    epilogue = ew.words(0x38210040, 0xE8010010, 0x7C0803A6, ew.BLR)
    code = prologue + ew.words(ew.BL, ew.NOP) + epilogue
    trampoline = f"__SCT__{LATIN}"
    text = ew.Section(
        name=f".text.{LATIN}",
        flags=ew.SHF_ALLOC | ew.SHF_EXECINSTR,
        addralign=4,
        data=code,
        relocations=[ew.Relocation(offset=12, type=ew.R_PPC64_REL24, symbol=trampoline)],
    )
    symbols = [
        ew.Symbol(name=f"{LATIN}.c", type=ew.STT_FILE, st_shndx=ew.SHN_ABS),
        ew.Symbol(
            name=LATIN, type=ew.STT_FUNC, bind=ew.STB_GLOBAL, size=len(code), section=text.name
        ),
        ew.Symbol(name=trampoline, bind=ew.STB_GLOBAL),
        ew.Symbol(name=".TOC.", bind=ew.STB_GLOBAL),
    ]
    path = directory / "latin.o"
    path.write_bytes(ew.build(ew.Elf(sections=[text], symbols=symbols)))
    return path


def test_latin_1_is_proven_and_run(tmp_path: Path) -> None:
    path = latin(tmp_path)
    after = rewritten(path)
    assert b"r2save.__SCT__caf\xe9." in after.read_bytes()
    (verdict,) = verify_files(path, after, tools=find_tools())
    assert (verdict.result, verdict.proof.errors) == (Result.PROVEN, ())


@pytest.mark.parametrize("form", ["plain", "json"])
def test_latin_1_in_every_command(tmp_path: Path, form: str) -> None:
    path, after = latin(tmp_path), tmp_path / "after.o"
    for command in (
        ["scan", path],
        ["advise", path],
        ["rewrite", path, "-o", after],
        ["diff", path, after],
        ["verify", "--no-run", path, after],
    ):
        done = scpatch(command[0], "--format", form, *command[1:])
        assert done.returncode == (command[0] == "diff"), done.stderr
        assert "Traceback" not in done.stderr
        if form == "json":
            assert json.loads(done.stdout)["command"] == command[0]


def test_a_latin_1_file_name(tmp_path: Path) -> None:
    """gcc puts it into STT_FILE as it is."""
    source = tmp_path / "caf\udce9.c"
    source.write_text("extern long __SCT__x(long);\nlong f(long x) { return __SCT__x(x) + 1; }\n")
    path = compile_c(tmp_path, source, "-O2", compiler=GCC)
    assert prove(path, rewritten(path)).errors == ()


HIDDEN = {
    "data": (GCC, "c", 'extern long hx __attribute__((visibility("hidden")));'),
    "a function": (
        GCC,
        "c",
        'extern long hf(void) __attribute__((visibility("hidden")));\n#define hx hf()',
    ),
    "thread-local": (
        GCC,
        "c",
        'extern __thread long hx __attribute__((visibility("hidden")));',
    ),
    "protected": (GCC, "c", 'extern long hx __attribute__((visibility("protected")));'),
    "C++": (GXX, "c++", "struct S { S(); ~S(); long v; }; static S s;\n#define hx s.v"),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_undefined_symbols_of_hidden_visibility(tmp_path: Path, name: str) -> None:
    """GNU ld requires them to be defined, whatever --unresolved-symbols says."""
    compiler, language, declared = HIDDEN[name]
    extern = 'extern "C" ' if language == "c++" else "extern "
    source = f"{extern}long __SCT__x(long);\n{declared}\n"
    source += "long f(long x) { return __SCT__x(x) + hx; }\n"
    path = compile_c(tmp_path, source, "-O2", compiler=compiler, language=language)
    (verdict,) = verify_files(path, rewritten(path), tools=find_tools())
    assert verdict.result is Result.PROVEN
    assert verdict.runs
