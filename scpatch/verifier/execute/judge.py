"""Judge what a site has left behind: everything that is not as the ABI wants it is a reason."""

from __future__ import annotations

import signal
import struct
from collections.abc import Iterable, Sequence

from scpatch.verifier.execute import state
from scpatch.verifier.execute.kernel import STACK
from scpatch.verifier.execute.kernel import thread as thread_at_site
from scpatch.verifier.execute.places import Program
from scpatch.verifier.execute.state import Registers, Result
from scpatch.verifier.execute.types import Outcome, RunSite
from scpatch.verifier.options import NO_OFFSETS, KernelOffsets

# ELFv2 ABI, 2.2.2.2 and 2.2.4: arguments, results, and the registers that a call leaves alone.
_ARGUMENT_GPR = range(3, 11)
_ARGUMENT_FPR = range(1, 14)
_ARGUMENT_VR = range(2, 14)
_RESULT_GPR = range(3, 11)
_RESULT_FPR = range(1, 9)
_RESULT_VR = range(2, 10)
_KEPT_GPR = (1, *range(13, 32))
_KEPT_FPR = range(14, 32)
_KEPT_VR = range(20, 32)
_KEPT_CR = range(2, 5)


def judge(
    site: RunSite, data: bytes, program: Program, limit: float, offsets: KernelOffsets = NO_OFFSETS
) -> Outcome:
    """The outcome of a site from the RESULT_SIZE bytes that harness.s wrote.

    `limit` is the time limit of the run in seconds of processor time.
    """
    result = state.unpack_result(data)
    before = state.initial_registers(program.addresses, offsets)
    start = state.frame_at_site()
    reasons = list(_end(result, program, limit))
    if result.hits:
        reasons += _on_the_way_there(result, before, start)
    else:
        reasons.append("the trampoline's target was never reached")
    if result.hits > 1:
        reasons.append(f"the trampoline's target was reached {result.hits} times")
    if result.hits and site.way is not None:
        reasons += _by_ctr(result, site, program)
    if result.hits and not result.status:
        reasons += _afterwards(result, before)
        reasons += _thread(thread_at_site(offsets, program.thread), result.final_thread)
    complaint = program.complaints.get((site.section_name, site.offset))
    if complaint:
        reasons.append(f"the linker says: {complaint}")
    return Outcome(site, bool(result.hits), tuple(reasons))


def signal_name(number: int) -> str:
    known = {one.value: one.name for one in signal.Signals}
    return known.get(number, f"signal {number}")


def _end(result: Result, program: Program, limit: float) -> Iterable[str]:
    """How the run ended, if control did not come back."""
    if not result.status:
        return
    if result.status >= 0x1000:
        yield f"the code at {program.describe(result.fault)} cannot be patched"
    elif result.status == signal.SIGVTALRM:
        yield (
            f"control did not come back in {limit:g} s of processor time, "
            f"it was last at {program.describe(result.pc)}"
        )
    else:
        name = signal_name(result.status)
        where = program.describe(result.pc)
        access = f", accessing {program.describe(result.fault)}" if result.status == 11 else ""
        yield f"crashed with {name} at {where}{access}"


def _on_the_way_there(result: Result, before: Registers, start: bytes) -> Iterable[str]:
    """Between the site and the target only 24(r1) may change, and volatile r0, r11, r12."""
    after = result.arrival
    way = "on the way to the target"
    for number in (1, 2, 13):
        yield from _compare("r", (number,), before.gpr, after.gpr, way)
    arguments = f"{way}: an argument register"
    yield from _compare("r", _ARGUMENT_GPR, before.gpr, after.gpr, arguments)
    yield from _compare("f", _ARGUMENT_FPR, before.fpr, after.fpr, arguments)
    yield from _compare("v", _ARGUMENT_VR, before.vr, after.vr, arguments)
    yield from _memory(start, result.arrival_frame, way, allowed=state.TOC_SAVE)


def _by_ctr(result: Result, site: RunSite, program: Program) -> Iterable[str]:
    """Of a target that the trampoline loads into CTR, and of its own call of the same kind."""
    entry = result.arrival.gpr[11]  # r12 is moved there
    if entry != program.hostile:
        yield f"r12 is {entry:#x} at the target instead of its global entry {program.hostile:#x}"
    if site.code is None or result.status:
        return
    if result.inner_hits != 1:
        yield f"the target's own static call reached its target {result.inner_hits} times"
    elif result.inner_toc != program.toc:
        yield f"r2 is {result.inner_toc:#x} after the target's own static call"
    if result.interrupts != 2 * (site.code[1] // 4):
        yield f"{result.interrupts} interrupts came in, at {site.code[1] // 4} instructions"


def _afterwards(result: Result, before: Registers) -> Iterable[str]:
    after = result.final
    yield from _toc(before.gpr[2], after.gpr[2])
    yield from _compare("r", _KEPT_GPR, before.gpr, after.gpr, "over the call")
    yield from _compare("f", _KEPT_FPR, before.fpr, after.fpr, "over the call")
    yield from _compare("v", _KEPT_VR, before.vr, after.vr, "over the call")
    fields = before.cr_fields, after.cr_fields
    yield from _compare("cr", _KEPT_CR, *fields, "over the call")
    way = "on the way back: a result register"
    yield from _compare("r", _RESULT_GPR, state.WRECKED.gpr, after.gpr, way)
    yield from _compare("f", _RESULT_FPR, state.WRECKED.fpr, after.fpr, way)
    yield from _compare("v", _RESULT_VR, state.WRECKED.vr, after.vr, way)
    expected = state.frame_after_target(result.arrival_frame)
    yield from _memory(expected, result.final_frame, "on the way back", allowed=None)


def _thread(before: bytes, after: bytes) -> Iterable[str]:
    """What a call must leave alone: all but the free part of the livepatch stack."""
    for offset in range(0, STACK, 8):
        old, new = before[offset : offset + 8], after[offset : offset + 8]
        if old != new:
            values = (f"{int.from_bytes(one, 'little'):#x}" for one in (old, new))
            yield f"{offset}(thread_info) changed from {' to '.join(values)} over the call"


def _toc(before: int, after: int) -> Iterable[str]:
    if before == after:
        return
    origin = ""
    if after == state.WRECKED.gpr[2]:
        origin = ", the TOC pointer that the target left"
    elif after == state.NOT_SAVED:
        origin = ", what lay in 24(r1), where nobody has saved r2"
    yield f"r2 is {after:#x} after the call instead of {before:#x}{origin}"


def _compare(
    kind: str, numbers: Iterable[int], before: Sequence[int], after: Sequence[int], when: str
) -> Iterable[str]:
    for number in numbers:
        if before[number] != after[number]:
            yield f"{kind}{number} changed from {before[number]:#x} to {after[number]:#x} {when}"


def _memory(before: bytes, after: bytes, when: str, *, allowed: int | None) -> Iterable[str]:
    """Compare the watched memory; `allowed` is the r1 offset of a doubleword that may change."""
    if allowed is not None:
        at = state.FRAME_R1 + allowed
        after = after[:at] + before[at : at + 8] + after[at + 8 :]
    if before == after:
        return
    count = state.FRAME_SIZE // 8
    pairs = zip(
        struct.unpack(f"<{count}Q", before), struct.unpack(f"<{count}Q", after), strict=True
    )
    for index, (old, new) in enumerate(pairs):
        offset = 8 * index - state.FRAME_R1
        if old != new:
            yield f"memory at {offset}(r1) changed from {old:#x} to {new:#x} {when}"
