"""What the marks of a comparison look like."""

from __future__ import annotations

from typing import Final

from scpatch.differ.model import Mark
from scpatch.report.blocks import Style

STYLES: Final = {
    Mark.CONTEXT: Style.PLAIN,
    Mark.RELOCATION: Style.CHANGED,
    Mark.WORD: Style.CHANGED,
    Mark.ADDED: Style.NEW,
    Mark.REMOVED: Style.OLD,
    Mark.REFUSED: Style.REFUSED,
    Mark.CHECKED: Style.QUIET,
}
