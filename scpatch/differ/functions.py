"""Finds the functions that differ between two objects, and makes their rows."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from operator import attrgetter

from scpatch.differ.align import Span, align
from scpatch.differ.disassembly import prepare, suffixes, text_of
from scpatch.differ.model import (
    CodeRow,
    FunctionDiff,
    Hunk,
    Instruction,
    Mark,
    Range,
    Role,
    Token,
    Totals,
)
from scpatch.differ.names import CodeSection, ObjectNames
from scpatch.differ.pairs import Pairing, functions_by_name, pair_functions
from scpatch.sites.actions import Action, Common
from scpatch.sites.model import Scan, Site

_CHECKED: Mapping[Action, str] = {
    Common.DONE: "restored already",
    Common.LINKER: "the linker's",
    Common.LOADER: "the module loader's",
    Common.NOTOC: "does not need r2",
}


_site_place = attrgetter("section", "offset")


@dataclass(frozen=True)
class Side:
    """One of the two objects."""

    names: ObjectNames
    scan: Scan

    @cached_property
    def code(self) -> Callable[[int], CodeSection]:
        """Section -> its code, which is read once."""
        return cache(partial(CodeSection, self.names))

    @cached_property
    def _sites(self) -> Sequence[Site]:
        return sorted(self.scan.sites, key=_site_place)

    def sites(self, code: Range) -> Sequence[Site]:
        """The call sites in a range."""
        limits = (code.section, code.start), (code.section, code.end)
        start, end = (bisect_left(self._sites, limit, key=_site_place) for limit in limits)
        return self._sites[start:end]

    @cached_property
    def stubs(self) -> Mapping[tuple[int, int], str]:
        """(section, offset) -> what the stub there is for."""
        calls = Counter(site.symbol for site in self.scan.sites)
        return {
            (stub.section, stub.value): ("thunk" if stub.is_thunk else "stub")
            + (f" for {calls[stub.symbol]} call site" + "s" * (calls[stub.symbol] != 1))
            for stub in self.scan.stubs
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two objects, and how to compare their functions."""

    before: Side
    after: Side
    same_symbols: bool
    """Every symbol index means the same in both."""
    context: int
    """The number of unchanged instructions before and after changed ones."""

    def functions(self, code: Pairing[int]) -> list[FunctionDiff]:
        """The functions that differ in the code sections, in the order of the second object."""
        matched: list[tuple[Range, Range]] = []
        removed = [part for index in code.removed for part in self.before.names.ranges(index)]
        added = [part for index in code.added for part in self.after.names.ranges(index)]
        for i, j in code.pairs:
            pairing = pair_functions(self.before.names.ranges(i), self.after.names.ranges(j))
            matched += pairing.pairs
            removed += pairing.removed
            added += pairing.added
        # What is left may have moved to another section; code without a name has not.
        has_name = attrgetter("name")
        moved = functions_by_name(filter(has_name, removed), filter(has_name, added))
        paired = {id(part) for pair in moved.pairs for part in pair}
        functions = [self._pair(*pair) for pair in (*matched, *moved.pairs)]
        for part in removed:
            if id(part) not in paired:
                gone = Span(False, 0, part.words, 0, 0)
                functions.append(self._function(part, None, [gone], "removed"))
        for part in added:
            if id(part) not in paired:
                came = Span(False, 0, 0, 0, part.words)
                note = self.after.stubs.get((part.section, part.start), "added")
                functions.append(self._function(None, part, [came], note))
        differing = sorted(filter(None, functions), key=_place)
        prepare(word for function in differing for word in self._words(function))
        return differing

    def _words(self, function: FunctionDiff) -> Iterator[int]:
        """The words of both versions of a function."""
        for side, part in ((self.before, function.before), (self.after, function.after)):
            if part is not None:
                yield from side.code(part.section).words(part)

    def _pair(self, before: Range, after: Range) -> FunctionDiff | None:
        """The difference of two functions; None if there is none and no site is refused."""
        old, new = self.before.code(before.section), self.after.code(after.section)
        moved = before.section_name != after.section_name
        note = f"moved from {before.section_name}" if moved else ""
        same = old.same(before, new, after, same_symbols=self.same_symbols)
        if not same:
            return self._function(before, after, align(old.keys(before), new.keys(after)), note)
        if moved or any(map(_is_refused, self.after.sites(after))):
            whole = Span(True, 0, before.words, 0, before.words)
            return self._function(before, after, [whole], note)
        return None

    def _function(
        self, before: Range | None, after: Range | None, spans: Sequence[Span], note: str
    ) -> FunctionDiff:
        sites = self.after.sites(after) if after else self.before.sites(before) if before else ()
        differing = [span for span in spans if not span.equal]
        changed = sum(span.i2 - span.i1 for span in differing if span.even)
        added = sum(span.j2 - span.j1 for span in differing if not span.even)
        removed = sum(span.i2 - span.i1 for span in differing if not span.even)
        differs = bool(changed or added or removed or note)
        refused = sum(map(_is_refused, sites))
        counts = Totals(differs, changed, added, removed, len(sites), refused)
        hunks = partial(self._hunks, before, after, spans)
        return FunctionDiff(before, after, counts, note, "", hunks)

    def _hunks(
        self, before: Range | None, after: Range | None, spans: Sequence[Span]
    ) -> Iterator[Hunk]:
        """The rows that differ or hold a refused site, with the rows next to them."""
        old, new = _Listing(self.before, before), _Listing(self.after, after)
        sites = {}
        if after is not None:
            sites = {(site.offset - after.start) // 4: site for site in self.after.sites(after)}
        pairs = [pair for span in spans for pair in span.pairs]
        context = self.context if before and after else 0
        wanted = {
            near
            for index, (_, j, equal) in enumerate(pairs)
            if not equal or (j in sites and _is_refused(sites[j]))
            for near in range(max(index - context, 0), min(index + context + 1, len(pairs)))
        }
        rows: list[CodeRow] = []
        for index in sorted(wanted):
            if rows and index - 1 not in wanted:
                yield rows
                rows = []
            i, j, equal = pairs[index]
            site = None if j is None else sites.get(j)
            rows.append(_row(old.at(i), new.at(j), site, equal=equal))
        if rows:
            yield rows


def _place(function: FunctionDiff) -> tuple[int, int, bool]:
    return function.range.section, function.range.start, function.after is not None


def _is_refused(site: Site) -> bool:
    return site.state is Common.REFUSED


class _Listing:
    """Makes the instructions of one function; of None there are none."""

    def __init__(self, side: Side, code: Range | None) -> None:
        if code is None:
            return
        section = side.code(code.section)
        self._label = partial(side.names.label, code.section, inside=code)
        self._code = code
        self._encoding = side.names.elf.encoding
        self._words = section.words(code)
        self._relocations = section.relocations(code)
        self._suffixes = list(suffixes(self._words))

    def at(self, index: int | None) -> Instruction | None:
        if index is None:
            return None
        word, relocations = self._words[index], self._relocations[index]
        offset = self._code.start + 4 * index
        size = min(self._code.end - offset, 4)
        if size < 4:
            rest = self._encoding.pack(word, size)
            data = ",".join(f"{byte:#04x}" for byte in rest)
            tokens: tuple[Token, ...] = Token(Role.MNEMONIC, ".byte"), Token(Role.OPERAND, data)
        else:
            suffix = self._suffixes[index]
            tokens = text_of(word, offset, relocations, self._label, suffix=suffix)
        return Instruction(offset, 4 * index, word, tokens, relocations, size)


def _row(
    before: Instruction | None, after: Instruction | None, site: Site | None, *, equal: bool
) -> CodeRow:
    refused = site is not None and _is_refused(site)
    note = f"{site.code} {site.detail}: left as it is" if site and refused else ""
    if before is None or after is None:
        return CodeRow(Mark.ADDED if before is None else Mark.REMOVED, before, after)
    if not equal:
        same_word = (before.word, before.size) == (after.word, after.size)
        return CodeRow(Mark.RELOCATION if same_word else Mark.WORD, before, after, note)
    if refused:
        return CodeRow(Mark.REFUSED, before, after, note)
    if site is not None and not site.state.changes:
        note = _CHECKED.get(site.state, site.state.words)
        return CodeRow(Mark.CHECKED, before, after, note)
    return CodeRow(Mark.CONTEXT, before, after)
