"""What is read of the log of a boot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.kernel.boot import Case, Log, read_log
from tests.kernel.cases import cases, corrupts

LOG = """\
[    1.000000] scpatch-test: plain/KKM-1 FAIL r2 1 -> 2 value 3 wanted 3
[    1.100000] KTAP version 1
[    1.100000] 1..1
[    1.100000]     KTAP version 1
[    1.100000]     # Subtest: ppc64-static-call
[    1.100000]     1..5
[    1.100000]     ok 1 toc_test # SKIP pc-relative code has no TOC
[    1.100000]     ok 2 null_test
[    1.100000]     ok 3 - ret0_test
[    1.100000]     not ok 4 ten_arguments_test
[    1.100000]         KTAP version 1
[    1.100000]         # Subtest: combination_test
[    1.100000]         ok 1 KKK
[    1.100000]         not ok 2 KKM
[    1.100000]         ok 3 KMK
[    1.100000]         ok 4 KMM
[    1.100000]         ok 5 MKK
[    1.100000]         ok 6 MKM
[    1.100000]         not ok 7 MMK
[    1.100000]         ok 8 MMM
[    1.100000]     # combination_test: pass:6 fail:2 skip:0 total:8
[    1.100000]     not ok 5 combination_test
[    1.100000] not ok 1 ppc64-static-call
"""


def test_it_reads_the_cases_and_those_of_kunit(tmp_path: Path) -> None:
    """Linux 6.1 prints a dash before the name."""
    (tmp_path / "log").write_text(LOG)
    log = read_log(tmp_path / "log")
    assert set(log.cases) == {"plain/KKM-1", *cases("kunit")}
    failed = {name for name, case in log.cases.items() if not case.ok}
    assert failed == {"plain/KKM-1", *filter(corrupts, cases("kunit"))}
    assert log.cases["kunit/toc_test"] == Case(True, "SKIP pc-relative code has no TOC")


RIGHT = Log((), {"plain/KKK-1": Case(True, "")}, (), oops=False, finished=True)


@pytest.mark.parametrize(
    ("log", "wanted", "fault"),
    [
        (RIGHT, ["plain/KKK-1"], []),
        (replace(RIGHT, cases={"a": Case(False, "r2 1 -> 2")}), ["a"], ["a: r2 1 -> 2"]),
        (RIGHT, ["plain/KKK-1", "b"], ["b: not reported"]),
        (RIGHT, [], ["plain/KKK-1: not asked for"]),
        (replace(RIGHT, errors=("no such module",)), ["plain/KKK-1"], ["no such module"]),
        (replace(RIGHT, oops=True), ["plain/KKK-1"], ["an oops"]),
        (replace(RIGHT, finished=False), ["plain/KKK-1"], ["it did not come to its end"]),
    ],
)
def test_faults(log: Log, wanted: list[str], fault: list[str]) -> None:
    assert log.faults(set(wanted)) == fault
