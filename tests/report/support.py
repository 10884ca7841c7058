"""Objects for the reports to show, and what objdump says about them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jsonschema

from scpatch.differ.model import CodeRow, FunctionDiff, Mark, ObjectDiff
from scpatch.differ.objects import diff_objects
from scpatch.elf.encoding import ByteOrder
from scpatch.elf.reader import ElfFile
from scpatch.files.inputs import open_input, read_object
from scpatch.rewriter import FilePlan, Options, plan_file, write
from tests.tools import CROSS

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "fixtures"
PREFIX = CROSS


def plan(name: str, target: Path | None = None, *, thunks: bool = False) -> FilePlan:
    """The plan for a prebuilt object."""
    options = Options(
        no_nop="thunk" if thunks else "refuse",
        undefined="auto" if name.endswith(".ko") else "rewrite",
        lines="all",
    )
    return plan_file(FIXTURES / name, options, target)


def rewritten(name: str, folder: Path, *, thunks: bool = False) -> Path:
    """A rewritten copy of a prebuilt object, the sites that are refused left as they are."""
    target = folder / f"after-{Path(name).name}"
    write([plan(name, target, thunks=thunks)], allow_refused=True)
    return target


@contextmanager
def opened(path: Path) -> Iterator[ElfFile]:
    with open_input(path) as source:
        yield read_object(source.data, str(path))


def compare(before: Path, after: Path, context: int = 3) -> ObjectDiff:
    with opened(before) as old, opened(after) as new:
        return diff_objects(old, new, context)


def rows(function: FunctionDiff) -> list[CodeRow]:
    return [row for hunk in function.hunks() for row in hunk]


def marks(function: FunctionDiff) -> str:
    return "".join(str(row.mark) for row in rows(function))


def by_name(diff: ObjectDiff) -> dict[str, FunctionDiff]:
    return {function.range.name: function for function in diff.functions}


def changed_rows(diff: ObjectDiff) -> list[CodeRow]:
    quiet = (Mark.CONTEXT, Mark.CHECKED)
    return [row for function in diff.functions for row in rows(function) if row.mark not in quiet]


def run(*command: str | Path) -> str:
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@dataclass(frozen=True)
class Listed:
    """One line of objdump's disassembly."""

    word: int
    text: str
    relocations: tuple[tuple[str, str], ...]
    """(type without R_PPC64_, symbol with its addend)"""


def objdump(path: Path) -> dict[tuple[str, int], Listed]:
    """(section, section offset) -> what objdump prints there."""
    lines: dict[tuple[str, int], Listed] = {}
    order: ByteOrder = "big" if path.read_bytes()[5] == 2 else "little"
    section, last = "", ("", 0)
    for line in run(PREFIX + "objdump", "-drz", path).splitlines():
        if match := re.match(r"Disassembly of section (.*):$", line):
            section = match[1]
        elif match := re.match(r"\s*([0-9a-f]+):\t((?:[0-9a-f]{2} ){4})\s*\t(.*)", line):
            last = section, int(match[1], 16)
            word = int.from_bytes(bytes.fromhex(match[2]), order)
            lines[last] = Listed(word, re.sub(r"\s+", " ", match[3].partition("#")[0]).strip(), ())
        elif match := re.match(r"\s*[0-9a-f]+: R_PPC64_(\S+)\s*(.*)", line):
            old = lines[last]
            lines[last] = Listed(old.word, old.text, (*old.relocations, (match[1], match[2])))
    return lines


@cache
def schema() -> dict[str, object]:
    text = (ROOT / "scpatch" / "report" / "schema.json").read_text()
    loaded = json.loads(text)
    assert isinstance(loaded, dict)
    return loaded


def validated(text: str) -> dict[str, object]:
    """The JSON document in `text`, which has to follow the schema."""
    document = json.loads(text)
    jsonschema.Draft202012Validator(schema()).validate(document)
    assert isinstance(document, dict)
    return document
