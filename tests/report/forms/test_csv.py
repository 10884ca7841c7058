"""The records of `plain`, as a CSV reader reads them."""

from __future__ import annotations

import csv
import io

from scpatch.report.forms import csv as form
from scpatch.report.look import DEFAULT_LOOK
from scpatch.report.scan import ScanReport
from tests.report.support import plan


def test_a_reader_gets_the_records() -> None:
    report = ScanReport([('odd,"name"\n.o', plan("refused.o").objects[0].scan)])
    stream = io.StringIO()
    form.write(report, stream, DEFAULT_LOOK)
    stream.seek(0)
    expected = [[str(field).replace("\n", "\\x0a") for field in row] for row in report.records()]
    assert list(csv.reader(stream)) == expected
    assert len(expected) == 9


def test_no_name_is_a_formula() -> None:
    """A spreadsheet runs `=cmd|'/c calc'!A1`; numbers stay numbers."""
    for name, want in (
        ("=cmd|'/c calc'!A1", "'=cmd|'/c calc'!A1"),
        ("-o.o", "'-o.o"),
        ("+1+cmd", "'+1+cmd"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("a=b.o", "a=b.o"),
    ):
        stream = io.StringIO()
        form.write(ScanReport([(name, plan("refused.o").objects[0].scan)]), stream, DEFAULT_LOOK)
        rows = list(csv.reader(io.StringIO(stream.getvalue())))
        assert {row[1] for row in rows} == {want}
