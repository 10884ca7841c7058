"""The JSON schema: that it is shipped, and that it can reject."""

from __future__ import annotations

import json
from importlib import resources

import jsonschema
import pytest

from scpatch.report.documents import SCHEMA
from scpatch.report.forms import print_report
from scpatch.report.forms.plain import plain_line
from scpatch.report.scan import ScanReport
from scpatch.report.schema import FILE, text
from tests.report.support import plan, schema, validated


def test_the_schema_is_valid_and_ships_in_the_package() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    shipped = resources.files("scpatch.report") / "schema.json"
    assert json.loads(shipped.read_text()) == schema()


def test_every_object_of_the_schema_is_closed() -> None:
    """A field that the schema does not know must be an error, else documents drift from it."""

    def check(node: object) -> int:
        if isinstance(node, list):
            return sum(map(check, node))
        if not isinstance(node, dict):
            return 0
        closed = 0
        if "properties" in node:
            assert node["additionalProperties"] is False
            assert node["required"] == list(node["properties"])
            closed = 1
        return closed + sum(map(check, node.values()))

    assert check(schema()) > 15


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "scpatch/0"},
        {"command": "diff"},
        {"more": 1},
        {"files": [{"file": "x"}]},
        {"files": None},
    ],
)
def test_a_wrong_document_is_rejected(
    change: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    print_report(ScanReport([("x.o", plan("sites.o").objects[0].scan)]), "json")
    text = capsys.readouterr().out
    document = validated(text)
    assert document["schema"] == SCHEMA
    with pytest.raises(jsonschema.ValidationError):
        validated(json.dumps({**document, **change}))


def test_plain_lines_have_a_fixed_number_of_fields() -> None:
    assert plain_line(["a", "", 0, "b\tc\n"]) == "a\t-\t0\tb\\x09c\\x0a\n"


def test_the_schema_is_made_from_the_documents() -> None:
    """`python -m scpatch.report.schema` makes it anew."""
    assert FILE.read_text() == text()
