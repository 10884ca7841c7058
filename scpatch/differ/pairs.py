"""What belongs together in two versions: sections, symbols, functions.

Names decide. If a function's symbol exists on one side only, because a tool has stripped or renamed
it, the code around it tells: without its symbol a function runs into the one before it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Generic, NamedTuple, TypeVar

from scpatch.differ.model import Range

T = TypeVar("T")


class Named(NamedTuple, Generic[T]):
    """Something to find a partner for."""

    name: str
    place: Hashable
    """What tells it from others of its name."""
    value: T


@dataclass(slots=True)
class Pairing(Generic[T]):
    pairs: list[tuple[T, T]] = field(default_factory=list)
    removed: list[T] = field(default_factory=list)
    added: list[T] = field(default_factory=list)


def by_name(
    before: Iterable[Named[T]], after: Iterable[Named[T]], *, same_first: bool = False
) -> Iterator[tuple[Named[T] | None, Named[T] | None]]:
    """Pairs of the same name, in order if a name repeats; None for what has no partner.

    Those with the same place go together first if a name repeats more often on one side, or if
    `same_first`.
    """
    ours, theirs = _grouped(before), _grouped(after)
    for name in ours | theirs:
        old, new = ours.get(name, []), theirs.get(name, [])
        if same_first or len(old) != len(new):
            waiting: dict[Hashable, list[Named[T]]] = defaultdict(list)
            for item in reversed(new):
                waiting[item.place].append(item)
            pairs = [(item, waiting[item.place].pop()) for item in old if waiting[item.place]]
            yield from pairs
            paired = {id(item) for pair in pairs for item in pair}
            old, new = ([item for item in rest if id(item) not in paired] for rest in (old, new))
        yield from zip_longest(old, new)


def _grouped(items: Iterable[Named[T]]) -> dict[str, list[Named[T]]]:
    groups: dict[str, list[Named[T]]] = defaultdict(list)
    for item in items:
        groups[item.name].append(item)
    return groups


def pair_by_name(before: Iterable[Named[T]], after: Iterable[Named[T]]) -> Pairing[T]:
    pairing: Pairing[T] = Pairing()
    for old, new in by_name(before, after):
        if old and new:
            pairing.pairs.append((old.value, new.value))
        elif old:
            pairing.removed.append(old.value)
        elif new:
            pairing.added.append(new.value)
    return pairing


def functions_by_name(before: Iterable[Range], after: Iterable[Range]) -> Pairing[Range]:
    ours = (Named(code.name, code.start, code) for code in before)
    return pair_by_name(ours, (Named(code.name, code.start, code) for code in after))


def pair_functions(before: Sequence[Range], after: Sequence[Range]) -> Pairing[Range]:
    """Pairs the functions of one section in two versions."""
    if not before or not after:
        return Pairing([], list(before), list(after))
    named = functions_by_name(before, after)
    first, other = before[0], after[0]
    if not (first.name and other.name) and first in named.removed and other in named.added:
        # Code before the first symbol on either side.
        named.pairs.append((first, other))
        named.removed.remove(first)
        named.added.remove(other)
    old = _merged(before, {id(code): partner for code, partner in named.pairs})
    new = _merged(after, {id(partner): code for code, partner in named.pairs})
    return _by_place(
        Pairing(
            [(old[id(code)], new[id(partner)]) for code, partner in named.pairs],
            [code for code in named.removed if id(code) in old],
            [code for code in named.added if id(code) in new],
        )
    )


def _merged(ranges: Sequence[Range], partners: dict[int, Range]) -> dict[int, Range]:
    """Each range by its id, grown over what follows it: it swallows ranges without a partner as
    long as its own partner is longer. Swallowed ranges are missing."""
    merged: dict[int, Range] = {}
    head: Range | None = None
    for code in ranges:
        if id(code) in partners:
            head = code
        elif head is not None:
            if code.end - head.start <= partners[id(head)].size:
                merged[id(head)] = replace(merged[id(head)], end=code.end)
                continue
            head = None
        merged[id(code)] = code
    return merged


def _by_place(named: Pairing[Range]) -> Pairing[Range]:
    """Pairs what is left over between the same two neighbours and has the same size: it was
    renamed."""
    follows = {code.end: partner.end for code, partner in named.pairs} | {0: 0}
    waiting = {code.start: code for code in named.added}
    removed: list[Range] = []
    for code in named.removed:
        partner = waiting.get(follows.get(code.start, -1))
        if partner is not None and partner.size == code.size:
            del waiting[partner.start]
            named.pairs.append((code, partner))
            follows[code.end] = partner.end
        else:
            removed.append(code)
    return Pairing(named.pairs, removed, [code for code in named.added if code.start in waiting])
