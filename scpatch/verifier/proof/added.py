"""What a rewrite appended: stubs, their symbols and relocations, and nothing besides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from scpatch.verifier.objects.calls import Calls
from scpatch.verifier.objects.insn import Flow, flow, target
from scpatch.verifier.objects.read import (
    RELA_SIZE,
    SHN_LIVEPATCH,
    STB_GLOBAL,
    STB_LOCAL,
    STB_WEAK,
    STT_FUNC,
    Place,
    Section,
    Symbol,
)
from scpatch.verifier.objects.relocations import REL24
from scpatch.verifier.objects.stubs import STUB_NAME, Stub, read_stub, unescaped
from scpatch.verifier.objects.variant import REACH, B
from scpatch.verifier.reasons import livepatch_stack as livepatch
from scpatch.verifier.search.entries import Entries

_HIDDEN = 2
_STUB_SIZE = 8
_MAX_PADDING = 4


class Block(Protocol):
    """Appended code with a symbol of its own that is no stub. `fault` says what is wrong with it;
    `relocations` are those that it needs, with their types."""

    @property
    def symbol(self) -> Symbol: ...
    @property
    def size(self) -> int: ...
    @property
    def fault(self) -> str: ...
    @property
    def relocations(self) -> Mapping[Place, int]: ...


@dataclass(frozen=True, eq=False)
class Added:
    """The two objects, and what the second has more than the first."""

    before: Calls
    after: Calls
    blocks: Mapping[Place, Block] = field(default_factory=dict)
    """Other appended code than stubs."""

    @cached_property
    def symbols(self) -> tuple[Symbol, ...]:
        """The symbols that were appended."""
        return self.after.image.symbols[len(self.before.image.symbols) :]

    @cached_property
    def stubs(self) -> dict[Place, Stub]:
        """The appended stubs, by place."""
        return {
            Place(symbol.section, symbol.value): read_stub(self.after, symbol)
            for symbol in self.symbols
            if symbol.section > 0 and STUB_NAME.fullmatch(symbol.name)
        }

    @cached_property
    def code_in(self) -> dict[int, dict[int, Stub | Block]]:
        """The appended stubs and blocks of each section, by section offset."""
        found: dict[int, dict[int, Stub | Block]] = {}
        everything: dict[Place, Stub | Block] = {**self.stubs, **self.blocks}
        for place, one in everything.items():
            found.setdefault(place.section, {})[place.offset] = one
        return found

    @cached_property
    def old_entries(self) -> Entries:
        """The ways into the code as it was before."""
        return Entries(self.before)

    @cached_property
    def livepatch(self) -> livepatch.Change:
        return livepatch.Change(self.before, self.after)

    def old_size(self, section: int) -> int:
        return self.before.image.sections[section].size


def check(added: Added) -> Iterator[str]:
    """One sentence for each appended thing that is no part of a stub that a call uses."""
    yield from _symbols(added)
    used = {site.stub.place for site in added.after.sites.values() if site.stub is not None}
    for place, stub in added.stubs.items():
        where = added.after.image.where(place)
        if stub.fault:
            yield f"{where}: {stub.symbol.name} is no good stub: {stub.fault}."
        elif place not in used:
            yield f"{where}: no call uses the stub {stub.symbol.name}."
    for place, block in added.blocks.items():
        if block.fault:
            where = added.after.image.where(place)
            yield f"{where}: {block.symbol.name} is no good: {block.fault}."
    yield from _doubles(added)
    for section in added.before.image.code:
        yield from _code(added, section)
        yield from _relocations(added, section)


def _symbols(added: Added) -> Iterator[str]:
    old_names = {symbol.name for symbol in added.before.image.symbols}
    seen: set[str] = set()
    for symbol in added.symbols:
        label = f"symbol {symbol.number} ({symbol.name})"
        place = Place(symbol.section, symbol.value)
        if symbol.number in added.livepatch.symbols:
            continue
        one = added.stubs.get(place) or added.blocks.get(place)
        if one is None or symbol is not one.symbol:
            yield f"{label} was appended and names no stub."
            continue
        if symbol.name in old_names or symbol.name in seen:
            yield f"{label} was appended though its name was there already."
        seen.add(symbol.name)
        if symbol.type != STT_FUNC or symbol.other != _HIDDEN or symbol.size != one.size:
            yield f"{label} must be a hidden function of {one.size} bytes with st_other 2."
        if place.offset < added.old_size(place.section):
            yield f"{label} lies in code that was there before."
        if isinstance(one, Stub):
            yield from _attributes(added, one, label)
        elif symbol.binding != STB_GLOBAL:
            yield f"{label} must be global."


def _attributes(added: Added, stub: Stub, label: str) -> Iterator[str]:
    symbol, trampoline = stub.symbol, stub.trampoline
    if trampoline is None:
        return
    # Of two weak ones the linker takes the first for both: right only where both would do the
    # same, which a thunk that returns elsewhere does not, nor a stub whose branch is named by what
    # is another thing in another object: a local trampoline, or any symbol that is none.
    rela, _ = added.after.branches[stub.branch]
    shared = [
        one
        for one in added.after.trampolines[trampoline.place]
        if one.symbol.number == rela.symbol and one.symbol.binding != STB_LOCAL
    ]
    alone = not shared or stub.size != _STUB_SIZE
    if symbol.binding != (STB_GLOBAL if alone else STB_WEAK):
        yield f"{label} must be {'global' if alone else 'weak'}."
    name = STUB_NAME.fullmatch(symbol.name)
    names = {named.symbol.name for named in added.after.trampolines[trampoline.place]}
    if name is None or unescaped(name[2]) not in names:
        yield f"{label} leads to {trampoline.symbol.name}."


def _doubles(added: Added) -> Iterator[str]:
    seen: dict[tuple[int, int, int], Stub] = {}
    for stub in added.stubs.values():
        if stub.thunk or stub.trampoline is None:
            continue
        # By what the branch names: one place may have several names.
        rela, _ = added.after.branches[stub.branch]
        key = stub.place.section, rela.symbol, rela.addend
        if key in seen:
            first, where = seen[key].symbol.name, added.after.image.where(stub.place)
            yield f"{where}: {stub.symbol.name} does what {first} does."
        seen.setdefault(key, stub)


def _code(added: Added, section: Section) -> Iterator[str]:
    """The appended bytes of a code section: padding, a branch over the stubs, the stubs."""
    end = added.after.image.sections[section.number].size
    if end == section.size:
        return
    tail = added.after.image.content(section.number)[section.size :]
    start = (section.size + _MAX_PADDING - 1) // _MAX_PADDING * _MAX_PADDING
    if any(tail[: start - section.size]):
        yield f"{section.name}+{section.size:#x}: the padding before the stubs is not zero."
    here = {at: one.size for at, one in added.code_in.get(section.number, {}).items()}
    here |= added.livepatch.added.get(section.number, {})
    if start not in here:
        place = Place(section.number, start)
        word = added.after.word(place)
        over = flow(word) is Flow.JUMP and target(word, start) == end
        if not over or place in added.after.branches:
            yield f"{section.name}+{start:#x}: no stub, and no branch over the appended code."
        start += 4
    elif _falls_through(added, section):
        yield f"{section.name}+{start:#x}: the code before may run on into the stub."
    while start in here:
        start += here[start]
    if start != end:
        yield f"{section.name}+{start:#x}: bytes were appended that are no stub."


def _falls_through(added: Added, section: Section) -> bool:
    """Whether control may run off the old end of a section.

    It cannot where the last words lie behind a branch or an illegal instruction and nothing leads
    to them: padding, or the traceback table behind a function. Primary opcode 0 is illegal, and
    so is what zeros make of an incomplete word at the end (Power ISA, appendix on opcode maps).
    """
    if section.size % 4:
        return False
    words = added.before.words(section.number)
    for at in range(len(words) - 1, -1, -1):
        if words[at] >> 26 == 0 or flow(words[at]) in (Flow.JUMP, Flow.LEAVES):
            return False
        if added.old_entries.entered(Place(section.number, at * 4)):
            return True
    return bool(words)


def _relocations(added: Added, section: Section) -> Iterator[str]:
    """The appended relocations of a code section: one REL24 for each stub's branch, and what other
    code needs."""
    image = added.after.image
    wanted: dict[Place, int] = {}
    for one in added.code_in.get(section.number, {}).values():
        wanted |= {one.branch: REL24} if isinstance(one, Stub) else one.relocations
    for table in added.before.image.rela_sections.get(section.number, ()):
        old, new = added.old_size(table), image.sections[table].size
        if (new - old) % RELA_SIZE:
            yield f"{image.sections[table].name}: part of a relocation was appended."
        for rela in image.relas(table)[old // RELA_SIZE :]:
            place = Place(section.number, rela.offset)
            if wanted.pop(place, None) != rela.type:
                yield f"{image.where(place)}: a relocation was appended that no stub needs."
            if image.symbols[rela.symbol].shndx == SHN_LIVEPATCH:
                yield f"{image.where(place)}: only a livepatch table may name such a symbol."
    for place in sorted(wanted):
        yield f"{image.where(place)}: the stub has no relocation of its own."


def thunk_returns(calls: Calls, stub: Stub, to: int) -> bool:
    """Whether a thunk's last instruction branches to the section offset `to`, by itself."""
    last = Place(stub.place.section, stub.place.offset + stub.size - 4)
    word = calls.word(last)
    return (
        word & ~0x3FFFFFC == B and last not in calls.branches and (target(word, last.offset) == to)
    )


def reaches(source: Place, destination: Place) -> bool:
    """Whether a branch at `source` reaches `destination`, in the same section."""
    distance = destination.offset - source.offset
    return source.section == destination.section and -REACH <= distance < REACH
