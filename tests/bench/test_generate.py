"""Holds the generated objects against GNU as, readelf, addr2line, the linkers and objcopys."""

import hashlib
import io
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.bench.code import INSNS
from tests.bench.generate import main, make_elf, shape_for
from tests.elfwriter import build, write
from tests.tools import CROSS

TOOL = CROSS
OBJECTS = {
    "small": ["--size", "6K"],
    "medium": ["--size", "3M"],
    "code": ["--size", "2M", "--code-relocations", "20000"],
    "sections": ["--size", "20M", "--sections", "65300"],
}


@pytest.fixture(scope="module", params=OBJECTS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("bench") / f"{request.param}.o"
    main([*OBJECTS[request.param], str(path)])
    return path


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[:1000]
    return done.stdout


@pytest.fixture(scope="module")
def dump(made: Path) -> str:
    """All that readelf has to say; made once, as it takes long with 65,000 sections."""
    return run("readelf", "-aW", made)


def test_the_words_are_what_gnu_as_makes_of_the_text(tmp_path: Path) -> None:
    source, out = tmp_path / "insns.s", tmp_path / "insns.o"
    source.write_text("".join(re.sub(r"\br(\d)", r"\1", insn) + "\n" for insn in INSNS))
    run(TOOL + "as", source, "-o", out)
    listing = run(TOOL + "objdump", "-d", "--no-addresses", out)
    raw = re.findall(r"^\s+((?:[0-9a-f]{2} ){4})", listing, re.MULTILINE)
    words = [int.from_bytes(bytes.fromhex(word), "little") for word in raw]
    assert words == list(INSNS.values())


def test_binutils_and_llvm_take_it_without_a_warning(made: Path, dump: str, tmp_path: Path) -> None:
    assert "Warning" not in dump
    assert "<corrupt" not in dump
    for number, command in enumerate(
        [
            (TOOL + "objcopy", made),
            ("llvm-objcopy", made),
            (TOOL + "ld", "-r", made, "-o"),
            ("ld.lld", "-r", made, "-o"),
        ]
    ):
        assert run(*command, tmp_path / f"{number}.o") == ""


def test_sites_lie_in_several_sections_and_call_many_trampolines(made: Path, dump: str) -> None:
    sites: Counter[str] = Counter()
    called: set[str] = set()
    section = ""
    for line in dump.splitlines():
        if match := re.match(r"Relocation section '\.rela(\S+)'", line):
            section = match[1]
        elif match := re.search(r"R_PPC64_REL24 .* (__SCT__\S+) \+ 0$", line):
            sites[section] += 1
            called.add(match[1])
    if made.stem == "small":
        assert sites == {".text": 1}
    else:
        assert {".text", ".init.text", ".sched.text"} < sites.keys()
        assert len(called) > 10


def test_the_line_table_says_what_the_units_declare(made: Path, dump: str) -> None:
    """In each unit the n-th function is declared on line 10 n + 1, and starts on it."""
    functions = {}
    for line in dump.splitlines():
        if match := re.search(r": ([0-9a-f]{16}) .* 1 (fn\d{6}_(\d\d))$", line):
            functions[int(match[1], 16)] = (match[2], int(match[3]))
    chosen = sorted(functions)[:: max(1, len(functions) // 20)]
    addresses = [hex(address) for address in chosen]
    text = run(TOOL + "addr2line", "-f", "-j", ".text", "-e", made, *addresses).splitlines()
    lines = [int(line.split(":")[1]) for line in text[1::2]]
    assert text[0::2] == [functions[address][0] for address in chosen]
    assert lines == [10 * functions[address][1] + 1 for address in chosen]


def test_the_size_and_the_number_of_relocations_are_as_asked() -> None:
    for size in (3_000_000, 20_000_000):
        out = io.BytesIO()
        write(make_elf(shape_for(size)), out)
        assert abs(len(out.getvalue()) / size - 1) < 0.2
    few, many = (shape_for(20_000_000, code_relocations=n) for n in (5_000, 50_000))
    assert few.units * 8 < many.units < few.units * 12
    assert abs(len(build(make_elf(few))) / len(build(make_elf(many))) - 1) < 0.05


def test_the_same_arguments_give_the_same_bytes() -> None:
    elf = make_elf(shape_for(1_000_000), seed=7)
    first, second = build(elf), build(make_elf(shape_for(1_000_000), seed=7))
    assert first == second
    assert first != build(make_elf(shape_for(1_000_000), seed=8))
    assert hashlib.sha256(build(make_elf(shape_for(6_000)))).hexdigest() == SMALL


# Of the 6 KB object: a change of the generator changes the file that old figures are about.
SMALL = "176d204838d5f72b98fd1a2439d83d4170dc6f34c14f99d32bcc04fe4ff57315"
