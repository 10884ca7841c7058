"""Makes schema.json, the JSON Schema of the documents: `python -m scpatch.report.schema`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import msgspec

from scpatch.report.documents.advise import AdviseDocument
from scpatch.report.documents.check import CheckDocument
from scpatch.report.documents.diff import DiffDocument
from scpatch.report.documents.rewrite import RewriteDocument
from scpatch.report.documents.scan import ScanDocument
from scpatch.report.documents.verify import VerifyDocument
from scpatch.strategies import every_action
from scpatch.verifier.reasons import every_reason

FILE: Final = Path(__file__).with_name("schema.json")

_DOCUMENTS: Final = (
    *(ScanDocument, AdviseDocument, RewriteDocument, DiffDocument),
    *(VerifyDocument, CheckDocument),
)


def schema() -> dict[str, object]:
    """The schema, draft 2020-12."""
    documents, definitions = msgspec.json.schema_components(
        _DOCUMENTS, ref_template="#/$defs/{name}"
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "scpatch --format json",
        "description": "One document a call. Offsets and sizes are in bytes. The number in "
        "`schema` grows with every change of the documents.",
        "oneOf": list(documents),
        "$defs": {
            "state": {"enum": list(map(str, every_action()))},
            "reason": {"enum": list(map(str, every_reason()))},
            **definitions,
        },
    }


def text() -> str:
    return json.dumps(schema(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
