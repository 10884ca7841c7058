"""Records as comma-separated values (RFC 4180), for spreadsheets and data frames.

Kinds of records have different numbers of fields, so there is no heading.
"""

from __future__ import annotations

import csv
from typing import TextIO

from scpatch.report.blocks import Report, every_record
from scpatch.report.screen import Look
from scpatch.report.words import clean


def write(report: Report, stream: TextIO, _look: Look) -> None:
    rows = csv.writer(stream, lineterminator="\n")
    rows.writerows([clean(str(field)) for field in record] for record in every_record(report))
