"""Numbers of files are read in the files' byte order, never in that of the machine.

Run by hand on a big-endian machine, the tests say more: see docs/reference/hosts.md.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

import pytest

from tests.tools import ROOT

PACKAGE: Final = ROOT / "scpatch"
ORDERED: Final = {"elf/encoding.py", "verifier/objects/variant.py"}
"""The modules that know the machine's byte order, and turn numbers if the file has another."""
BYTES_OF_WORDS: Final = "verifier/objects/instructions.py"
"""Takes the first bytes of an array of numbers."""
NATIVE: Final = re.compile(r"[@=]?[\dxcbBhHiIlLqQnNefdspP? ]+")
"""A format of `struct` without a byte order."""
STRUCT: Final = ("Struct", "pack", "unpack", "pack_into", "unpack_from", "iter_unpack")


def native(source: str) -> Iterator[str]:
    """What a module does in the byte order of the machine."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.byteorder":
            yield "sys.byteorder"
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            first = node.args[0] if node.args else None
            form = first.value if isinstance(first, ast.Constant) else None
            is_cast = name == "cast" and isinstance(node.func, ast.Attribute)
            if is_cast or (name in STRUCT and isinstance(form, str) and NATIVE.fullmatch(form)):
                yield ast.unparse(node)


def test_no_module_reads_in_the_order_of_the_machine() -> None:
    found = {
        (str(path.relative_to(PACKAGE)), what)
        for path in PACKAGE.rglob("*.py")
        for what in native(path.read_text())
    }
    casts = [what for _, what in found if "cast" in what]
    assert casts == ["data.cast(code)"]
    assert {name for name, _ in found} == {*ORDERED, BYTES_OF_WORDS}


@pytest.mark.parametrize(
    "line",
    ["view.cast('I')", "struct.unpack('Q', data)", "Struct('HHI')", "sys.byteorder == 'little'"],
)
def test_what_is_found(line: str) -> None:
    assert list(native(line))
    assert not list(native("struct.unpack('>Q', data), typing and encoding.column(data, 'Q')"))
