"""Brings the static proof and the execution of one object together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from scpatch.verifier.execute import NO_KERNEL, Kernel, Outcome, RunSite, Tools, execute
from scpatch.verifier.members import is_archive, members
from scpatch.verifier.objects.read import is_linked
from scpatch.verifier.proof import prove
from scpatch.verifier.types import Proof, SiteProof


class Result(StrEnum):
    """What can be said of a call site, and of a whole object."""

    PROVEN = "proven"
    NOT_SHOWN = "not shown"
    """Nothing is known to be wrong, but something was there before whose reason was not found: a
    restore without a save that could be shown."""
    NOT_PROVEN = "not proven"


@dataclass(frozen=True, slots=True)
class Ran:
    """One call site in both runs."""

    site: SiteProof
    before: Outcome
    after: Outcome

    @property
    def harmless(self) -> bool:
        """It ran well before, although r2 was wrong by the proof: the run proves nothing. Of a
        save that was not shown nobody knows whether r2 was wrong."""
        if self.site.state == "restored":
            return False
        return self.before.passed and not self.site.was_right


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came out for one object."""

    label: str
    """The file's name, for a member `ARCHIVE(MEMBER)`."""
    proof: Proof
    runs: tuple[Ran, ...] | None
    """The executed sites; None where nothing was executed."""

    @property
    def result(self) -> Result:
        """Proven: all sites are right, by the proof and in the run, and what was wrong failed
        before."""
        if self.proof.errors:
            return Result.NOT_PROVEN
        return worst(
            [of_site(site, None) for site in self.proof.sites]
            + [of_site(run.site, run) for run in self.runs or ()]
        )

    @property
    def proven(self) -> bool:
        return self.result is Result.PROVEN


def of_site(site: SiteProof, ran: Ran | None) -> Result:
    """What the proof and the run, if it ran, say of a site."""
    if ran is not None and (not ran.after.passed or ran.harmless):
        return Result.NOT_PROVEN
    if site.right:
        return Result.PROVEN
    return Result.NOT_SHOWN if site.state == "restored" else Result.NOT_PROVEN


def worst(results: Iterable[Result]) -> Result:
    """The verdict on a whole whose parts have these."""
    found = set(results)
    for one in (Result.NOT_PROVEN, Result.NOT_SHOWN):
        if one in found:
            return one
    return Result.PROVEN


def verify_files(
    before: Path,
    after: Path,
    trampolines: Sequence[str],
    tools: Tools | None,
    kernel: Kernel = NO_KERNEL,
    *,
    for_kernel: bool = False,
) -> list[Verdict]:
    """Verifies two objects, or two archives member by member, for a kernel.

    Raises ScpatchError SCP301 or SCP302 where `ar` is missing or fails, and as `verify_object`.
    """
    if not is_archive(before) and not is_archive(after):
        whole = verify_object(
            str(after), before, after, trampolines, tools, kernel, for_kernel=for_kernel
        )
        return [whole]
    with members(before, after) as found:
        verdicts = [
            verify_object(
                pair.label,
                pair.before,
                pair.after,
                trampolines,
                tools,
                kernel,
                for_kernel=for_kernel,
            )
            for pair in found.pairs
            if pair.is_object
        ]
        if found.errors:
            verdicts.append(Verdict(str(after), Proof((), found.errors), None))
    return verdicts


def verify_object(
    label: str,
    before: Path,
    after: Path,
    trampolines: Sequence[str],
    tools: Tools | None,
    kernel: Kernel = NO_KERNEL,
    *,
    for_kernel: bool = False,
) -> Verdict:
    """Proves one object and, given tools, executes every site that needs r2 in both versions.

    Of linked images nothing is executed: no program can be made of them. Where `kernel` does not
    say where the PACA has the TOC, that is where the code loads it from; `for_kernel` is that of
    `prove`.

    Raises OSError for a file that cannot be opened, and ScpatchError SCP302 where an object
    cannot be linked or started.
    """
    if is_linked(before) or is_linked(after):
        from scpatch.verifier.linked.pair import prove_images

        return Verdict(label, prove_images(before, after, trampolines, kernel.paca_toc), None)
    known = kernel.paca_thread_info, kernel.livepatch_sp
    proof = prove(
        before,
        after,
        trampolines,
        kernel.paca_toc,
        livepatch_offsets=known,
        for_kernel=for_kernel,
    )
    if tools is None or proof.errors:
        return Verdict(label, proof, None)
    sites = [site for site in proof.sites if site.runs and site.state != "elsewhere"]
    places = [run_site(site) for site in sites]
    kernel = _completed(kernel, proof)
    marked = [
        replace(one, marked=site.state == "linker") for one, site in zip(places, sites, strict=True)
    ]
    naive = [replace(one, code=None) for one in places]
    old = execute(before, naive, tools, kernel=kernel)
    new = execute(after, marked, tools, kernel=kernel)
    return Verdict(label, proof, tuple(map(Ran, sites, old, new)))


def _completed(kernel: Kernel, proof: Proof) -> Kernel:
    """The kernel with the offsets that the code uses, where the user has named none."""
    if kernel.paca_toc is None:
        kernel = replace(kernel, paca_toc=proof.paca_toc)
    if proof.livepatch is not None and None in (kernel.paca_thread_info, kernel.livepatch_sp):
        thread_info, livepatch_sp = proof.livepatch
        kernel = replace(kernel, paca_thread_info=thread_info, livepatch_sp=livepatch_sp)
    return kernel


def run_site(site: SiteProof) -> RunSite:
    return RunSite(
        section=site.section,
        section_name=site.section_name,
        offset=site.offset,
        trampoline=site.trampoline,
        trampoline_section=site.trampoline_section,
        trampoline_offset=site.trampoline_offset,
        trampoline_other=site.trampoline_other,
        resume=site.resume,
        saved_before=site.saved_before,
        loader=site.loader,
        way=site.way,
        code=site.code,
        sibling=site.sibling,
    )
