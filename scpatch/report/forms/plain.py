"""Records as lines of tab-separated fields, for grep, cut and awk; `-` is an empty field."""

from __future__ import annotations

from typing import TextIO

from scpatch.report.blocks import Record, Report, every_record
from scpatch.report.look import Look
from scpatch.report.words import clean


def write(report: Report, stream: TextIO, _look: Look) -> None:
    for record in every_record(report):
        stream.write(plain_line(record))


def plain_line(record: Record) -> str:
    return "\t".join(clean(str(field)) or "-" for field in record) + "\n"
