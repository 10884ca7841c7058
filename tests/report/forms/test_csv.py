"""The records of `plain`, as a CSV reader reads them."""

from __future__ import annotations

import csv
import io

from scpatch.report.forms import csv as form
from scpatch.report.scan import ScanReport
from scpatch.report.screen import DEFAULT_LOOK
from tests.report.support import plan


def test_a_reader_gets_the_records() -> None:
    report = ScanReport([('odd,"name"\n.o', plan("refused.o").objects[0].scan)])
    stream = io.StringIO()
    form.write(report, stream, DEFAULT_LOOK)
    stream.seek(0)
    expected = [[str(field).replace("\n", "\\x0a") for field in row] for row in report.records()]
    assert list(csv.reader(stream)) == expected
    assert len(expected) == 9
