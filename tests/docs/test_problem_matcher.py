"""docs/how-to/problem-matcher.json finds the messages that scpatch prints."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from scpatch.report.messages import print_refusals
from scpatch.rewriter import Options, plan_file
from tests.test_cli import scpatch
from tests.tools import FIXTURES, ROOT

MATCHERS = json.loads((ROOT / "docs/how-to/problem-matcher.json").read_text())["problemMatcher"]


def matched(line: str) -> list[dict[str, str]]:
    """The fields that each matcher finds in a line."""
    fields = []
    for matcher in MATCHERS:
        (pattern,) = matcher["pattern"]
        if (match := re.match(pattern["regexp"], line)) is not None:
            names = (name for name in pattern if name != "regexp")
            fields.append({"owner": matcher["owner"]} | {n: match[pattern[n]] for n in names})
    return fields


def test_a_refused_call_is_found_once() -> None:
    first, hint, *_ = scpatch("rewrite", "-n", FIXTURES / "refused.o").stderr.splitlines()
    (fields,) = matched(first)
    assert fields == {
        "owner": "scpatch",
        "severity": "error",
        "file": str(FIXTURES / "refused.o"),
        "message": ".text+0x64 in no_nop+0x14: no nop after the call",
        "code": "SCP201",
    }
    assert matched(hint) == []


def test_a_source_line_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    plan = plan_file(FIXTURES / "refused.o", Options())
    entry = plan.objects[0]
    sites = tuple(site._replace(line="net/core.c:12") for site in entry.plan.sites)
    lined = entry._replace(plan=entry.plan._replace(sites=sites))
    print_refusals([plan._replace(objects=(lined,))])
    (fields,) = matched(capsys.readouterr().err.splitlines()[0])
    assert (fields["file"], fields["line"]) == ("net/core.c", "12")
    assert fields["message"] == "no nop after the call"


def test_an_error_without_a_place_is_found(tmp_path: Path) -> None:
    first = scpatch("scan", tmp_path / "none.o").stderr.splitlines()[0]
    (fields,) = matched(first)
    assert fields["file"] == f"{tmp_path}/none.o"
    assert fields["message"] == "cannot read: No such file or directory"
