"""The static proof: is r2 right after every static call, and is that all that was changed?

`prove` reads both objects anew and believes nothing of what the rewriter says it did. For each
call site it finds the reason why r2 is right in the second object; whatever else differs between
the two is an error. No module of this proof imports scpatch's reader, writer or analysis.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from scpatch.verifier.objects import record
from scpatch.verifier.objects.calls import Calls, Site, find_calls
from scpatch.verifier.objects.forms import has_intermediate, read_object
from scpatch.verifier.objects.read import Image, Place, UnreadableError
from scpatch.verifier.objects.relocations import REL24
from scpatch.verifier.objects.second_opinion import disagreements
from scpatch.verifier.objects.variant import BL, NOPS
from scpatch.verifier.proof import hoist, same, site_table
from scpatch.verifier.proof.added import Added, check
from scpatch.verifier.proof.site import Judgement, judge
from scpatch.verifier.reasons import livepatch_stack as livepatch
from scpatch.verifier.reasons import localentry, paca
from scpatch.verifier.reasons.localentry import Marking
from scpatch.verifier.search.entries import Entries
from scpatch.verifier.types import Proof, SiteProof

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
        images = read_object(before), read_object(after)
        errors = [text for image in images for text in disagreements(image)]
        first, second = (find_calls(image, trampolines) for image in images)
        errors += same.structure(*images, localentry.may_differ(*images, first))
        if errors:
            return Proof((), tuple(errors))
        proof = _compare(first, second, paca_toc, for_kernel=for_kernel)
        used, wrong = livepatch.offsets(second, livepatch_offsets)
        return replace(
            proof,
            errors=(*proof.errors, *wrong),
            livepatch=used,
            intermediate=has_intermediate(second.image),
        )
    except UnreadableError as reason:
        return Proof((), (f"{reason}.",))


def _compare(before: Calls, after: Calls, paca_toc: int | None, *, for_kernel: bool) -> Proof:
    """The proof proper, on two objects with the same headers and the same old symbols."""
    marking = Marking(before, after)
    added = Added(before, after, marking.blocks)
    old, new = Entries(before), Entries(after)
    errors: list[str] = []
    sites: list[SiteProof] = []
    words: list[Place] = []
    records: list[Place] = []
    applied = set(marking.applied)
    inner = {stub.branch for stub in added.stubs.values()}
    for place in sorted(before.sites.keys() | after.sites.keys() - inner):
        was, now = before.sites.get(place), after.sites.get(place)
        if was is None or now is None:
            what = "is a call of a trampoline no more" if now is None else "was none before"
            errors.append(f"{after.image.where(place)}: this branch {what}.")
            continue
        proof = _site(old, new, was, now)
        sites.append(proof)
        changed = _changed(before, after, was, now)
        if changed:
            errors += _change_errors(before, after, was, now, proof)
            words += _changed_words(now, proof)
            records += [now.record] if now.record.section else []
            applied |= {localentry.NAME} if proof.state == "linker" else set()
    applied |= {_STRATEGY[one.state] for one in sites if one.state in _STRATEGY}
    errors += added.livepatch.check(changed=bool(records))
    words += added.livepatch.branches
    nops = sorted({Place(one.section, nop) for one in sites for nop in one.hoisted})
    for nop in nops:
        if why := hoist.fault(old, new, nop, kernel=for_kernel):
            errors.append(f"{after.image.where(nop)}: this must not become a save of r2: {why}.")
    words += nops
    errors += check(added)
    errors += marking.check()
    loads = [*_restores(after, sites), *marking.loads()]
    errors += paca.one_offset(loads, paca_toc)
    errors += same.sections(before.image, after.image, words, records, marking.permitted())
    errors += same.appended_names(before.image, after.image)
    errors += same.gaps(before.image, after.image)
    applied |= {livepatch.NAME} if added.livepatch.branches else set()
    errors += record.check(before.image, after.image, frozenset(applied))
    errors += site_table.check(before, after, _listed(after, sites))
    return Proof(tuple(sites), tuple(errors), loads[0].offset if loads else None)


def _restores(calls: Calls, sites: Sequence[SiteProof]) -> Iterator[paca.Restore]:
    for one in sites:
        if one.paca_toc is not None:
            where = calls.image.where(Place(one.section, one.offset))
            yield paca.Restore(where, one.paca_toc)


_STRATEGY = {
    **dict.fromkeys(("stub", "thunk", "saved"), "callsite"),
    **dict.fromkeys(("trampoline", "elsewhere"), livepatch.NAME),
    "paca": "paca",
}
"""What the state of a changed site says about the strategy that was applied."""


def _listed(after: Calls, sites: Sequence[SiteProof]) -> dict[Place, str]:
    """The calls that a table of call sites has to hold, and their trampolines."""
    found = {}
    for site in sites:
        place = Place(site.section, site.offset)
        if site_table.is_listed(after.image, place, site.state):
            stub = after.sites[place].stub
            found[stub.branch if stub is not None and stub.thunk else place] = site.trampoline
    return found


def _changed_words(now: Site, proof: SiteProof) -> list[Place]:
    """The words of a changed call that may differ. Of one that the assembler has resolved the
    branch itself goes elsewhere; else its relocation does."""
    at = now.place
    own = [at] if now.resolved or proof.state == "thunk" else []
    return own + ([Place(at.section, at.offset + 4)] if proof.state != "thunk" else [])


def _changed(before: Calls, after: Calls, was: Site, now: Site) -> bool:
    """Whether the call's own words or its relocation differ."""
    following = Place(was.place.section, was.place.offset + 4)
    # Behind the old end stubs may follow; a call there answers for itself.
    whole = following.offset + 4 <= before.image.sections[following.section].size
    whole = whole and following not in after.sites
    return (
        was.rela != now.rela
        or before.word(was.place) != after.word(was.place)
        or (whole and before.word(following) != after.word(following))
    )


def _change_errors(
    before: Calls, after: Calls, was: Site, now: Site, proof: SiteProof
) -> Iterator[str]:
    """What a changed call may not have become."""
    where = after.image.where(now.place)
    if not proof.right:
        yield f"{where}: the call was changed, and r2 is wrong after it: {proof.why}."
        return
    if was.trampoline.place != now.trampoline.place:
        one, two = was.trampoline.symbol.name, now.trampoline.symbol.name
        yield f"{where}: the call led to {one} and leads to {two} now."
    if was.rela.type != REL24 or was.distance or before.word(was.place) & ~0x3FFFFFC != BL:
        yield f"{where}: what was changed is no call that may be."
    left_to_loader = before.stub_by_loader(was.trampoline)
    if proof.was_right and not left_to_loader and not localentry.is_undone(before, after, was, now):
        yield f"{where}: a call after which r2 was right already was changed."
    following = before.word(Place(was.place.section, was.place.offset + 4))
    if proof.state != "thunk" and following not in NOPS:
        yield f"{where}: an instruction that is no nop was overwritten by the restore."
    if proof.state == "linker":
        yield from localentry.call_errors(before, after, was, now)
    if proof.state in ("saved", "paca") and was.rela != now.rela:
        yield f"{where}: only the nop had to change, but the call's relocation was changed."
    named = (now.rela.symbol, now.rela.addend)
    if now.stub is not None and named != (now.stub.symbol.number, 0):
        yield f"{where}: the call's relocation does not name {now.stub.symbol.name} itself."


def _state(was: Judgement, now: Judgement, changed: bool) -> str:
    """The word for what became of a site; see SiteProof."""
    if now.how in ("trampoline", "elsewhere", "linker", "loader", "notoc"):
        return now.how
    if changed:
        known = {"stub": "stub", "thunk": "thunk", "own": "saved", "paca": "paca"}
        return known.get(now.how, "wrong")
    return {"wrong": "left", "unshown": "restored"}.get(now.how, "done")


def _site(old: Entries, new: Entries, was: Site, now: Site) -> SiteProof:
    """Judge one call in both objects."""
    image: Image = new.calls.image
    then, judgement = judge(old, was), judge(new, now)
    changed = _changed(old.calls, new.calls, was, now)
    function = image.function_at(now.place)
    trampoline = was.trampoline
    defined = trampoline.place.section > 0
    way, code = new.keepers.way(now.trampoline) if judgement.how == "trampoline" else (None, None)
    return SiteProof(
        section=now.place.section,
        section_name=image.sections[now.place.section].name,
        offset=now.place.offset,
        function=function.name if function is not None else "",
        function_offset=now.place.offset - function.value if function is not None else 0,
        trampoline=trampoline.symbol.name,
        trampoline_section=trampoline.place.section,
        trampoline_offset=trampoline.place.offset if defined else 0,
        trampoline_other=localentry.patched(old.calls, trampoline),
        state=_state(then, judgement, changed),
        right=judgement.right,
        was_right=then.right,
        why=judgement.why,
        resume=judgement.resume,
        saved_before=judgement.saved,
        loader=judgement.how == "loader",
        paca_toc=judgement.offset,
        hoisted=hoist.hoisted(old, new, now.place) if judgement.how == "own" else (),
        way=way,
        code=code,
        runs=judgement.how != "notoc" and not trampoline.is_indirect,
        sibling=way is not None and not new.calls.word(now.place) & 1,
    )
