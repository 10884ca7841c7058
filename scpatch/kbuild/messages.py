"""What the build step prints: lines like Kbuild's own, and refused call sites."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from scpatch.errors import RefusedError, ScpatchError
from scpatch.kbuild.settings import Settings

if TYPE_CHECKING:
    from scpatch.rewriter import FilePlan

USAGE = "make LD='scpatch-ld $(CROSS_COMPILE)ld', or another linker instead"


def no_linker(name: str, reason: str) -> ScpatchError:
    return ScpatchError(
        "SCP401",
        f"cannot run the linker: {reason}",
        file=name,
        hint=f"name the real linker: {USAGE}",
    )


def check(plans: Sequence[FilePlan], settings: Settings) -> None:
    """Prints the refused call sites and the notes about files.

    Raises RefusedError if call sites were refused, unless the settings allow them.
    """
    objects = [entry for plan in plans for entry in plan.objects]
    if names := [entry.name for entry in objects if entry.intermediate]:
        from scpatch.report.messages import note_intermediate

        note_intermediate(names)
    if not any(plan.refused for plan in plans):
        return
    from scpatch.report.errors import Kind
    from scpatch.report.messages import print_refusals
    from scpatch.rewriter import check_refused

    print_refusals(plans, Kind.WARNING if settings.warn_only else Kind.ERROR)
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


def rewritten(name: str, plan: FilePlan, settings: Settings, *, skipped: int = 0) -> None:
    """Prints a line as Kbuild does for each file that it makes; `make -s` closes its stdout. With
    V=1 also says what was done."""
    print(f"  SCPATCH {name}", flush=True)
    summary(plan, "; proven and executed" * settings.verify, skipped=skipped)


def unchanged(plan: FilePlan) -> None:
    """With V=1, says why nothing is done about the calls of a file."""
    if any(entry.plan.sites for entry in plan.objects):
        summary(plan)


def summary(plan: FilePlan, proof: str = "", *, skipped: int = 0) -> None:
    """With V=1, says what was done. `skipped` members are as an earlier run made them."""
    if not verbose():
        return
    from scpatch.report.words import summary_line

    others = f"; {skipped:,} other members are as before" if skipped else ""
    print(summary_line(plan._replace(outputs=()), written=True) + proof + others, flush=True)


def verbose() -> bool:
    return "1" in os.environ.get("KBUILD_VERBOSE", "")
