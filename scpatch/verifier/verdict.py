"""What the verifier says of one object: the proof, and how each call site ran."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from scpatch.verifier.execute.judge import Outcome
from scpatch.verifier.tools import Tools
from scpatch.verifier.types import Common, Proof, SiteProof


class Result(StrEnum):
    """The result for a call site, an object or several, from best to worst."""

    PROVEN = "proven"
    NOT_SHOWN = "not shown"
    """Nothing is known to be wrong. But a call had a restore before, and no save was found."""
    NOT_PROVEN = "not proven"


@dataclass(frozen=True, slots=True)
class SiteRuns:
    """How one call site ran, in both versions of the object."""

    site: SiteProof
    before: Outcome
    after: Outcome

    @property
    def harmless(self) -> bool:
        """The proof says that r2 was wrong before, but the site passed: so the run proves nothing.
        If no save was found, nobody knows whether r2 was wrong."""
        wrong_before = not self.site.was_right and self.site.state is not Common.RESTORED
        return wrong_before and self.before.passed

    @property
    def objections(self) -> tuple[str, ...]:
        """What the runs have against the site."""
        failed = [f"after: {reason}" for reason in self.after.reasons]
        if self.harmless:
            failed.append("before: it passed although r2 was wrong, so the run proves nothing")
        return tuple(failed)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on one object."""

    label: str
    """The file's name, for a member `ARCHIVE(MEMBER)`."""
    proof: Proof
    runs: tuple[SiteRuns, ...] | None
    """The executed sites; None if nothing was executed."""
    tools: Tools | None = None
    """What they were executed with."""

    @property
    def result(self) -> Result:
        """Proven if each site is right by the proof, passes now, and failed before if it was
        wrong."""
        if self.proof.errors:
            return Result.NOT_PROVEN
        return worst(
            [judge_site(site, None) for site in self.proof.sites]
            + [judge_site(runs.site, runs) for runs in self.runs or ()]
        )

    @property
    def proven(self) -> bool:
        return self.result is Result.PROVEN

    @property
    def sites(self) -> Iterator[tuple[SiteProof, SiteRuns | None]]:
        """Every call site of the proof, and how it ran; None if it was not executed."""
        ran = {(runs.site.section, runs.site.offset): runs for runs in self.runs or ()}
        return ((site, ran.get((site.section, site.offset))) for site in self.proof.sites)


def judge_site(site: SiteProof, runs: SiteRuns | None) -> Result:
    """The result for one call site. `runs` is None if it was not executed."""
    if runs is not None and (not runs.after.passed or runs.harmless):
        return Result.NOT_PROVEN
    if site.right:
        return Result.PROVEN
    return Result.NOT_SHOWN if site.state is Common.RESTORED else Result.NOT_PROVEN


def worst(results: Iterable[Result]) -> Result:
    """The result for a whole from those of its parts."""
    order = tuple(Result)
    return max(results, key=order.index, default=Result.PROVEN)
