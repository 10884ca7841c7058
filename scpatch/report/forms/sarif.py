"""Findings as SARIF 2.1.0 (OASIS), which code scanning of GitHub and many viewers read.

The rules are all diagnostics, whether they occur or not, with their texts. A result is located by
its source line if that is known, else by the bytes of the object; a line 1 goes with those, because
GitHub does not take a location without a line ("SARIF support for code scanning").
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TextIO
from urllib.parse import quote

from scpatch import __version__
from scpatch.diagnostics import Diagnostic
from scpatch.report.blocks import Finding, Level, Report, every_finding
from scpatch.report.look import Look
from scpatch.report.rules import every_rule
from scpatch.report.words import clean, place, spot

_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS: Final = {Level.ERROR: "error", Level.WARNING: "warning", Level.NOTE: "note"}

_Json = dict[str, object]


def write(report: Report, stream: TextIO, _look: Look) -> None:
    findings = list(every_finding(report))
    rules = every_rule(findings)
    sections: dict[tuple[str, str], int] = {}
    seen: Counter[str] = Counter()
    results = [_result(finding, list(rules), sections, seen) for finding in findings]
    run: _Json = {
        "tool": {
            "driver": {
                "name": "scpatch",
                "semanticVersion": __version__,
                "rules": [_rule(name, rule) for name, rule in rules.items()],
            }
        },
        "columnKind": "unicodeCodePoints",
        "automationDetails": {"id": f"scpatch {report.command}/"},
        "invocations": [
            {
                "executionSuccessful": not report.failed,
                "workingDirectory": {"uri": f"{Path.cwd().as_uri()}/"},
            }
        ],
        "addresses": [
            {"kind": "section", "name": name, "fullyQualifiedName": f"{file}:{name}"}
            for file, name in sections
        ],
        "results": results,
    }
    json.dump({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, stream, indent=1)
    stream.write("\n")


def _rule(name: str, rule: Diagnostic) -> _Json:
    return {
        "id": _rule_id(name),
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.text},
        "help": {
            "text": f"{rule.text}\n\nWhat to do: {rule.hint}.",
            "markdown": f"{rule.text}\n\n**What to do:** {rule.hint}.",
        },
        "properties": {"precision": "very-high"},
    }


def _rule_id(title: str) -> str:
    return title.replace(" ", "-")


def _result(
    finding: Finding,
    titles: Sequence[str],
    sections: dict[tuple[str, str], int],
    seen: Counter[str],
) -> _Json:
    message = clean(": ".join(filter(None, (finding.file, finding.where, finding.message))))
    binary = _binary_location(finding, sections)
    source = _source_location(finding)
    result: _Json = {
        "ruleId": _rule_id(finding.title),
        "ruleIndex": titles.index(finding.title),
        "level": _LEVELS[finding.level],
        "message": {"text": message + (f"\nhint: {clean(finding.hint)}" if finding.hint else "")},
        "locations": [source or binary],
        "partialFingerprints": {"primaryLocationLineHash": _fingerprint(finding, seen)},
    }
    if source:
        result["relatedLocations"] = [{"id": 1, "message": {"text": "the object"}, **binary}]
    return result


def _fingerprint(finding: Finding, seen: Counter[str]) -> str:
    """A hash of what stays if other code of the object grows; the calls of one function that it
    does not tell apart are numbered."""
    function = finding.at.function if finding.at else finding.where
    parts = (finding.title, finding.file, function, finding.message)
    digest = hashlib.sha256("\0".join(map(clean, parts)).encode()).hexdigest()[:16]
    seen[digest] += 1
    return f"{digest}:{seen[digest]}"


def _source_location(finding: Finding) -> _Json | None:
    path, _, line = finding.line.rpartition(":")
    if not path or not line.isdecimal() or not int(line):
        return None
    physical = {"artifactLocation": {"uri": _uri(path)}, "region": {"startLine": int(line)}}
    return {"physicalLocation": physical, **_logical(finding)}


def _binary_location(finding: Finding, sections: dict[tuple[str, str], int]) -> _Json:
    path, member = _member(finding.file)
    region: _Json = {"startLine": 1}
    physical: _Json = {"artifactLocation": {"uri": _uri(path)}, "region": region}
    if finding.at is not None:
        section = clean(finding.file), clean(finding.at.section_name)
        physical["address"] = {
            "kind": "instruction",
            "name": clean(place(finding.at.section_name, finding.at.offset)),
            "offsetFromParent": finding.at.offset,
            "parentIndex": sections.setdefault(section, len(sections)),
        }
        if finding.at.file_offset >= 0 and not member:
            region |= {"byteOffset": finding.at.file_offset, "byteLength": 4}
    return {"physicalLocation": physical, **_logical(finding)}


def _member(name: str) -> tuple[str, str]:
    """`ARCHIVE(MEMBER)` -> its parts; the member of a file that is no archive is empty."""
    archive, parenthesis, member = name.partition("(")
    return (archive, member[:-1]) if parenthesis and name.endswith(")") else (name, "")


def _logical(finding: Finding) -> _Json:
    """The function and the offset in it."""
    if finding.at is None or not finding.at.function:
        return {}
    name = clean(spot(finding.at.function, finding.at.function_offset))
    function = {"name": clean(finding.at.function), "fullyQualifiedName": name, "kind": "function"}
    return {"logicalLocations": [function]}


def _uri(path: str) -> str:
    """An absolute path as a `file` URI, a relative one as a relative reference (RFC 3986)."""
    return ("file://" if path.startswith("/") else "") + quote(os.fsencode(path))
