"""Annotations of a GitHub workflow, read as the runner reads them."""

from __future__ import annotations

import io
import re
import urllib.parse
from collections.abc import Iterator, Sequence

from scpatch.errors import ScpatchError
from scpatch.report.blocks import Finding, Level
from scpatch.report.forms import github
from scpatch.report.look import DEFAULT_LOOK
from scpatch.report.scan import ScanReport
from tests.report.support import plan

COMMAND = re.compile(r"::(error|warning|notice) ([^:]*)::(.*)")


class Findings:
    failed: Sequence[ScpatchError] = ()

    def __init__(self, *findings: Finding) -> None:
        self._findings = findings

    def findings(self) -> Iterator[Finding]:
        return iter(self._findings)


def read(report: object) -> list[tuple[str, dict[str, str], str]]:
    """Level, properties and text of each line."""
    stream = io.StringIO()
    github.write(report, stream, DEFAULT_LOOK)  # type: ignore[arg-type]
    commands = []
    for line in stream.getvalue().splitlines():
        match = COMMAND.fullmatch(line)
        assert match is not None, line
        fields = dict(field.split("=", 1) for field in match[2].split(","))
        unquoted = {name: urllib.parse.unquote(value) for name, value in fields.items()}
        commands.append((match[1], unquoted, urllib.parse.unquote(match[3])))
    return commands


def test_each_site_that_loses_r2_is_annotated() -> None:
    scan = plan("refused.o").objects[0].scan
    commands = read(ScanReport([("refused.o", scan)]))
    assert [level for level, _, _ in commands] == ["warning", *["error"] * 7]
    titles = [fields["title"] for _, fields, _ in commands]
    assert titles == ["r2 is not saved", *(site.code for site in scan.sites if site.code)]
    assert all(fields["file"] == "refused.o" for _, fields, _ in commands)
    assert commands[1][2].startswith(
        "refused.o: .text+0x34 in sibling_call+0x8: sibling call (b) to __SCT__name\nhint: "
    )


def test_a_source_line_is_where_it_is_shown() -> None:
    finding = Finding(Level.ERROR, "SCP201", "a.o", ".text+0x0 in f", "src/a.c:12", "no nop")
    ((_, fields, text),) = read(Findings(finding))
    assert (fields["file"], fields["line"]) == ("src/a.c", "12")
    assert text == "a.o: .text+0x0 in f: no nop"


def test_nothing_in_a_name_ends_the_command() -> None:
    name = "a,b::c%0A\n::error::d"
    finding = Finding(Level.NOTE, "t:,", name, "", "", "100%\r\nx\x1b", "why")
    ((level, fields, text),) = read(Findings(finding))
    assert level == "notice"
    assert fields == {"file": name, "title": "t:,"}
    assert text == f"{name}: 100%\\x0d\nx\\x1b\nhint: why"
