"""Is every static call of one file right? Asked of this file alone, without the one before.

A call is right if the file shows that r2 survives it, whatever the trampoline's target is. Where
that depends on another file, or on a fact about the kernel that nobody has told, the call is
`Common.OPEN`: not shown, and not wrong. The reasons are those of the proof. What the proof would
see by comparing two files, `judge_alone` of a strategy asks of the one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache, cached_property, partial
from pathlib import Path

from scpatch.verifier.linked import prove_link
from scpatch.verifier.linked.image import find_trampolines, read_image
from scpatch.verifier.objects import decoder, record
from scpatch.verifier.objects.calls import Site, find_calls
from scpatch.verifier.objects.forms import has_intermediate, read_object
from scpatch.verifier.objects.insn import Flow, flow
from scpatch.verifier.objects.read import Place, UnreadableError, is_linked
from scpatch.verifier.objects.variant import NOPS, STD_R2
from scpatch.verifier.proof import look_again
from scpatch.verifier.proof.added import falls_through
from scpatch.verifier.proof.change import save_fault
from scpatch.verifier.reasons import judge, strategies
from scpatch.verifier.reasons.interface import (
    Judgement,
    Strategy,
    Surroundings,
    open_load,
    restore_fault,
)
from scpatch.verifier.search.frame import Code
from scpatch.verifier.search.object_entries import ObjectEntries
from scpatch.verifier.types import Checkers, Common, Reason, SiteProof
from scpatch.verifier.verdict import Result, worst


class Kind(StrEnum):
    OBJECT = "object"
    MODULE = "module"
    """A linked kernel module: the module loader is next."""
    IMAGE = "image"
    """A linked image, such as vmlinux."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedCall:
    """One call site, and why r2 is right after it, or not. Offsets are in bytes."""

    section: int
    section_name: str
    offset: int
    """Section offset of the branch."""
    function: str
    function_offset: int
    trampoline: str
    reason: Reason
    why: str

    @property
    def state(self) -> Reason:
        """What reports select calls by."""
        return self.reason

    @property
    def result(self) -> Result:
        if self.reason.right:
            return Result.PROVEN
        is_open = self.reason in (Common.RESTORED, Common.OPEN)
        return Result.NOT_SHOWN if is_open else Result.NOT_PROVEN


@dataclass(frozen=True, slots=True)
class CheckVerdict:
    """What `check` says of one object, module or image."""

    label: str
    """The file's name, for a member `ARCHIVE(MEMBER)`."""
    kind: Kind
    calls: tuple[CheckedCall, ...] = ()
    """In the order of section and offset."""
    errors: tuple[str, ...] = ()
    """A sentence for each reason why the file as a whole cannot be judged."""
    trampolines: tuple[str, ...] = ()
    """The names that match."""
    strategies: tuple[str, ...] = ()
    """Those that it says it was rewritten with."""
    checkers: Checkers = Checkers()  # noqa: RUF009
    intermediate: bool = False
    """It also holds what a link with LTO would compile in place of its machine code."""
    unreadable: bool = False
    """It cannot be judged; the error says why."""

    @property
    def result(self) -> Result:
        """The worst of its calls; not shown if it cannot be judged."""
        errors = [Result.NOT_SHOWN for _ in self.errors]
        return worst([call.result for call in self.calls] + errors)

    @property
    def proven(self) -> bool:
        """Whether every call is shown to be right."""
        return self.result is Result.PROVEN


def check(path: Path, label: str, trampolines: Sequence[str], known: Surroundings) -> CheckVerdict:
    """The verdict on one file, which messages call `label`. Raises OSError."""
    kind = Kind.IMAGE if is_linked(path) else Kind.OBJECT
    try:
        if kind is Kind.IMAGE:
            return _check_image(path, label, trampolines, known)
        return _check_object(path, label, trampolines, known)
    except UnreadableError as reason:
        return CheckVerdict(label, kind, errors=(f"{reason}.",), unreadable=True)


def _check_image(
    path: Path, label: str, trampolines: Sequence[str], known: Surroundings
) -> CheckVerdict:
    image = read_image(path)
    names = tuple(t.symbol.name for t in find_trampolines(image, trampolines).every_trampoline)
    noted = tuple(sorted(record.strategies(image)))
    verdict = CheckVerdict(label, Kind.IMAGE, trampolines=names, strategies=noted)
    if image.symtab and not names:
        checkers, errors = look_again(image)
        return replace(verdict, errors=errors, checkers=checkers)
    proof = prove_link((), path, trampolines, known.paca_toc)
    if not proof.sites:
        verdict = replace(verdict, errors=proof.errors, checkers=proof.checkers)
        return replace(verdict, unreadable=proof.unreadable)
    # A load from elsewhere is an error of the whole there; here it is one of its call.
    calls = tuple(_checked(site, *_in_image(site, known)) for site in proof.sites)
    checkers, errors = look_again(image)
    return replace(verdict, calls=calls, errors=errors, checkers=checkers)


def _in_image(site: SiteProof, known: Surroundings) -> tuple[Reason, str]:
    loads = site.right and site.state is not Common.NOTOC and site.paca_toc is not None
    return (open_load(site.paca_toc or 0, known) if loads else None) or (site.state, site.why)


def _checked(site: SiteProof, reason: Reason, why: str) -> CheckedCall:
    return CheckedCall(
        section=site.section,
        section_name=site.section_name,
        offset=site.offset,
        function=site.function,
        function_offset=site.function_offset,
        trampoline=site.trampoline,
        reason=reason,
        why=why,
    )


def _check_object(
    path: Path, label: str, trampolines: Sequence[str], known: Surroundings
) -> CheckVerdict:
    image = read_object(path)
    calls = find_calls(image, trampolines)
    # Even if there is nothing to follow, a symbol that was not read must be noticed.
    checkers, disagreements = look_again(image)
    if calls.trampolines:
        decoder.prepare(image.words)
    code = Code(ObjectEntries(calls))
    applied = [strategy(code, code) for strategy in strategies()]
    faults = (fault for strategy in applied for fault in strategy.faults_alone())
    errors = [*disagreements, *faults]
    if not image.symtab and any(section.size for section in image.code):
        errors.append("no symbol table: nothing can be said of its code.")
    checked = _Object(code, applied, known)
    return CheckVerdict(
        label,
        Kind.MODULE if calls.module else Kind.OBJECT,
        tuple(map(checked.call, calls.sites.values())),
        tuple(errors),
        tuple(trampoline.symbol.name for trampoline in calls.every_trampoline),
        tuple(sorted(calls.noted)),
        checkers,
        has_intermediate(image),
    )


@dataclass(frozen=True, eq=False)
class _Object:
    """The calls of one object, judged by it alone."""

    code: Code
    strategies: Sequence[Strategy]
    known: Surroundings

    def call(self, site: Site) -> CheckedCall:
        image, place = self.code.calls.image, site.place
        function = image.function_at(place)
        found = judge(self.strategies, self.code, site)
        reason, why = self._alone(site, found) or (found.reason, found.why)
        return CheckedCall(
            section=place.section,
            section_name=image.sections[place.section].name,
            offset=place.offset,
            function=function.name if function is not None else "",
            function_offset=place.offset - function.value if function is not None else 0,
            trampoline=site.trampoline.symbol.name,
            reason=reason,
            why=why,
        )

    def _alone(self, site: Site, found: Judgement) -> tuple[Reason, str] | None:
        """What speaks against what was found, now that there is nothing to compare with."""
        if not found.reason.right:
            return self._left_to_the_link(site, found)
        if found.reason is Common.LOADER and (fault := restore_fault(self.code, site)):
            return Common.WRONG, f"the module loader makes the nop a restore, and {fault}"
        if found.reason is Common.SAVED and (fault := self._save_fault(site)):
            return Common.OPEN, f"{found.why}, but {fault}"
        if site.stub is not None and self._is_run_into(site.stub.place):
            return Common.WRONG, f"the code before {site.stub.symbol.name} may run on into it"
        for strategy in self.strategies:
            if (answer := strategy.judge_alone(site, found, self.known)) is not None:
                return answer
        return None

    def _left_to_the_link(self, site: Site, found: Judgement) -> tuple[Reason, str] | None:
        """An unpatched call of a trampoline that another object defines. A module's loader makes it
        right; the linker of an image does so only for a marked trampoline."""
        calls, is_call = self.code.calls, flow(self.code.calls.word(site.place)) is Flow.CALL
        may_be_right = (
            found.reason is Common.WRONG
            and not (calls.module or site.trampoline.is_defined or site.trampoline.symbol.section)
            and site.stub is None
            and is_call
            and not site.distance
            and calls.word(site.following) in NOPS
        )
        if not may_be_right or self.known.for_image:
            return None
        why = "the trampoline is not defined here: the module loader saves r2 if this ends in"
        return Common.OPEN, f"{why} another module, nobody does if it ends in the kernel's image"

    def _save_fault(self, site: Site) -> str:
        """Why a save by the function itself may not be what it seems; else empty."""
        bad = self.code.saves_among(site.place, lambda place: bool(self._of_save(place)))
        return self._of_save(Place(site.place.section, bad[0])) if bad else ""

    def _of_save(self, place: Place) -> str:
        if self.code.calls.word(place) != STD_R2:
            return ""  # the call of a stub
        kernel = self.known.for_image or self.code.calls.module
        return save_fault(self.code, place, kernel=kernel)

    @cached_property
    def _is_run_into(self) -> Callable[[Place], bool]:
        """Whether the code before a stub may run on into it; found out once for each."""
        return cache(partial(falls_through, self.code))
