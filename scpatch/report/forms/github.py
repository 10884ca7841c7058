"""Findings as annotations of a GitHub workflow: one `::error` or `::warning` a line.

A finding whose source line is known is shown beside that line. See "Workflow commands for GitHub
Actions" for the format.
"""

from __future__ import annotations

from typing import TextIO

from scpatch.report.blocks import Finding, Report, every_finding
from scpatch.report.look import Look
from scpatch.report.words import clean


def write(report: Report, stream: TextIO, _look: Look) -> None:
    for finding in every_finding(report):
        stream.write(_command(finding) + "\n")


def _command(finding: Finding) -> str:
    source, _, line = finding.line.rpartition(":")
    properties = {"file": source or finding.file, "line": line, "title": finding.title}
    listed = ",".join(
        f"{name}={_escaped(value, ':,')}" for name, value in properties.items() if value
    )
    place = ": ".join(filter(None, (finding.file, finding.where)))
    text = f"{place}: {finding.message}" + (f"\nhint: {finding.hint}" if finding.hint else "")
    return f"::{finding.level} {listed}::{_escaped(text)}"


def _escaped(text: str, more: str = "") -> str:
    """Percent-encodes what would end the text or one of its properties."""
    lines = "\n".join(map(clean, text.split("\n")))
    for character in "%\r\n" + more:
        lines = lines.replace(character, f"%{ord(character):02X}")
    return lines
