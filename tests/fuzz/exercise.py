"""Puts one damaged input through scpatch in memory, and says what must hold of whatever happens.

* Nothing is raised but ScpatchError, and that has a message.
* No step takes longer than a second of processor time for an input of 64 KiB.
* With `memory`, no step takes more than 20 times the input and a constant.
* What was rewritten is read again, and a second run changes nothing.
* The proof accepts what the rewriter wrote, or has something against the input itself.
"""

from __future__ import annotations

import signal
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from scpatch.advisor import advise
from scpatch.errors import ScpatchError
from scpatch.files.inputs import is_linked
from scpatch.files.members import open_objects
from scpatch.rewriter import FilePlan, ObjectPlan, Options, plan_file, plan_object
from scpatch.sites.actions import Common
from scpatch.strategies.livepatch_stack import Kept
from scpatch.verifier.files import verify_link
from scpatch.verifier.linked import prove_images
from scpatch.verifier.options import VerifyOptions
from scpatch.verifier.proof import prove
from scpatch.verifier.types import Proof
from tests.fuzz.fields import is_archive
from tests.fuzz.modes import MODES, OFFSETS, Mode
from tests.tools import apply

TRAMPOLINES = ("__SCT__*",)
SECONDS = 1.0
"""Of processor time, for each 64 KiB of input that have begun."""
TIMES = 20
CONSTANT = 1 << 20
"""Bytes that a step may take whatever its input: code that is loaded, tables."""

_R = TypeVar("_R")


class FaultError(Exception):
    """What must not happen, and is no exception by itself. `kind` is one word."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


class Most(NamedTuple):
    """The most that a step took: seconds, and bytes as a multiple of the input."""

    seconds: float = 0.0
    times: float = 0.0


class Exercise:
    """Runs inputs; keeps the most that any step has taken. `folder` holds the files of the moment,
    and those that thin archives name."""

    def __init__(self, folder: Path, *, memory: bool = False) -> None:
        self.folder = folder
        self.memory = memory
        self.most = Most()

    def rewrite(self, data: bytes, mode: Mode) -> str:
        """Plans an object and, where that changes anything, all that follows. How it went."""
        view = memoryview(data)
        try:
            plan, layout = self._step(
                "planning", data, lambda: plan_object(view, "x.o", mode.options)
            )
        except ScpatchError as error:
            return told(error)
        if layout is None:
            return "nothing"
        # Code, a relocation, a symbol and its name for each stub; alignment for all behind.
        listed = 8 * len(plan.plan.listed)
        if layout.size > 2 * len(data) + 512 * len(plan.plan.stubs) + 64 * listed + (1 << 18):
            raise FaultError("size", f"{len(data)} bytes became {layout.size}")
        new = apply(data, layout)
        self._again(new, plan, mode)
        return self._proof(data, new, plan, mode)

    def _again(self, new: bytes, plan: ObjectPlan, mode: Mode) -> None:
        again, rest = plan_object(memoryview(new), "x.o", mode.options)
        if rest is not None:
            raise FaultError("again", "a second run changes the file once more")
        # By the relocation: a damaged object can have two on one instruction.
        done = {(site.section, site.relocation): site.state for site in again.plan.sites}
        states = {Common.DONE, Kept.TRAMPOLINE, Common.LINKER}
        for site in plan.plan.sites:
            if site.state.changes and done.get((site.section, site.relocation)) not in states:
                raise FaultError("again", f"{site.place} is not done after it was rewritten")

    def _proof(self, data: bytes, new: bytes, plan: ObjectPlan, mode: Mode) -> str:
        if is_linked(memoryview(data)):
            return "rewritten" if not self.images(data, new).errors else "rewritten, not proven"
        if self.prove(data, data, mode).errors:
            return "rewritten, refused by the proof"
        proof = self.prove(data, new, mode)
        if proof.errors and mode.options.strategy == "livepatch-stack" and plan.plan.refused:
            # Of a trampoline that cannot keep r2: the rewriter refuses its calls, the proof says so
            # of the trampoline. Neither calls the file right.
            return "rewritten in part, not proven"
        if proof.errors:
            raise FaultError("proof", proof.errors[0])
        right = {(site.section, site.offset) for site in proof.sites if site.right}
        for call in plan.plan.sites:
            if call.state.changes and (call.section, call.offset) not in right:
                raise FaultError("proof", f"{call.place} was rewritten, and is not right by it")
        return "rewritten and proven"

    def prove(self, before: bytes, after: bytes, mode: Mode) -> Proof:
        """The proof of two objects."""
        old, new = self._put("before.o", before), self._put("after.o", after)
        return self._step(
            "the proof",
            before if len(before) > len(after) else after,
            lambda: prove(
                old,
                new,
                TRAMPOLINES,
                OFFSETS.paca_toc,
                livepatch_offsets=(OFFSETS.paca_thread_info, OFFSETS.livepatch_sp),
                for_kernel=mode.for_kernel,
            ),
        )

    def images(self, before: bytes, after: bytes) -> Proof:
        """The proof of new linked images, and what is said of the second alone."""
        old, new = self._put("before", before), self._put("after", after)
        try:
            self._step("the image", after, lambda: verify_link((), new, VerifyOptions(TRAMPOLINES)))
        except ScpatchError as error:
            told(error)
        return self._step("the images", after, lambda: prove_images(old, new, TRAMPOLINES, 16))

    def advise(self, data: bytes) -> str:
        path = self._put("advised.o", data)
        try:
            self._step("advising", data, lambda: advise(path, Options(), image=True))
        except ScpatchError as error:
            return told(error)
        return "advised"

    def archive(self, data: bytes, mode: Mode, *, elsewhere: bool) -> str:
        """Plans an archive, in place or for an output; the result is planned again."""
        path = self._put("x.a", data)
        target = self.folder / "out" / "x.a" if elsewhere else None
        try:
            with open_objects(path) as peaks:
                count = len(peaks)
        except ScpatchError as error:
            told(error)
            count = -1
        try:
            plan = self._step("planning", data, lambda: plan_file(path, mode.options, target))
        except ScpatchError as error:
            return told(error)
        if count < 0:
            raise FaultError("archive", "it was planned, and its members cannot be read")
        if data[:8] == b"!<thin>\n" or not any(output.source == path for output in plan.outputs):
            return "rewritten" if plan.outputs else "nothing"
        return self._archive_again(data, plan, mode)

    def _archive_again(self, data: bytes, plan: FilePlan, mode: Mode) -> str:
        (output,) = plan.outputs
        again = plan_file(self._put("again.a", apply(data, output.layout)), mode.options)
        if again.outputs:
            raise FaultError("again", "a second run changes the archive once more")
        if len(again.objects) != len(plan.objects):
            raise FaultError("again", "the archive has another number of objects")
        return "rewritten"

    def _put(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path

    def _step(self, what: str, data: bytes, call: Callable[[], _R]) -> _R:
        started = time.process_time()
        peak = 0
        try:
            with _peak(self.memory) as peaks:
                result = call()
        finally:
            seconds = time.process_time() - started
            peak = peaks[0] if peaks else 0
            times = max(0, peak - CONSTANT) / max(len(data), 1)
            self.most = Most(max(self.most.seconds, seconds), max(self.most.times, times))
        if seconds > SECONDS * (1 + len(data) // 65537) and not self.memory:
            raise FaultError("slow", f"{what} took {seconds:.2f} s for {len(data)} bytes")
        if times > TIMES:
            raise FaultError("memory", f"{what} took {peak} bytes for {len(data)}")
        return result


@contextmanager
def _peak(wanted: bool) -> Iterator[list[int]]:
    """A list that holds the most bytes that were allocated, once the context is left."""
    peaks: list[int] = []
    if wanted:
        tracemalloc.start()
    try:
        yield peaks
    finally:
        if wanted:
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()


@contextmanager
def ended_after(seconds: float) -> Iterator[None]:
    """Ends what takes longer than that, in processor time of this process, by a FaultError."""

    def stop(*_: object) -> None:
        raise FaultError("slow", f"not done after {seconds} s")

    signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def told(error: ScpatchError) -> str:
    """The code of an error, which must say something."""
    if not error.message or not error.code:
        raise FaultError("message", f"an error without a message: {error!r}")
    return error.code


def one_way(exercise: Exercise, data: bytes, number: int, partner: bytes) -> str:
    """Puts `data` through the mode of a number; `partner` is an object to be proven beside it.

    An archive is planned, in place and elsewhere by turns. The numbers behind those of MODES are
    `advise`, and the proof with the input as the second and as the first of two objects.
    """
    mode = MODES[number % len(MODES)]
    if is_archive(data):
        return exercise.archive(data, mode, elsewhere=bool(number & 1))
    last = number - len(MODES)
    if last < 0:
        return exercise.rewrite(data, mode)
    if last == 0:
        return exercise.advise(data)
    before, after = (partner, data) if last % 2 else (data, partner)
    linked = is_linked(memoryview(data))
    proof = exercise.images(before, after) if linked else exercise.prove(before, after, mode)
    return "not proven" if proof.errors else "proven"


NUMBERS = len(MODES) + 3
"""How many ways `one_way` has."""
