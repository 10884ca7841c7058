"""Finds the functions that differ between two objects, and makes their rows."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

from scpatch.differ.align import Span, align
from scpatch.differ.code import CodeSection
from scpatch.differ.disassembly import suffixes, text_of
from scpatch.differ.model import FunctionDiff, Hunk, Instruction, Kind, Mark, Range, Row, Segment
from scpatch.differ.names import Names
from scpatch.differ.pairs import Pairing, functions_by_name, pair_functions
from scpatch.ppc64.variant import VARIANT
from scpatch.sites.model import Action, Common, Scan, Site

_CHECKED: Mapping[Action, str] = {
    Common.DONE: "restored already",
    Common.LINKER: "the linker's",
    Common.LOADER: "the module loader's",
    Common.NOTOC: "does not need r2",
}


@dataclass(frozen=True)
class Side:
    """One of the two objects."""

    names: Names
    scan: Scan
    _sections: dict[int, CodeSection] = field(default_factory=dict)

    def code(self, section: int) -> CodeSection:
        if section not in self._sections:
            self._sections[section] = CodeSection(self.names, section)
        return self._sections[section]

    @cached_property
    def sites(self) -> Mapping[int, tuple[list[int], list[Site]]]:
        """Section -> offsets of its call sites in order, and the sites."""
        found: dict[int, tuple[list[int], list[Site]]] = {}
        for site in sorted(self.scan.sites, key=lambda one: (one.section, one.offset)):
            offsets, sites = found.setdefault(site.section, ([], []))
            offsets.append(site.offset)
            sites.append(site)
        return found

    def sites_in(self, one: Range) -> list[Site]:
        offsets, sites = self.sites.get(one.section, ([], []))
        return sites[bisect_left(offsets, one.start) : bisect_left(offsets, one.end)]

    @cached_property
    def stubs(self) -> Mapping[tuple[int, int], str]:
        """(section, offset) -> what a stub there is for."""
        calls = Counter(site.symbol for site in self.scan.sites)
        return {
            (stub.section, stub.value): ("thunk" if stub.is_thunk else "stub")
            + (f" for {calls[stub.symbol]} call site" + "s" * (calls[stub.symbol] != 1))
            for stub in self.scan.stubs
        }


def diff_functions(
    before: Side,
    after: Side,
    code: Pairing[int],
    *,
    same_symbols: bool,
    context: int,
) -> list[FunctionDiff]:
    """The functions that differ in the code sections `code`, in the order of the second object."""
    matched: list[tuple[Range, Range]] = []
    gone = [one for index in code.removed for one in before.names.ranges(index)]
    new = [one for index in code.added for one in after.names.ranges(index)]
    for i, j in code.pairs:
        pairing = pair_functions(before.names.ranges(i), after.names.ranges(j))
        matched += pairing.pairs
        gone += pairing.removed
        new += pairing.added
    # What is left may have moved to another section; code without a name has not.
    moved = functions_by_name(filter(_has_name, gone), filter(_has_name, new))
    kept = {id(one) for pair in moved.pairs for one in pair}
    found = [
        _changed(before, after, one, that, same_symbols=same_symbols, context=context)
        for one, that in [*matched, *moved.pairs]
    ]
    found += [_alone(before, one, Mark.REMOVED) for one in gone if id(one) not in kept]
    found += [_alone(after, one, Mark.ADDED) for one in new if id(one) not in kept]
    shown = [one for one in found if one is not None]
    return sorted(shown, key=_place)


def _has_name(one: Range) -> bool:
    return bool(one.name)


def _place(one: FunctionDiff) -> tuple[int, int, int]:
    return one.range.section, one.range.start, one.after is not None


def _alone(side: Side, one: Range, mark: Mark) -> FunctionDiff:
    """A function that only one object has."""
    words = (one.end - one.start + 3) // 4
    span = Span(False, 0, 0, 0, words) if mark is Mark.ADDED else Span(False, 0, words, 0, 0)
    new = mark is Mark.ADDED
    sites = side.sites_in(one)
    note = side.stubs.get((one.section, one.start), "") if new else ""
    return FunctionDiff(
        before=None if new else one,
        after=one if new else None,
        changed=0,
        added=words if new else 0,
        removed=0 if new else words,
        sites=len(sites),
        refused=sum(site.state is Common.REFUSED for site in sites),
        note=note or ("added" if new else "removed"),
        line="",
        hunks=partial(_hunks, side, side, one, one, (span,), 0),
    )


def _changed(
    before: Side, after: Side, one: Range, that: Range, *, same_symbols: bool, context: int
) -> FunctionDiff | None:
    """The difference of two functions; None where there is none and no site is refused."""
    ours, theirs = before.code(one.section), after.code(that.section)
    sites = after.sites_in(that)
    refused = sum(site.state is Common.REFUSED for site in sites)
    note = "" if one.section_name == that.section_name else f"moved from {one.section_name}"
    same = ours.same(one, theirs, that, same_symbols=same_symbols)
    if same and not refused and not note:
        return None
    words = (one.end - one.start + 3) // 4
    spans = [Span(True, 0, words, 0, words)] if same else align(ours.keys(one), theirs.keys(that))
    uneven = [s for s in spans if not s.equal and s.i2 - s.i1 != s.j2 - s.j1]
    return FunctionDiff(
        before=one,
        after=that,
        changed=sum(s.i2 - s.i1 for s in spans if not s.equal and s not in uneven),
        added=sum(s.j2 - s.j1 for s in uneven),
        removed=sum(s.i2 - s.i1 for s in uneven),
        sites=len(sites),
        refused=refused,
        note=note,
        line="",
        hunks=partial(_hunks, before, after, one, that, tuple(spans), context),
    )


def _hunks(
    before: Side, after: Side, one: Range, that: Range, spans: Sequence[Span], context: int
) -> Iterator[Hunk]:
    """The rows that differ or hold a refused site, with `context` rows around them."""
    pairs = list(_pairs(spans))
    sites = {(site.offset - that.start) // 4: site for site in after.sites_in(that)}
    wanted = {
        near
        for index, (i, j, equal) in enumerate(pairs)
        if not equal or (j in sites and sites[j].state is Common.REFUSED)
        for near in range(max(index - context, 0), min(index + context + 1, len(pairs)))
    }
    left, right = _Reader(before, one), _Reader(after, that)
    rows: list[Row] = []
    for index in sorted(wanted):
        if rows and index - 1 not in wanted:
            yield Hunk(tuple(rows))
            rows = []
        i, j, equal = pairs[index]
        site = sites.get(j) if j is not None else None
        rows.append(_row(left.at(i), right.at(j), site, equal=equal))
    if rows:
        yield Hunk(tuple(rows))


def _pairs(spans: Iterable[Span]) -> Iterator[tuple[int | None, int | None, bool]]:
    """(index before, index after, whether they are the same) for every row of a function."""
    for equal, i1, i2, j1, j2 in spans:
        if i2 - i1 == j2 - j1:
            yield from ((i, j, equal) for i, j in zip(range(i1, i2), range(j1, j2), strict=True))
        else:
            yield from ((i, None, False) for i in range(i1, i2))
            yield from ((None, j, False) for j in range(j1, j2))


class _Reader:
    """Makes the instructions of one function."""

    def __init__(self, side: Side, one: Range) -> None:
        code = side.code(one.section)
        self._names = side.names
        self._range = one
        self._words = code.words(one.start, one.end)
        self._references = code.references(one.start, one.end)
        self._suffixes = list(suffixes(self._words))

    def at(self, index: int | None) -> Instruction | None:
        if index is None:
            return None
        one = self._range
        offset = one.start + 4 * index
        instruction = Instruction(
            offset, 4 * index, self._words[index], (), self._references[index]
        )
        if one.end - offset < 4:
            size = one.end - offset
            rest = instruction.word.to_bytes(size, VARIANT.byte_order)
            shown = Segment(Kind.OPERAND, ",".join(f"{byte:#04x}" for byte in rest))
            return replace(instruction, size=size, text=(Segment(Kind.MNEMONIC, ".byte"), shown))
        label = partial(self._names.label, one.section, inside=one)
        text = text_of(
            instruction.word,
            offset,
            instruction.relocations,
            label,
            suffix=self._suffixes[index],
        )
        return replace(instruction, text=text)


def _row(
    before: Instruction | None, after: Instruction | None, site: Site | None, *, equal: bool
) -> Row:
    if before is None or after is None:
        return Row(Mark.ADDED if before is None else Mark.REMOVED, before, after)
    if not equal:
        words = (before.word, before.size), (after.word, after.size)
        mark = Mark.WORD if words[0] != words[1] else Mark.RELOCATION
        return Row(mark, before, after, _refusal(site))
    if site is not None and site.state is Common.REFUSED:
        return Row(Mark.REFUSED, before, after, _refusal(site))
    if site is not None and not site.state.changes:
        return Row(Mark.CHECKED, before, after, _CHECKED.get(site.state, site.state.words))
    return Row(Mark.CONTEXT, before, after)


def _refusal(site: Site | None) -> str:
    if site is None or site.state is not Common.REFUSED:
        return ""
    return f"{site.code} {site.detail}: left as it is"
