"""Which functions of two versions of a section belong together.

Names decide. Where a symbol exists on one side only, because a tool has stripped or renamed it, the
code around it tells: without its symbol a function runs into the one before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from scpatch.differ.model import Range


@dataclass(frozen=True, slots=True)
class Pairing:
    pairs: list[tuple[Range, Range]]
    removed: list[Range]
    added: list[Range]

    def leaves(self, one: Range, that: Range) -> bool:
        """Whether neither has a partner."""
        return one in self.removed and that in self.added


def pair_functions(before: Sequence[Range], after: Sequence[Range]) -> Pairing:
    """Pairs the functions of one section in two versions."""
    if not before or not after:
        return Pairing([], list(before), list(after))
    named = by_name(before, after)
    first = before[0], after[0]
    if not all(one.name for one in first) and named.leaves(*first):
        named.pairs.append(first)
        named.removed.remove(first[0])
        named.added.remove(first[1])
    old = _merged(before, {id(one): that for one, that in named.pairs})
    new = _merged(after, {id(that): one for one, that in named.pairs})
    found = [(old[id(one)], new[id(that)]) for one, that in named.pairs]
    left = [one for one in named.removed if id(one) in old]
    fresh = [that for that in named.added if id(that) in new]
    return _by_place(Pairing(found, left, fresh))


def by_name(before: Iterable[Range], after: Iterable[Range]) -> Pairing:
    """Functions of the same name belong together, in order where a name repeats.

    Where it repeats more often on one side, those at the same place go together first.
    """
    ours, theirs = _grouped(before), _grouped(after)
    found = Pairing([], [], [])
    for name, old in ours.items():
        new = theirs.pop(name, [])
        if len(old) != len(new):
            places = {that.start: that for that in new}
            same = [(one, places[one.start]) for one in old if one.start in places]
            found.pairs.extend(same)
            gone = {id(one) for pair in same for one in pair}
            old = [one for one in old if id(one) not in gone]
            new = [that for that in new if id(that) not in gone]
        found.pairs.extend(zip(old, new, strict=False))
        found.removed.extend(old[len(new) :])
        found.added.extend(new[len(old) :])
    found.added.extend(that for left in theirs.values() for that in left)
    return found


def _grouped(ranges: Iterable[Range]) -> dict[str, list[Range]]:
    found: dict[str, list[Range]] = {}
    for one in ranges:
        found.setdefault(one.name, []).append(one)
    return found


def _merged(ranges: Sequence[Range], partners: dict[int, Range]) -> dict[int, Range]:
    """Each range by its id, grown over what follows it: ranges without a partner are swallowed, as
    long as the partner is longer than what there is. Swallowed ones are missing."""
    found: dict[int, Range] = {}
    head: Range | None = None
    for one in ranges:
        if id(one) in partners:
            head = one
        elif head is not None:
            room = partners[id(head)]
            if one.end - head.start <= room.end - room.start:
                found[id(head)] = replace(found[id(head)], end=one.end)
                continue
            head = None
        found[id(one)] = one
    return found


def _by_place(found: Pairing) -> Pairing:
    """Pairs what is left over between the same two neighbours and has the same size: it has got
    another name."""
    follows = {one.end: that.end for one, that in found.pairs} | {0: 0}
    waiting = {that.start: that for that in found.added}
    removed: list[Range] = []
    for one in found.removed:
        that = waiting.get(follows.get(one.start, -1))
        if that is not None and that.end - that.start == one.end - one.start:
            del waiting[that.start]
            found.pairs.append((one, that))
            follows[one.end] = that.end
        else:
            removed.append(one)
    return Pairing(found.pairs, removed, [one for one in found.added if one.start in waiting])
