"""Records as comma-separated values (RFC 4180), for spreadsheets and data frames.

Kinds of records have different numbers of fields, so there is no heading.

Names come from the object, and a spreadsheet takes a field that begins with `=`, `+`, `-` or `@`
for a formula, which may run a program. An apostrophe before it makes it text.
"""

from __future__ import annotations

import csv
import re
from typing import TextIO

from scpatch.report.blocks import Report, every_record
from scpatch.report.look import Look
from scpatch.report.words import clean


def write(report: Report, stream: TextIO, _look: Look) -> None:
    rows = csv.writer(stream, lineterminator="\n")
    for record in every_record(report):
        rows.writerow([_text(clean(str(field))) for field in record])


_FORMULA = re.compile(r"[=@]|[+-](?!(0x)?[0-9a-f,.]*%?$)")


def _text(field: str) -> str:
    return f"'{field}" if _FORMULA.match(field) else field
