"""Judge what a site has left: everything that the ABI does not permit is a reason against it."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from scpatch.verifier.execute import state
from scpatch.verifier.execute.program import Program
from scpatch.verifier.execute.state import STACK, Recording, make_thread, register
from scpatch.verifier.objects.variant import TOC_SLOT
from scpatch.verifier.options import KernelOffsets
from scpatch.verifier.types import CallSite

# ELFv2 ABI, 2.2.2.2 and 2.2.4: arguments, results, and the registers that a call leaves alone.
_ARGUMENTS = ("r", range(3, 11)), ("f", range(1, 14)), ("v", range(2, 14))
_RESULTS = ("r", range(3, 11)), ("f", range(1, 9)), ("v", range(2, 10))
_PRESERVED = (
    *(("r", range(1, 2)), ("r", range(13, 32))),
    *(("f", range(14, 32)), ("v", range(20, 32)), ("cr", range(2, 5))),
)
_ON_THE_WAY = ("r", range(1, 3)), ("r", range(13, 14))
"""The stack pointer, the TOC pointer, and the address of the PACA."""
_CANNOT_PATCH = 0x1000
"""STATUS_PLANT in harness.s."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a site ran. It passed if there is no reason against it."""

    site: CallSite
    reached: bool
    """The trampoline's target was reached."""
    reasons: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.reasons


def judge(
    site: CallSite, data: bytes, program: Program, offsets: KernelOffsets, limit: float
) -> Outcome:
    """The outcome of a site from the RECORDING_SIZE bytes that harness.s wrote. `limit` is the time
    limit of the run in seconds of processor time."""
    recording = state.unpack_recording(data)
    reasons = list(_reasons(site, recording, program, offsets, limit))
    return Outcome(site, bool(recording.hits), tuple(reasons))


def signal_name(number: int) -> str:
    names = {known.value: known.name for known in signal.Signals}
    return names.get(number, f"signal {number}")


def _reasons(
    site: CallSite, recording: Recording, program: Program, offsets: KernelOffsets, limit: float
) -> Iterator[str]:
    before = state.initial_registers(program.harness, offsets)
    yield from _end(recording, program, limit)
    if recording.hits:
        yield from _on_the_way_there(recording, before)
    else:
        yield "the trampoline's target was never reached"
    if recording.hits > 1:
        yield f"the trampoline's target was reached {recording.hits} times"
    if recording.hits and site.ctr_path is not None:
        yield from _through_ctr(recording, site, program)
    if recording.hits and not recording.status:
        yield from _afterwards(recording, before)
        # A call must leave alone all but the free part of the livepatch stack.
        thread, after = make_thread(offsets, program.harness.thread), recording.final.thread
        for offset, old, new in _changes(thread[:STACK], after[:STACK]):
            yield f"{offset}(thread_info) changed from {old:#x} to {new:#x} over the call"
    if complaint := program.complaints.get((site.section_name, site.offset)):
        yield f"the linker says: {complaint}"


def _end(recording: Recording, program: Program, limit: float) -> Iterator[str]:
    """How the run ended, if control did not come back."""
    if not recording.status:
        return
    where = program.describe(recording.pc)
    if recording.status >= _CANNOT_PATCH:
        yield f"the code at {program.describe(recording.fault)} cannot be patched"
    elif recording.status == signal.SIGVTALRM:
        yield (
            f"control did not come back in {limit:g} s of processor time, it was last at {where}"
        )
    elif recording.status == signal.SIGSEGV:
        accessed = program.describe(recording.fault)
        yield f"crashed with SIGSEGV at {where}, accessing {accessed}"
    else:
        yield f"crashed with {signal_name(recording.status)} at {where}"


def _on_the_way_there(recording: Recording, before: bytes) -> Iterator[str]:
    """Between the site and the target only 24(r1) may change, and volatile r0, r11, r12."""
    after, when = recording.arrival, "on the way to the target"
    yield from _compare(_ON_THE_WAY, before, after.registers, when)
    yield from _compare(_ARGUMENTS, before, after.registers, f"{when}: an argument register")
    saved = state.FRAME_R1 + TOC_SLOT
    expected = state.frame_at_site()
    expected = expected[:saved] + after.frame[saved : saved + 8] + expected[saved + 8 :]
    yield from _memory(expected, after.frame, when)


def _through_ctr(recording: Recording, site: CallSite, program: Program) -> Iterator[str]:
    """Of a target that the trampoline loads into CTR, and of its own call of the same kind."""
    entry = register(recording.arrival.registers, "r", 11)  # r12 is moved there
    if entry != program.harness.hostile:
        expected = program.harness.hostile
        yield f"r12 is {entry:#x} at the target instead of its global entry {expected:#x}"
    if site.code is None or recording.status:
        return
    if recording.inner_hits != 1:
        yield f"the target's own static call reached its target {recording.inner_hits} times"
    elif recording.inner_toc != program.harness.toc:
        yield f"r2 is {recording.inner_toc:#x} after the target's own static call"
    instructions = site.code[1] // 4
    if recording.interrupts != 2 * instructions:
        yield f"{recording.interrupts} interrupts came in, at {instructions} instructions"


def _afterwards(recording: Recording, before: bytes) -> Iterator[str]:
    after = recording.final
    yield from _toc(*(register(block, "r", 2) for block in (before, after.registers)))
    yield from _compare(_PRESERVED, before, after.registers, "over the call")
    when = "on the way back"
    yield from _compare(
        _RESULTS, state.wrecked_registers(), after.registers, f"{when}: a result register"
    )
    yield from _memory(state.frame_after_target(recording.arrival.frame), after.frame, when)


def _toc(before: int, after: int) -> Iterator[str]:
    if before == after:
        return
    origin = ""
    if after == register(state.wrecked_registers(), "r", 2):
        origin = ", the TOC pointer that the target left"
    elif after == state.NOT_SAVED:
        origin = ", the old value of 24(r1): nobody has saved r2 there"
    yield f"r2 is {after:#x} after the call instead of {before:#x}{origin}"


def _compare(
    rows: Iterable[tuple[str, range]], before: bytes, after: bytes, when: str
) -> Iterator[str]:
    """Compare rows of registers: their kind and their numbers."""
    for kind, row in rows:
        if kind != "cr" and state.row(before, kind, row) == state.row(after, kind, row):
            continue
        for number in row:
            old, new = register(before, kind, number), register(after, kind, number)
            if old != new:
                yield f"{kind}{number} changed from {old:#x} to {new:#x} {when}"


def _memory(before: bytes, after: bytes, when: str) -> Iterator[str]:
    for offset, old, new in _changes(before, after):
        yield f"memory at {offset - state.FRAME_R1}(r1) changed from {old:#x} to {new:#x} {when}"


def _changes(before: bytes, after: bytes) -> Iterator[tuple[int, int, int]]:
    """The offset of each doubleword that has changed, and both values."""
    if before == after:
        return
    pairs = zip(state.unpack_words(before), state.unpack_words(after), strict=True)
    for index, (old, new) in enumerate(pairs):
        if old != new:
            yield 8 * index, old, new
