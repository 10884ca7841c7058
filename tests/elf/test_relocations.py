"""Relocations of many sections in one table, and those of a range of one."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from scpatch.elf.encoding import BIG, LITTLE
from scpatch.elf.relocations import LoadedRelocations, RelaTable

ROWS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 5)), max_size=12)


def content(rows: list[tuple[int, int]], order: int = 0) -> bytes:
    """SHT_RELA entries of (r_offset, symbol)."""
    encoding = (LITTLE, BIG)[order]
    return b"".join(encoding.pack_relocation(offset, symbol, 10, -4) for offset, symbol in rows)


@given(ROWS, st.integers(0, 60), st.integers(0, 60), st.integers(0, 1))
def test_between(rows: list[tuple[int, int]], start: int, end: int, order: int) -> None:
    table = RelaTable(7, memoryview(content(rows, order)), (LITTLE, BIG)[order])
    indices = table.between(start, end)
    assert sorted(indices) == [at for at, row in enumerate(rows) if start <= row[0] < end]
    assert all(rows[a][0] <= rows[b][0] for a, b in pairwise(indices))


@given(st.lists(ROWS, max_size=6), st.sets(st.integers(0, 5)))
def test_by_section(tables: list[list[tuple[int, int]]], symbols: set[int]) -> None:
    loaded = LoadedRelocations({10 + n: content(rows) for n, rows in enumerate(tables)}, LITTLE)
    found = {
        section: [(loaded.r_offset[at], loaded.symbol[at], at - first) for at in indices]
        for section, first, indices in loaded.by_section(loaded.naming(symbols))
    }
    wanted = {
        10 + number: [(*row, at) for at, row in enumerate(rows) if row[1] in symbols]
        for number, rows in enumerate(tables)
    }
    assert found == {section: rows for section, rows in wanted.items() if rows}
