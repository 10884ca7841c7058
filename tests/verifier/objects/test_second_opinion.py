"""Another library confirms what the proof reads, and disagrees when either is wrong."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scpatch.verifier.objects.read import Image, read
from scpatch.verifier.objects.second_opinion import disagreements
from tests import tools
from tests.elfwriter import Elf, Symbol, build
from tests.tools import FIXTURES

OBJECTS = ("sites.o", "calls-clang.o", "calls-gcc-dwarf.o", "calls-pcrel.o", "module.ko")


@pytest.fixture(params=["LIEF", "pyelftools"], autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The library that is asked."""
    if request.param == "LIEF":
        tools.library("lief")
    else:
        monkeypatch.setitem(sys.modules, "lief", None)
    return str(request.param)


@pytest.mark.parametrize("name", OBJECTS)
def test_real_objects_are_read_alike(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert disagreements(read(FIXTURES / name)) == ()
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def image() -> Image:
    return read(FIXTURES / "sites.o")


SECTION_FIELDS = ("name", "offset", "size", "link", "info", "align", "entry_size")
SYMBOL_FIELDS = ("name", "value", "size", "info", "other", "section")


@pytest.mark.parametrize("field", SECTION_FIELDS)
def test_a_section_read_otherwise_is_told(image: Image, field: str, library: str) -> None:
    section = image.sections[2]
    changed = section._replace(**{field: other(getattr(section, field))})
    wrong = replace(image, sections=(*image.sections[:2], changed, *image.sections[3:]))
    (text,) = disagreements(wrong)
    assert text.startswith(f"{library} reads sites.o otherwise: section 2 is")


@pytest.mark.parametrize("field", SYMBOL_FIELDS)
def test_a_symbol_read_otherwise_is_told(image: Image, field: str) -> None:
    number = next(s.number for s in image.symbols if s.name == "nop_ori")
    symbol = image.symbols[number]
    changed = symbol._replace(**{field: other(getattr(symbol, field))})
    symbols = (*image.symbols[:number], changed, *image.symbols[number + 1 :])
    (text,) = disagreements(replace(image, symbols=symbols))
    assert f"symbol {number} " in text


def other(value: int | str) -> Any:
    return value + "x" if isinstance(value, str) else value + 1


def test_missing_sections_and_symbols_are_told(image: Image) -> None:
    assert disagreements(replace(image, sections=image.sections[:-1]))
    assert disagreements(replace(image, symbols=image.symbols[:-1]))


def test_few_of_many_differences_are_shown(image: Image) -> None:
    moved = tuple(s._replace(value=s.value + 4) for s in image.symbols)
    assert len(disagreements(replace(image, symbols=moved))) == 5


def test_a_file_that_it_cannot_read(image: Image, tmp_path: Path, library: str) -> None:
    path = tmp_path / "text.o"
    path.write_text("no object")
    assert disagreements(replace(image, path=path)) == (f"{library} cannot read text.o",)


def test_every_st_other_and_odd_names_are_read_alike(tmp_path: Path) -> None:
    symbols = [Symbol(name=f"caf\udce9{other}", other=other) for other in range(256)]
    path = tmp_path / "x.o"
    path.write_bytes(build(Elf(symbols=symbols)))
    image = read(path)
    assert {symbol.other for symbol in image.symbols} == set(range(256))
    assert disagreements(image) == ()


STOPPED = """
import os, signal, sys
from pathlib import Path
from scpatch.verifier.objects.read import read
from scpatch.verifier.objects.second_opinion import disagreements
def stop(number, _):
    print("stopped", "lief" in sys.modules, flush=True)
    raise SystemExit(7)
number = signal.{signal}
signal.signal(number, stop)
image, calls = read(Path(sys.argv[1])), []
def count(*_):
    if "lief._lief" in sys.modules or calls:
        calls.append(0)
    if len(calls) in (100, 200):
        os.kill(os.getpid(), number)
sys.setprofile(count)
disagreements(image)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_waits_for_the_import_of_lief(name: str, library: str) -> None:
    """It would end the process by SIGABRT. Twice is once: it is the same signal."""
    if library == "LIEF":
        script = STOPPED.format(signal=name)
        done = tools.run(sys.executable, "-c", script, FIXTURES / "sites.o", check=False)
        assert (done.returncode, done.stdout, done.stderr) == (7, "stopped True\n", "")
