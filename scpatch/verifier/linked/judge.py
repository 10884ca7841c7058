"""Says of each call of a trampoline in an image whether r2 is right after it, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from scpatch.verifier.linked.image import Branch, Linked
from scpatch.verifier.linked.paths import StubPath, follow, is_end_of_stub, missed
from scpatch.verifier.linked.saved import Saves
from scpatch.verifier.objects.insn import toc_load
from scpatch.verifier.objects.read import Place
from scpatch.verifier.objects.trampolines import Trampoline
from scpatch.verifier.objects.variant import LD_R2, NOPS
from scpatch.verifier.reasons import is_added_code, judge_in_image
from scpatch.verifier.types import Common, Reason, SiteProof


@dataclass(frozen=True, slots=True)
class Call:
    """A branch that comes to a trampoline: at an entry point by `way`, or somewhere inside. Or to
    the stub `lost`, which does not lead to the trampoline that it is for."""

    branch: Branch
    trampoline: Trampoline
    way: StubPath | None
    lost: str = ""


def judge(linked: Linked) -> Iterator[SiteProof]:
    """All calls, in the order of the code."""
    calls = list(find(linked))
    saves = Saves(
        linked, {one.branch.place: one.trampoline for one in calls if one.way and one.way.saves}
    )
    for call in calls:
        place = call.branch.place
        state, why = _judge(linked, call, saves)
        function = linked.image.function_at(place)
        yield SiteProof(
            section=place.section,
            section_name=linked.image.sections[place.section].name,
            offset=place.offset,
            function=function.name if function is not None else "",
            function_offset=place.offset - function.value if function is not None else 0,
            trampoline=call.trampoline.symbol.name,
            trampoline_section=call.trampoline.place.section,
            trampoline_offset=call.trampoline.place.offset,
            trampoline_other=call.trampoline.symbol.other,
            state=state,
            right=state.right,
            was_right=False,
            why=why,
            resume=place.offset + 8,
            saved_before=state is Common.SAVED,
            loader=False,
            paca_toc=toc_load(linked.calls.word(place.after(4))),
        )


def find(linked: Linked) -> Iterator[Call]:
    """The branches to trampolines that are calls: not those at the end of a stub, nor the
    trampolines' own, nor those that come back from code which stands for a prologue."""
    ways: dict[int, StubPath | None] = {}
    found: list[Call] = []
    for branch in linked.branches():
        if branch.to not in ways:
            ways[branch.to] = follow(linked, branch.to)
        way = ways[branch.to]
        if (lost := _lost(linked, branch, way)) is not None:
            found.append(lost)
            continue
        one = way.trampoline if way is not None else _meant(linked, branch.to)
        if one is not None and linked.inside(linked.address(branch.place)) is None:
            found.append(Call(branch, one, way))
    steps = {step for way in ways.values() if way is not None for step in way.steps}
    own = set(_detours(linked))
    for call in found:
        at = linked.address(call.branch.place)
        if at in steps or at in own or is_end_of_stub(linked, call.branch.place):
            continue
        if not _leads_over_stubs(linked, call.branch):
            yield call


def _meant(linked: Linked, address: int) -> Trampoline | None:
    """The trampoline that a branch to an address misses."""
    return linked.inside(address) or missed(linked, address)


def _leads_over_stubs(linked: Linked, branch: Branch) -> bool:
    """Whether a branch leads over what scpatch has appended to a section, and a trampoline is what
    lies behind that. A sibling call may look alike, but something leads to it."""
    at = branch.place
    if linked.calls.word(at) & 0xFC000003 != 0x48000000 or linked.image.function_at(at) is not None:
        return False
    end, after = linked.place(branch.to), Place(at.section, at.offset + 4)
    while end is not None and after.section == end.section and after.offset < end.offset:
        stub = linked.image.function_at(after)
        if stub is None or not is_added_code(stub.name) or stub.size <= 0:
            return False
        after = Place(at.section, stub.value + stub.size)
    return after == end and not _is_reached(linked, at)


def _is_reached(linked: Linked, place: Place) -> bool:
    """Whether a branch or a symbol leads to an instruction, or to one before it that belongs to no
    function either."""
    while place.offset >= 0 and linked.image.function_at(place) is None:
        if linked.address(place) in linked.entered or place in linked.labels:
            return True
        place = Place(place.section, place.offset - 4)
    return False


def _lost(linked: Linked, branch: Branch, way: StubPath | None) -> Call | None:
    """A branch to a stub of scpatch's that does not lead to the trampoline in its name.

    A linker has done that: the trampoline was weak and undefined, or may be replaced by that of
    another shared object.
    """
    stub = linked.stubs.get(branch.to)
    if stub is None:
        return None
    trampoline, symbol = stub
    # Of a symbol with a version lld leaves the name alone.
    reached = linked.names(way.trampoline.symbol.name) if way is not None else ()
    if trampoline.partition("@")[0] in {name.partition("@")[0] for name in reached}:
        return None
    place = Place(symbol.section, symbol.value)
    return Call(branch, Trampoline(symbol._replace(name=trampoline), place), way, symbol.name)


def _detours(linked: Linked) -> Iterator[int]:
    """Where code that a trampoline branches to at its entry point comes back from."""
    for address, one in linked.entries.items():
        word = linked.calls.word(one.place)
        if address != linked.address(one.place) or word & 0xFC000003 != 0x48000000:
            continue
        distance = word & 0x3FFFFFC
        start = address + distance - (distance >> 25 << 26)
        place = linked.place(start)
        name = linked.image.function_at(place) if place is not None else None
        if name is not None and name.name.startswith("r2toc."):
            yield start + name.size - 4


def _judge(linked: Linked, call: Call, saves: Saves) -> tuple[Reason, str]:
    place, way = call.branch.place, call.way
    word = linked.calls.word(place)
    after = linked.calls.word(Place(place.section, place.offset + 4))
    function = linked.image.function_at(place)
    if call.lost:
        where = f", but to {way.trampoline.symbol.name}" if way is not None else ""
        return Common.WRONG, f"{call.lost} does not lead to its trampoline{where}"
    if way is None and linked.inside(call.branch.to) is None:
        return (
            Common.WRONG,
            f"the linker's stub at {call.branch.to:#x} does not lead to the trampoline",
        )
    if way is not None and way.runs_on:
        return Common.WRONG, "there is a nop in the stub, so that control runs on"
    if way is None:
        return Common.WRONG, "it lands inside the trampoline, at no entry point"
    without_toc = function is not None and function.other >> 5 == 1
    if word & 0xFC000003 == 0x48000000 and without_toc and not way.saves:
        return Common.NOTOC, "a sibling call of a function that does not preserve r2"
    if word & 0xFC000003 != 0x48000001:
        what = ", and a stub saves r2 in its caller's frame" if way.saves else ""
        return Common.WRONG, f"a sibling call: nothing can restore r2 after it{what}"
    if (found := judge_in_image(after, "")) is not None:
        return found
    if after != LD_R2:
        if without_toc:
            return Common.NOTOC, "the function does not use r2 as its TOC pointer"
        what = "saved, but not restored" if way.saves else "neither saved nor restored"
        return Common.WRONG, f"r2 is {what}: {'a' if after in NOPS else 'no'} nop follows"
    return _restored(linked, call, way, saves)


def _restored(linked: Linked, call: Call, way: StubPath, saves: Saves) -> tuple[Reason, str]:
    """The state of a call with a restore behind it."""
    place = call.branch.place
    if reason := saves.entered(Place(place.section, place.offset + 4)):
        return Common.WRONG, f"the restore may run without the call: {reason}"
    if way.saves:
        stub = linked.place(call.branch.to)
        symbol = linked.image.function_at(stub) if stub is not None else None
        found = judge_in_image(LD_R2, symbol.name) if symbol is not None else None
        if found is not None:
            return found
        return (
            Common.LINKER,
            f"saved by the linker's stub at {call.branch.to:#x}, restored behind the call",
        )
    answer = saves.before(place)
    if answer.fault:
        return Common.RESTORED, f"restored, its save not shown: {answer.fault}"
    where = ", ".join(f"{linked.address(Place(place.section, at)):#x}" for at in answer.saves)
    where += f" and {answer.more} more" if answer.more else ""
    return Common.SAVED, f"the function saves r2 itself ({where}), restored behind the call"
