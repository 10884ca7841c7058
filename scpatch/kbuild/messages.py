"""What the build step prints: lines as Kbuild's own, and refused call sites."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from scpatch.errors import RefusedError
from scpatch.kbuild.settings import Settings

if TYPE_CHECKING:
    from scpatch.rewriter import FilePlan


def refused(plans: Sequence[FilePlan], settings: Settings) -> None:
    """Prints refused sites. Raises RefusedError unless the settings allow them. Also prints what to
    know of files that are rewritten."""
    if names := [one.name for plan in plans for one in plan.objects if one.intermediate]:
        from scpatch.report.messages import note_intermediate

        note_intermediate(names)
    if not any(plan.refused for plan in plans):
        return
    from scpatch.report.messages import print_findings
    from scpatch.report.rewrite import RewriteReport
    from scpatch.rewriter import check_refused

    print_findings(RewriteReport(plans, written=False).findings())
    if settings.warn_only:
        return
    try:
        check_refused(plans)
    except RefusedError as error:
        raise RefusedError(
            error.code,
            f"{error.message}, so the link is not done",
            hint="during bring-up, SCPATCH_FLAGS=--warn-only leaves such sites as they are",
        ) from error


def rewritten(name: str) -> None:
    """Prints the line that Kbuild prints for each thing made; on stdout, which `make -s` shuts."""
    print(f"  SCPATCH {name}", flush=True)


def summary(plan: FilePlan, *, kept: int = 0) -> None:
    """With V=1, says what was done; `kept` members are as an earlier run made them."""
    if not verbose():
        return
    from scpatch.report.summary import summary_line

    others = f"; {kept:,} other members are as before" if kept else ""
    print(summary_line(plan._replace(outputs=()), written=True) + others, flush=True)


def verbose() -> bool:
    return "1" in os.environ.get("KBUILD_VERBOSE", "")
