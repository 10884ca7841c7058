"""The static proof: is r2 right after every static call, and is that all that was changed?

`prove` reads both objects anew and believes nothing of what the rewriter says it did. For each
call site it finds the reason why r2 is right in the second object; whatever else differs between
the two is an error. No module of this proof imports scpatch's reader, writer or analysis.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path

from scpatch.verifier.beside import beside
from scpatch.verifier.objects import decoder, record, second_opinion
from scpatch.verifier.objects.calls import find_calls
from scpatch.verifier.objects.forms import has_intermediate, read_object
from scpatch.verifier.objects.read import Image, Place, UnreadableError
from scpatch.verifier.phases import enter
from scpatch.verifier.proof import headers, same, site_table
from scpatch.verifier.proof.added import Added, check
from scpatch.verifier.proof.change import Change, hoist_fault
from scpatch.verifier.reasons import strategies
from scpatch.verifier.reasons.interface import Block, Load, Strategy
from scpatch.verifier.search.frame import Code
from scpatch.verifier.search.object_entries import ObjectEntries
from scpatch.verifier.types import Checkers, Proof, Reason, SiteProof

__all__ = ["Proof", "SiteProof", "prove"]


def prove(
    before: Path,
    after: Path,
    trampolines: Sequence[str] = ("__SCT__*",),
    paca_toc: int | None = None,
    *,
    livepatch_offsets: tuple[int | None, int | None] = (None, None),
    for_kernel: bool = False,
) -> Proof:
    """Prove that `after` is `before` with right static calls and no other change.

    `trampolines` are the globs that name trampolines, `paca_toc` is the offset that loads from the
    PACA must have; without one, they must all have the same. `livepatch_offsets` are likewise those
    of the thread_info in the PACA and of livepatch_sp in that. `for_kernel` says that the object
    ends in a kernel or a module of it, where nothing preempts a function. An object that cannot be
    read is an error of the proof; OSError is raised where a file cannot be opened.
    """
    try:
        enter("reading the objects")
        images = read_object(before), read_object(after)
        enter("disassembling")
        decoder.prepare(word for image in images for word in image.words)
        with beside(partial(look_again, *images), size_of(*images)) as second_look:
            enter("finding the calls")
            old, new = (Code(ObjectEntries(find_calls(image, trampolines))) for image in images)
            applied = [strategy(old, new) for strategy in strategies()]
            others = {number for strategy in applied for number in strategy.symbols_that_differ()}
            faults = [*headers.check(*images, others)]
            proof = Proof((), ())
            if not faults:
                proof = _compare(old, new, applied, paca_toc, for_kernel=for_kernel)
            checkers, errors = second_look()
        if errors := (*errors, *faults):
            return Proof((), errors, checkers=checkers)
        used = [strategy.livepatch_offsets(livepatch_offsets) for strategy in applied]
        return replace(
            proof,
            errors=(*proof.errors, *(error for _, wrong in used for error in wrong)),
            checkers=checkers,
            livepatch=next((offsets for offsets, _ in used if offsets is not None), None),
            intermediate=has_intermediate(images[1]),
        )
    except UnreadableError as reason:
        return Proof((), (f"{reason}.",), unreadable=True)


def look_again(*images: Image) -> tuple[Checkers, tuple[str, ...]]:
    """What read the files and the instructions, and what another library reads otherwise."""
    enter("reading the files with another library")
    checkers = Checkers(second_opinion.names(*images), decoder.name())
    return checkers, tuple(chain(*map(second_opinion.disagreements, images)))


def size_of(*images: Image) -> int:
    """The bytes of the files."""
    return sum(len(image.data) for image in images)


@dataclass(eq=False)
class _Calls:
    """What the proof says of all calls."""

    sites: list[SiteProof] = field(default_factory=list)
    changed: set[Reason] = field(default_factory=set)
    """The states of those that were changed."""
    words: list[Place] = field(default_factory=list)
    """The words of theirs that may differ."""
    records: list[Place] = field(default_factory=list)
    """Their relocations."""
    errors: list[str] = field(default_factory=list)


def _compare(
    before: Code,
    after: Code,
    applied: Sequence[Strategy],
    paca_toc: int | None,
    *,
    for_kernel: bool,
) -> Proof:
    """The proof proper, on two objects with the same headers and the same old symbols."""
    images = before.calls.image, after.calls.image
    blocks = {place: block for strategy in applied for place, block in strategy.blocks().items()}
    calls = _compare_calls(before, after, applied, blocks)
    enter("comparing all other contents")
    errors, sites = calls.errors, calls.sites
    nops = sorted({Place(site.section, nop) for site in sites for nop in site.hoisted})
    for nop in nops:
        if why := hoist_fault(before, after, nop, kernel=for_kernel):
            errors.append(f"{images[1].where(nop)}: this must not become a save of r2: {why}.")
    errors += check(Added(before, after, blocks))
    for strategy in applied:
        errors += strategy.faults(changed=bool(calls.records))
    of_r2 = loads_of(images[1], sites)
    of_r2 += [load for strategy in applied for load in strategy.loads()]
    errors += one_offset(of_r2, paca_toc)
    spans = [span for strategy in applied for span in strategy.spans()]
    errors += same.sections(*images, [*calls.words, *nops], calls.records, spans)
    errors += same.appended_names(*images)
    errors += same.gaps(*images)
    states = {site.state for site in sites}
    names = (which.name for which in applied if which.is_applied(states, calls.changed))
    errors += record.faults(*images, frozenset(names))
    errors += site_table.check(before.calls, after.calls, site_table.listed(after.calls, sites))
    return Proof(tuple(sites), tuple(errors), of_r2[0].offset if of_r2 else None)


def _compare_calls(
    before: Code, after: Code, applied: Sequence[Strategy], blocks: dict[Place, Block]
) -> _Calls:
    """Judge all calls, but for those that the appended code makes."""
    calls = _Calls()
    inner = {place for block in blocks.values() for place in block.relocations}
    old, new = before.calls.sites, after.calls.sites
    places = sorted(old.keys() | new.keys() - inner)
    for done, place in enumerate(places):
        enter("proving", done, len(places))
        where, was, now = after.calls.image.where(place), old.get(place), new.get(place)
        if was is None or now is None:
            what = "is no longer a call" if now is None else "was not a call before"
            calls.errors.append(f"{where}: this branch {what}.")
            continue
        change = Change(before, after, applied, was, now)
        proof = change.prove()
        calls.sites.append(proof)
        if change.is_changed:
            calls.errors += (f"{where}: {fault}." for fault in change.faults(proof))
            calls.changed.add(proof.state)
            calls.words += change.words(proof)
            calls.records += [now.record] if now.record.section else []
    return calls


def loads_of(image: Image, sites: Iterable[SiteProof]) -> list[Load]:
    """The loads that follow calls."""
    return [
        Load(image.where(Place(site.section, site.offset)), site.paca_toc)
        for site in sites
        if site.paca_toc is not None
    ]


def one_offset(loads: Iterable[Load], wanted: int | None) -> Iterator[str]:
    """One sentence for each load from elsewhere than the first, or than `wanted`, the offset that
    the user gave."""
    for load in loads:
        if wanted is None:
            wanted = load.offset
        if load.offset != wanted:
            yield f"{load.where}: r2 is loaded from {load.offset}(r13), not {wanted}(r13)."
