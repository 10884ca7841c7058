"""Fields at their bounds: a fixed share of all runs, the same in each test run.

`python -m tests.fuzz.every_field` makes all of them.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz import seeds
from tests.fuzz.every_field import cases, run
from tests.fuzz.exercise import NUMBERS
from tests.fuzz.fields import any_place, is_archive, places
from tests.fuzz.mutate import value_of
from tests.tools import in_both

SHARE = 199
"""Not a multiple of any factor of NUMBERS, so that each field comes to another mode."""


def test_a_share_of_all_fields(tmp_path: Path) -> None:
    result = run(tmp_path, SHARE, 7)
    assert not result.faults, [f"{kind}: {result.examples[kind]}" for kind in result.faults]
    assert result.runs == (result.cases * NUMBERS - 7 + SHARE - 1) // SHARE
    # Neither all refused nor all let through.
    for outcome, least in {"SCP107": 500, "nothing": 500, "rewritten and proven": 500}.items():
        assert result.outcomes[outcome] > least, outcome


@pytest.mark.parametrize("name", in_both("sites.o"))
def test_all_tables_have_their_fields(tmp_path: Path, name: str) -> None:
    data = seeds.objects()[name]
    names = {field.name.rpartition(" ")[2] for field in places(data)}
    assert {"e_shoff", "sh_link", "st_other", "r_addend"} <= names
    flags = [data[f.offset : f.offset + f.size] for f in places(data) if f.name == "e_flags"]
    assert flags == [bytes((2, 0, 0, 0) if name == "sites.o" else (0, 0, 0, 2))]
    types = {value_of(data, *field[1:]) for field in places(data) if field.name.endswith("r_type")}
    assert 10 in types
    assert max(types) < 256
    inside = {case.name.rpartition(":")[0] for case in cases("x", data)}
    assert len(inside) > 500
    archives = seeds.archives(tmp_path)
    assert all(is_archive(archive) for archive in archives.values())
    for archive in (*archives.values(), *seeds.objects().values()):
        source = random.Random(1)
        fields = [any_place(archive, source) for _ in range(100)]
        assert all(f is not None and f.offset + f.size <= len(archive) for f in fields)
