"""Files that cannot be read are in the report of each command, in each form for programs."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from tests.report.support import FIXTURES
from tests.test_trees import scpatch

COMMANDS = ("scan", "rewrite", "diff", "verify", "check", "advise")


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    text = tmp_path / "text.o"
    text.write_text("int main;\n")
    return str(text), str(tmp_path / "missing.o")


@pytest.fixture(params=COMMANDS)
def command(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


def failed(command: str, files: tuple[str, str]) -> dict[str, str]:
    """What is to be said of them. A comparison ends at the first that it cannot read."""
    codes = dict(zip(files, ("SCP101", "SCP109"), strict=True))
    compared = {"verify": files[0], "diff": files[1]}.get(command)
    return codes if compared is None else {compared: codes[compared]}


def run(command: str, files: tuple[str, str], form: str) -> str:
    result = scpatch(command, *files, "--format", form)
    assert result.returncode == (1 if command == "rewrite" else 2), result.stderr
    return result.stdout


def test_json(command: str, files: tuple[str, str]) -> None:
    document = json.loads(run(command, files, "json"))
    assert {file["file"]: file["code"] for file in document["failed"]} == failed(command, files)
    assert document["files"] == []
    assert not document.get("proven")
    assert document.get("verdict", "not shown") == "not shown"


@pytest.mark.parametrize("form", ["plain", "csv"])
def test_records(command: str, files: tuple[str, str], form: str) -> None:
    text = run(command, files, form)
    delimiter = "\t" if form == "plain" else ","
    rows = csv.reader(io.StringIO(text), delimiter=delimiter)
    assert {row[1]: row[3] for row in rows if row[0] == "failed"} == failed(command, files)


def test_annotations(command: str, files: tuple[str, str]) -> None:
    lines = run(command, files, "github").splitlines()
    expected = [
        f"::error file={file},title={code}" for file, code in failed(command, files).items()
    ]
    assert [line.split("::")[1] for line in lines] == [word[2:] for word in expected]


def test_sarif(command: str, files: tuple[str, str]) -> None:
    (job,) = json.loads(run(command, files, "sarif"))["runs"]
    assert [result["ruleId"] for result in job["results"]] == list(failed(command, files).values())
    assert job["invocations"][0]["executionSuccessful"] is False


def test_html(command: str, files: tuple[str, str]) -> None:
    page = run(command, files, "html")
    for file in failed(command, files):
        assert file in page


@pytest.mark.parametrize("name", ["scan", "check", "advise", "diff", "verify"])
def test_the_total_says_how_many(name: str, tmp_path: Path) -> None:
    """In a long report, the messages about them are out of sight."""
    for folder in (old := tmp_path / "old", new := tmp_path / "new"):
        folder.mkdir()
        (folder / "good.o").write_bytes((FIXTURES / "unmarked.o").read_bytes())
        (folder / "bad.o").write_text("int main;\n")
    (new / "bad.o").write_text("int more;\n")
    folders = [old, new] if name in ("diff", "verify") else [old]
    options = ["--no-run"] if name == "verify" else []
    result = scpatch(name, *options, *folders)
    assert result.stdout.splitlines()[0].endswith("; 1 file cannot be read")
    assert result.returncode == 2
