"""What an object defines for others, and which functions of an image preserve r2."""

from __future__ import annotations

from pathlib import Path

import pytest

from scpatch.files.inputs import open_input, read_object
from scpatch.sites.choices import DEFAULT_TRAMPOLINES
from scpatch.sites.definitions import Definitions, definitions, image_functions, undefined
from tests.tools import assemble

FORMS = {
    "a function": ("FUNC f\n blr\n END f\n", "functions"),
    "with two entry points": ("TOC f\n blr\n END f\n", "functions"),
    "hidden": ("FUNC f\n blr\n END f\n .hidden f\n", "functions"),
    "local": (".type f, @function\nf: blr\n .size f, 4\n", "neither"),
    "weak": (".weak f\n.type f, @function\nf: blr\n .size f, 4\n", "neither"),
    "undefined": (" bl f\n nop\n", "neither"),
    "weak, not preserving r2": (
        ".weak f\n.type f, @function\nf: blr\n .size f, 4\n .localentry f, 1\n",
        "others",
    ),
    "not preserving r2": ("FUNC f\n .localentry f, 1\n blr\n END f\n", "others"),
    "of no type": (".globl f\nf: blr\n", "others"),
    "indirect": (".globl f\n.type f, @gnu_indirect_function\nf: blr\n", "others"),
    "in a group": ('.section .text.f, "axG", @progbits, f, comdat\n FUNC f\n blr\n', "others"),
    "absolute": (".globl f\n.type f, @function\nf = 64\n", "others"),
    "data": (".globl f\n.type f, @object\n.data\nf: .quad 0\n", "others"),
    "common": (".comm f, 8, 8\n", "others"),
    "another name of a trampoline": ("FUNC __SCT__x\nFUNC f\n blr\n", "others"),
}


def _found(folder: Path, source: str) -> Definitions:
    with open_input(assemble(folder, source)) as file:
        return definitions(read_object(file.data, "x.o"), DEFAULT_TRAMPOLINES)


@pytest.mark.parametrize(("source", "kind"), FORMS.values(), ids=FORMS)
def test_a_definition(tmp_path: Path, source: str, kind: str) -> None:
    found = _found(tmp_path, source)
    assert {name for name in found._fields if "f" in getattr(found, name)} == {kind} - {"neither"}


def test_a_trampoline_is_no_function_that_preserves_r2(tmp_path: Path) -> None:
    found = _found(tmp_path, "FUNC __SCT__x\n blr\n END __SCT__x\n")
    assert found == Definitions(frozenset(), frozenset({"__SCT__x"}))


def test_what_an_object_takes_from_others(tmp_path: Path) -> None:
    path = assemble(tmp_path, "FUNC f\n bl a\n nop\n blr\n .weak b\n .data\n .quad b, f\n")
    with open_input(path) as file:
        assert undefined(read_object(file.data, "x.o")) == {"a", "b"}


STRONG, WEAK, OTHER = (
    Definitions(frozenset(functions), frozenset(others))
    for functions, others in (({"f"}, ()), ((), ()), ((), {"f"}))
)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([STRONG], {"f"}),
        ([WEAK], set()),
        ([OTHER], set()),
        ([WEAK, STRONG], {"f"}),
        ([STRONG, STRONG], {"f"}),
        ([STRONG, OTHER], set()),
        ([], set()),
    ],
)
def test_every_definition_of_a_name_must_preserve_r2(
    parts: list[Definitions], expected: set[str]
) -> None:
    assert image_functions(parts) == image_functions(reversed(parts)) == expected
