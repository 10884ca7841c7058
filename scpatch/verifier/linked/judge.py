"""Says of each call of a trampoline in an image whether r2 is right after it, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from scpatch.verifier.linked.image import Linked
from scpatch.verifier.linked.paths import StubPath, follow, is_end_of_stub, missed
from scpatch.verifier.linked.saves import ImageCode, ImageEntries, ImageSaves
from scpatch.verifier.objects.insn import is_padding, target, toc_load
from scpatch.verifier.objects.read import Place
from scpatch.verifier.objects.trampolines import Trampoline
from scpatch.verifier.objects.variant import BL, LD_R2, NOPS, B, without_distance
from scpatch.verifier.reasons import is_added_code, judge_in_image
from scpatch.verifier.search.frame import Saves
from scpatch.verifier.types import Common, Reason, SiteProof


class Call(NamedTuple):
    """A branch that comes to a trampoline: at an entry point by `path`, or somewhere inside. Or to
    a stub that does not lead to the trampoline that it is for."""

    place: Place
    to: int
    """The address that it names."""
    trampoline: Trampoline
    path: StubPath | None
    stub: str = ""
    """The name of that stub."""


def judge(linked: Linked) -> Iterator[SiteProof]:
    """All calls, in the order of the code."""
    calls = list(find(linked))
    saving = {call.place for call in calls if call.path and call.path.saves}
    saves = ImageSaves(ImageEntries(ImageCode(linked, saving)))
    for call in calls:
        place, trampoline = call.place, call.trampoline
        state, why = _judge(linked, call, saves)
        function = linked.image.function_at(place)
        yield SiteProof(
            section=place.section,
            section_name=linked.image.sections[place.section].name,
            offset=place.offset,
            function=function.name if function is not None else "",
            function_offset=place.offset - function.value if function is not None else 0,
            trampoline=trampoline.symbol.name,
            trampoline_section=trampoline.place.section,
            trampoline_offset=trampoline.place.offset,
            trampoline_other=trampoline.symbol.other,
            state=state,
            right=state.right,
            was_right=False,
            why=why,
            resume=place.offset + 8,
            saved_before=state is Common.SAVED,
            loader=False,
            paca_toc=toc_load(linked.word(place.after(4))),
        )


def find(linked: Linked) -> Iterator[Call]:
    """The branches to trampolines that are calls: not those at the end of a stub, nor the
    trampolines' own, nor those that return from code that replaces a prologue."""
    paths: dict[int, StubPath | None] = {}
    candidates: list[Call] = []
    for place, to in linked.decode_branches():
        if to not in paths:
            paths[to] = follow(linked, to)
        if (call := _call(linked, place, to, paths[to])) is not None:
            candidates.append(call)
    steps = {step for path in paths.values() if path is not None for step in path.steps}
    steps.update(_returns_to_trampolines(linked))
    for call in candidates:
        if linked.address(call.place) in steps or is_end_of_stub(linked, call.place):
            continue
        if not _leads_over_what_none_runs(linked, call):
            yield call


def _call(linked: Linked, place: Place, to: int, path: StubPath | None) -> Call | None:
    """The call that a branch makes, if it leads to a trampoline or should."""
    if (stub := _wrong_stub(linked, to, path)) is not None:
        return Call(place, to, *stub)
    trampoline = path.trampoline if path else linked.inside(to) or missed(linked, to)
    if trampoline is None or linked.inside(linked.address(place)) is not None:
        return None
    return Call(place, to, trampoline, path)


def _wrong_stub(
    linked: Linked, to: int, path: StubPath | None
) -> tuple[Trampoline, StubPath | None, str] | None:
    """An added stub that does not lead to the trampoline in its name.

    A linker has done that: the trampoline was weak and undefined, or may be replaced by that of
    another shared object.
    """
    stub = linked.stubs.get(to)
    if stub is None:
        return None
    trampoline, symbol = stub
    # lld leaves the name of a symbol with a version alone.
    reached = linked.aliases(path.trampoline.symbol.name) if path is not None else ()
    if trampoline.partition("@")[0] in {name.partition("@")[0] for name in reached}:
        return None
    place = Place(symbol.section, symbol.value)
    return Trampoline(symbol._replace(name=trampoline), place), path, symbol.name


def _leads_over_what_none_runs(linked: Linked, call: Call) -> bool:
    """Whether a branch leads over a row of nops, or over the code that a rewrite has appended to a
    section, to a trampoline after that. GNU as begins a long row of nops so, and a rewrite its
    code. A sibling call may look alike, but something leads to it."""
    place = call.place
    if without_distance(linked.word(place)) != B:
        return False
    if linked.image.function_at(place) is not None:
        return False
    end, after = linked.place(call.to), place.after(4)
    while end is not None and after.section == end.section and after.offset < end.offset:
        added = linked.image.function_at(after)
        if added is None and is_padding(linked.word(after)):
            after = after.after(4)
            continue
        if added is None or not is_added_code(added.name) or added.size <= 0:
            return False
        after = Place(place.section, added.value + added.size)
    return after == end and not _is_reached(linked, place)


def _is_reached(linked: Linked, place: Place) -> bool:
    """Whether a branch or a symbol leads to an instruction, or to one before it that belongs to no
    function either."""
    while place.offset >= 0 and linked.image.function_at(place) is None:
        if linked.address(place) in linked.entered or place in linked.labels:
            return True
        place = place.after(-4)
    return False


def _returns_to_trampolines(linked: Linked) -> Iterator[int]:
    """The last instructions of added code that trampolines branch to at their entry points."""
    for address, trampoline in linked.entries.items():
        word = linked.word(trampoline.place)
        if address != linked.address(trampoline.place) or without_distance(word) != B:
            continue
        start = target(word, address)
        code = linked.function_at(start) if start is not None else None
        if start is not None and code is not None and code.name.startswith("r2toc."):
            yield start + code.size - 4


def _judge(linked: Linked, call: Call, saves: Saves) -> tuple[Reason, str]:
    place, path = call.place, call.path
    if fault := _path_fault(linked, call):
        return Common.WRONG, fault
    assert path is not None, "else it is a fault"
    kind, after = without_distance(linked.word(place)), linked.word(place.after(4))
    function = linked.image.function_at(place)
    without_toc = function is not None and function.other >> 5 == 1
    if kind == B and without_toc and not path.saves:
        return Common.NOTOC, "a sibling call of a function that does not preserve r2"
    if kind != BL:
        what = ", and a stub saves r2 in its caller's frame" if path.saves else ""
        return Common.WRONG, f"a sibling call: nothing can restore r2 after it{what}"
    if (answer := judge_in_image(after, "")) is not None:
        return answer
    if after == LD_R2:
        return _restored(linked, call, path, saves)
    if without_toc:
        return Common.NOTOC, "the function does not use r2 as its TOC pointer"
    what = "saved, but not restored" if path.saves else "neither saved nor restored"
    return Common.WRONG, f"r2 is {what}: {'a' if after in NOPS else 'no'} nop follows"


def _path_fault(linked: Linked, call: Call) -> str:
    """Why a call does not come to an entry point of its trampoline; else empty."""
    path, to = call.path, call.to
    if call.stub:
        where = f", but to {path.trampoline.symbol.name}" if path is not None else ""
        return f"{call.stub} does not lead to its trampoline{where}"
    if path is not None:
        return "there is a nop in the stub, so that control runs on" if path.runs_on else ""
    if linked.inside(to) is None:
        return f"the linker's stub at {to:#x} does not lead to the trampoline"
    return "it lands inside the trampoline, at no entry point"


def _restored(linked: Linked, call: Call, path: StubPath, saves: Saves) -> tuple[Reason, str]:
    """The state of a call that a restore follows."""
    place = call.place
    if reason := saves.entries.entered(place.after(4)):
        return Common.WRONG, f"the restore may run without the call: {reason}"
    if path.saves:
        stub = linked.function_at(call.to)
        answer = judge_in_image(LD_R2, stub.name) if stub is not None else None
        why = f"saved by the linker's stub at {call.to:#x}, restored after the call"
        return answer or (Common.LINKER, why)
    saved = saves.is_saved(place)
    if saved.fault:
        return Common.RESTORED, f"restored, no save was found: {saved.fault}"
    where = ", ".join(f"{linked.address(Place(place.section, at)):#x}" for at in saved.saves)
    where += f" and {saved.more} more" if saved.more else ""
    return Common.SAVED, f"the function saves r2 itself ({where}), restored after the call"
