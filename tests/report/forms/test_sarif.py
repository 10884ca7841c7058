"""SARIF: valid by the published schema, and what code scanning asks for beyond that."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jsonschema
import pytest

from scpatch.errors import ScpatchError
from scpatch.report.blocks import CodePlace, Finding, Level
from scpatch.report.forms import sarif
from scpatch.report.look import DEFAULT_LOOK
from scpatch.report.scan import ScanReport
from tests.report.support import FIXTURES, PREFIX, plan

SCHEMA = json.loads((Path(__file__).parent / "data" / "sarif-2.1.0.json").read_text())


class Findings:
    command = "scan"

    failed: Sequence[ScpatchError] = ()

    def __init__(self, *findings: Finding) -> None:
        self._findings = findings

    def findings(self) -> Iterator[Finding]:
        return iter(self._findings)


def valid(text: str) -> dict[str, Any]:
    """The one run of the log in `text`, which has to follow the schema."""
    assert text.isascii()
    log = json.loads(text)
    checker = jsonschema.FormatChecker()
    jsonschema.Draft202012Validator(SCHEMA, format_checker=checker).validate(log)
    (run,) = log["runs"]
    assert isinstance(run, dict)
    return run


def written(report: object) -> dict[str, Any]:
    stream = io.StringIO()
    sarif.write(report, stream, DEFAULT_LOOK)  # type: ignore[arg-type]
    return valid(stream.getvalue())


def finding(**changes: Any) -> Finding:
    at = CodePlace(".text", 0x20, "f", 0x10, 0x60)
    whole = Finding(Level.ERROR, "SCP201", "a.o", ".text+0x20 in f+0x10", "", "no nop", "why", at)
    return whole._replace(**changes)


def test_the_schema_rejects() -> None:
    run = written(Findings(finding()))
    log = {"version": "2.1.0", "runs": [run]}
    jsonschema.Draft202012Validator(SCHEMA).validate(log)
    run["results"][0]["level"] = "notice"
    with pytest.raises(jsonschema.ValidationError, match="notice"):
        jsonschema.Draft202012Validator(SCHEMA).validate(log)


def test_each_site_that_loses_r2_is_a_result() -> None:
    scan = plan("refused.o").objects[0].scan
    run = written(ScanReport([("refused.o", scan)]))
    rules = run["tool"]["driver"]["rules"]
    assert [rules[r["ruleIndex"]]["id"] for r in run["results"]] == [
        r["ruleId"] for r in run["results"]
    ]
    codes = [site.code for site in scan.sites if site.code]
    assert [r["ruleId"] for r in run["results"]] == ["r2-is-not-saved", *codes]
    assert [r["level"] for r in run["results"]] == ["warning", *["error"] * 7]


def test_a_byte_offset_is_where_the_branch_is_in_the_file() -> None:
    """Held against readelf's offset of the section."""
    lines = subprocess.run(
        [f"{PREFIX}readelf", "-SW", FIXTURES / "refused.o"], capture_output=True, text=True
    ).stdout.splitlines()
    offsets = {}
    for line in lines:
        fields = line.partition("]")[2].split()
        if len(fields) > 4 and fields[1] == "PROGBITS":
            offsets[fields[0]] = int(fields[3], 16)
    scan = plan("refused.o").objects[0].scan
    run = written(ScanReport([("refused.o", scan)]))
    physical = [r["locations"][0]["physicalLocation"] for r in run["results"]]
    sites = [site for site in scan.sites if site.code or site.state.changes]
    assert [p["region"]["byteOffset"] for p in physical] == [
        offsets[site.section_name] + site.offset for site in sites
    ]
    data = (FIXTURES / "refused.o").read_bytes()
    for place, site in zip(physical, sites, strict=True):
        start = place["region"]["byteOffset"]
        assert int.from_bytes(data[start : start + 4], "little") == site.word
        section = run["addresses"][place["address"]["parentIndex"]]
        assert (section["name"], place["address"]["offsetFromParent"]) == (
            *(site.section_name, site.offset),
        )


def test_the_function_is_the_logical_location() -> None:
    location = written(Findings(finding()))["results"][0]["locations"][0]
    assert location["logicalLocations"] == [
        {"name": "f", "fullyQualifiedName": "f+0x10", "kind": "function"}
    ]


def test_a_source_line_comes_before_the_object() -> None:
    (result,) = written(Findings(finding(line="net/a b.c:12")))["results"]
    source = result["locations"][0]["physicalLocation"]
    assert source == {"artifactLocation": {"uri": "net/a%20b.c"}, "region": {"startLine": 12}}
    assert result["relatedLocations"][0]["physicalLocation"]["region"]["byteOffset"] == 0x60


@pytest.mark.parametrize("line", ["", "a.c", "a.c:0", "a.c:x", ":3"])
def test_what_is_no_source_line_is_the_object(line: str) -> None:
    (result,) = written(Findings(finding(line=line)))["results"]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "a.o"


def test_a_member_is_in_its_archive_and_has_no_offset_in_that() -> None:
    (result,) = written(Findings(finding(file="lib.a(m.o)")))["results"]
    physical = result["locations"][0]["physicalLocation"]
    assert physical["artifactLocation"]["uri"] == "lib.a"
    assert physical["region"] == {"startLine": 1}
    assert result["message"]["text"].startswith("lib.a(m.o): ")


@pytest.mark.parametrize("name", ["/a/x.o", "a#?%.o", "ä\udcff.o", "x\n\x1b\u202e.o", "a:b.o"])
def test_any_name_is_a_uri(name: str) -> None:
    (result,) = written(Findings(finding(file=name)))["results"]
    uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert uri.isascii()
    path = uri.removeprefix("file://")
    assert unquote(path, errors="surrogateescape") == name


def test_what_code_scanning_requires() -> None:
    """The required properties of "SARIF support for code scanning", and its limits."""
    run = written(Findings(finding(), finding(title="something new", at=None)))
    for rule in run["tool"]["driver"]["rules"]:
        assert rule["id"]
        for field in ("shortDescription", "fullDescription"):
            assert 0 < len(rule[field]["text"]) <= 1024, rule["id"]
        assert rule["help"]["text"]
    for result in run["results"]:
        assert result["message"]["text"]
        physical = result["locations"][0]["physicalLocation"]
        assert physical["artifactLocation"]["uri"]
        assert physical["region"]["startLine"] >= 1
        assert result["partialFingerprints"]["primaryLocationLineHash"]


def test_a_fingerprint_is_of_one_call_and_stays_if_code_moves() -> None:
    def prints(*findings: Finding) -> list[str]:
        results = written(Findings(*findings))["results"]
        return [result["partialFingerprints"]["primaryLocationLineHash"] for result in results]

    moved = finding(where=".text+0x40 in f+0x10", at=CodePlace(".text", 0x40, "f", 0x10, 0x80))
    assert prints(finding()) == prints(moved)
    same = prints(finding(), moved)
    assert len(set(same)) == 2
    assert len({text.partition(":")[0] for text in same}) == 1
    other = finding(at=CodePlace(".text", 0x20, "g", 0, 0x60))
    assert prints(finding()) != prints(other)


def test_two_runs_have_the_same_rules() -> None:
    first, second = (
        written(Findings(*findings))["tool"]["driver"]["rules"] for findings in ([], [finding()])
    )
    assert first == second
