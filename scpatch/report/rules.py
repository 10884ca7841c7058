"""The kinds of findings and what they mean, for forms that list those beside the findings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from scpatch.diagnostics import Diagnostic
from scpatch.report.blocks import Finding
from scpatch.strategies.diagnostics import every_diagnostic

_OTHERS: Final[Mapping[str, Diagnostic]] = {
    "r2 is not saved": Diagnostic(
        "a call that loses r2",
        "If the target of this static call has another TOC, the call returns with the target's "
        "TOC pointer in r2. The next access to the caller's TOC then reads other data.",
        "run `scpatch rewrite` on the object",
    ),
    "not proven": Diagnostic(
        "a file or a call that is not proven",
        "The proof, or the run of the call under QEMU, speaks against the second file.",
        "do not use the file",
    ),
    "not shown": Diagnostic(
        "a call whose save was not found",
        "Nothing is known to be wrong. But r2 was restored after this call before the rewrite, and "
        "no save for it was found.",
        "look for the save of r2 before the call",
    ),
    "wrong": Diagnostic(
        "a call that loses r2",
        "After this static call, r2 is what the target has left in it. If the target has another "
        "TOC, the next access to the caller's TOC reads other data.",
        "run `scpatch rewrite` on the object",
    ),
    "differs": Diagnostic(
        "an object that differs",
        "The two versions of the object are not the same.",
        "run `scpatch diff` on them",
    ),
    "advice": Diagnostic(
        "a recommended strategy",
        "What `scpatch advise` recommends for the file.",
        "run `scpatch explain STRATEGY`",
    ),
}
"""The findings that have no code, by their titles."""


def every_rule(findings: Iterable[Finding]) -> dict[str, Diagnostic]:
    """Title of a finding -> what it means: all diagnostics and the other kinds, whether they occur
    or not, so that two runs have the same. An unknown title stands for itself."""
    rules = {**every_diagnostic(), **_OTHERS}
    for title in (finding.title for finding in findings):
        rules.setdefault(title, Diagnostic(title, title, "see the message"))
    return rules
