"""What the proof asks of a strategy: why its calls are right, and what it may add and change."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from scpatch.verifier.objects.calls import Site
from scpatch.verifier.objects.read import STB_GLOBAL, STB_WEAK, Place, Symbol
from scpatch.verifier.search.frame import Code
from scpatch.verifier.types import Common, Reason, SiteProof

Spans = list[tuple[int, range]]
"""Bytes of the file that may differ: sections, and section offsets in them."""


class Judgement(NamedTuple):
    """Why r2 is right after one call of one object, or why not."""

    reason: Reason
    why: str
    paca_toc: int | None = None
    """Where in the PACA r2 is loaded from, in bytes."""


class Surroundings(NamedTuple):
    """What is known beside a file that is judged alone."""

    for_image: bool = False
    """It is, or will be linked into, the kernel's image."""
    paca_toc: int | None = None
    """PACATOC, from r13, in bytes; None: unknown."""
    livepatch: tuple[int | None, int | None] = (None, None)
    """Where the thread_info is in the PACA and livepatch_sp in that, in bytes; None: unknown."""


class Block(NamedTuple):
    """Appended code with a symbol of its own."""

    symbol: Symbol
    size: int
    fault: str
    """What is wrong with it; empty if nothing is."""
    binding: int = STB_GLOBAL
    relocations: Mapping[Place, int] = {}
    """The relocations that it needs, with their types."""


class Load(NamedTuple):
    """A load of r2 from the PACA. `where` is for messages."""

    where: str
    offset: int


@dataclass(frozen=True, eq=False)
class Strategy:
    """One strategy's part of the proof on two objects; by default it does nothing at all."""

    before: Code = field(repr=False)
    after: Code = field(repr=False)

    name: ClassVar[str]
    reasons: ClassVar[Collection[Reason]] = ()
    """The states of the calls that it patches or serves."""
    code_name: ClassVar[re.Pattern[str] | None] = None
    """The names of the code that it appends to sections."""
    patches_images: ClassVar[bool] = False
    """Whether it may patch the calls of a linked image."""
    not_in_images: ClassVar[str] = ""
    """Why the calls of a linked image do not show that they are right; empty if they do."""

    def judge_trampoline(self, code: Code, site: Site) -> Judgement | None:
        """Why a call is right by its trampoline alone, whatever form it has and whatever follows
        it; None if it is not."""
        return None

    def judge(self, code: Code, site: Site) -> Judgement | None:
        """Why r2 is right after a call, or wrong; None if it is not this strategy's to say."""
        return None

    @classmethod
    def judge_in_image(cls, word: int, stub: str) -> tuple[Reason, str] | None:
        """The same for a linked image: `word` follows the call, `stub` is the name of the function
        that the call goes to, if that saves r2."""
        return None

    def judge_alone(
        self, site: Site, found: Judgement, known: Surroundings
    ) -> tuple[Reason, str] | None:
        """What speaks against a call that `judge` has found right, if there is no file before to
        compare with: it is wrong or open, and why. None if nothing does. `before` and `after` are
        then the same."""
        return None

    def faults_alone(self) -> Iterator[str]:
        """One sentence for each fault of such a file that is none of a single call."""
        yield from ()

    def changed_words(self, site: Site) -> list[Place]:
        """The words of a changed call that may differ."""
        return changed_words(site)

    def call_faults(self, was: Site, now: Site, reason: Reason) -> Iterator[str]:
        """What a changed call may not have become, or what may not have changed."""
        yield from ()

    def may_undo(self, was: Site, now: Site) -> bool:
        """Whether a call after which r2 was right may have been changed."""
        return False

    def describe(self, proof: SiteProof, was: Site, now: Site) -> SiteProof:
        """A site, completed by what only this strategy knows of it."""
        return proof

    def symbols_that_differ(self) -> frozenset[int]:
        """The numbers of the symbols whose st_other may differ."""
        return frozenset()

    @property
    def appended(self) -> dict[Place, Symbol]:
        """The appended symbols that have the name of its code."""
        pattern, first = self.code_name, len(self.before.calls.image.symbols)
        return {
            Place(symbol.section, symbol.value): symbol
            for symbol in self.after.calls.image.symbols[first:]
            if symbol.section > 0 and pattern is not None and pattern.fullmatch(symbol.name)
        }

    def blocks(self) -> Mapping[Place, Block]:
        """The code that it may have appended, by place."""
        return {}

    def spans(self) -> Spans:
        """The old bytes that may differ, apart from the calls."""
        return []

    def faults(self, *, changed: bool) -> Iterator[str]:
        """One sentence for whatever else is not as this strategy leaves it. `changed` says that
        calls were changed."""
        yield from ()

    def is_applied(self, states: Collection[Reason], changed: Collection[Reason]) -> bool:
        """Whether this strategy was applied: by the states of all calls, and those of the changed
        ones."""
        return any(state in self.reasons for state in states)

    def loads(self) -> Iterator[Load]:
        """The loads of r2 from the PACA that do not follow a call."""
        yield from ()

    def livepatch_offsets(
        self, wanted: tuple[int | None, int | None]
    ) -> tuple[tuple[int, int] | None, list[str]]:
        """Where the code looks for the thread_info and for livepatch_sp, and a sentence for each
        piece that looks elsewhere than the first, or than `wanted`."""
        return None, []


def changed_words(site: Site) -> list[Place]:
    """The words that may differ if the nop after a call became a restore. Of a call that the
    assembler has resolved, the branch itself may go elsewhere; else its relocation does."""
    return [site.following, *([site.place] if site.resolved else [])]


def change_fault(code: Code, site: Site) -> str:
    """Why the word after a call may not be what it seems, or run without the call; else empty."""
    if code.calls.fields_in(site.following):
        return "a relocation applies to the word after the call"
    if reason := code.entries.changes.apart(site.following):
        return f"the kernel patches the call and its restore apart: {reason}"
    return ""


def restore_fault(code: Code, site: Site) -> str:
    """Why the `ld r2,24(r1)` after a call is not executed as the restore of this call alone."""
    if fault := change_fault(code, site):
        return fault
    if reason := code.entries.entered(site.following):
        return f"the restore may run without the call: {reason}"
    return ""


def only_the_nop(was: Site, now: Site) -> Iterator[str]:
    """That the relocation of a call is as it was."""
    if was.rela != now.rela:
        yield "only the nop had to change, but the call's relocation was changed"


def open_definition(site: Site, why: str) -> tuple[Reason, str] | None:
    """What speaks against a call that is right because of its trampoline's code or mark."""
    if site.trampoline.symbol.binding != STB_WEAK:
        return None
    return Common.OPEN, f"{why}, but it is weak: the link may take that of another object instead"


def open_load(offset: int, known: Surroundings) -> tuple[Reason, str] | None:
    """What speaks against a load of r2 from the PACA, if only the kernel's asm-offsets.h says
    whether it is from PACATOC; None if nothing does."""
    if known.paca_toc is None:
        why = f"r2 is loaded from {offset}(r13); --asm-offsets says whether that is PACATOC"
        return Common.OPEN, why
    if offset != known.paca_toc:
        return Common.WRONG, f"r2 is loaded from {offset}(r13), not {known.paca_toc}(r13)"
    return None
