"""What a rewrite appended: blocks of code, their symbols and relocations, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from scpatch.verifier.objects.insn import Flow, flow, target
from scpatch.verifier.objects.read import RELA_SIZE, SHN_LIVEPATCH, STT_FUNC, Place, Section, Symbol
from scpatch.verifier.reasons.interface import Block
from scpatch.verifier.search.frame import Code

_HIDDEN = 2
_BINDINGS = "local", "global", "weak"
_MAX_PADDING = 4


@dataclass(frozen=True, eq=False)
class Added:
    """The two objects, and what the second has more than the first."""

    before: Code
    after: Code
    blocks: Mapping[Place, Block]

    @property
    def symbols(self) -> tuple[Symbol, ...]:
        """The symbols that were appended."""
        return self.after.calls.image.symbols[len(self.before.calls.image.symbols) :]

    @cached_property
    def by_section(self) -> dict[int, dict[int, Block]]:
        """The blocks of each section, by section offset."""
        by_section: dict[int, dict[int, Block]] = {}
        for place, block in self.blocks.items():
            by_section.setdefault(place.section, {})[place.offset] = block
        return by_section

    def old_size(self, section: int) -> int:
        return self.before.calls.image.sections[section].size


def check(added: Added) -> Iterator[str]:
    """One sentence for each appended thing that is not part of a good block."""
    yield from _symbols(added)
    for place, block in added.blocks.items():
        if block.fault:
            where = added.after.calls.image.where(place)
            yield f"{where}: {block.symbol.name} is no good: {block.fault}."
    for section in added.before.calls.image.code:
        yield from _code(added, section)
        yield from _relocations(added, section)


def _symbols(added: Added) -> Iterator[str]:
    names = {symbol.name for symbol in added.before.calls.image.symbols}
    for symbol in added.symbols:
        label = f"symbol {symbol.number} ({symbol.name})"
        place = Place(symbol.section, symbol.value)
        block = added.blocks.get(place)
        if block is None or symbol is not block.symbol:
            yield f"{label} was appended and names no appended code."
            continue
        if symbol.name in names:
            yield f"{label} was appended, and another symbol has its name."
        names.add(symbol.name)
        if symbol.type != STT_FUNC or symbol.other != _HIDDEN or symbol.size != block.size:
            yield f"{label} must be a hidden function of {block.size} bytes with st_other 2."
        if place.offset < added.old_size(place.section):
            yield f"{label} is in code that was there before."
        if symbol.binding != block.binding:
            yield f"{label} must be {_BINDINGS[block.binding]}."


def _code(added: Added, section: Section) -> Iterator[str]:
    """The appended bytes of a code section: padding, a branch over the blocks, the blocks."""
    calls = added.after.calls
    end = calls.image.sections[section.number].size
    if end == section.size:
        return
    tail = calls.image.content(section.number)[section.size :]
    start = (section.size + _MAX_PADDING - 1) // _MAX_PADDING * _MAX_PADDING
    if any(tail[: start - section.size]):
        yield f"{section.name}+{section.size:#x}: the padding before the stubs is not zero."
    blocks = added.by_section.get(section.number, {})
    if start not in blocks:
        place = Place(section.number, start)
        word = calls.word(place)
        is_over = flow(word) is Flow.JUMP and target(word, start) == end
        if not is_over or place in calls.branches:
            yield f"{section.name}+{start:#x}: no stub, and no branch over the appended code."
        start += 4
    elif section.size % 4 == 0 and falls_through(added.before, Place(section.number, section.size)):
        yield f"{section.name}+{start:#x}: the code before may run on into the stub."
    for offset in range(start, end, 4):
        if reason := added.before.entries.entered(Place(section.number, offset)):
            yield f"{section.name}+{offset:#x}: code was appended where control may come: {reason}."
    while start in blocks:
        start += blocks[start].size
    if start != end:
        yield f"{section.name}+{start:#x}: bytes were appended that are not a stub."


def falls_through(code: Code, end: Place) -> bool:
    """Whether control may run on to the instruction at `end` from the one before it.

    It cannot where the last words follow a branch or an illegal instruction and nothing leads
    to them: padding, or the traceback table after a function. Primary opcode 0 is illegal, and
    so is what zeros make of an incomplete word at the end (Power ISA, appendix on opcode maps).
    """
    for offset in range(end.offset - 4, -1, -4):
        place = Place(end.section, offset)
        word = code.calls.word(place)
        if word >> 26 == 0 or flow(word) in (Flow.JUMP, Flow.LEAVES):
            return False
        if code.entries.entered(place):
            return True
    return end.offset > 0


def _relocations(added: Added, section: Section) -> Iterator[str]:
    """The appended relocations of a code section: those that the blocks need."""
    image = added.after.calls.image
    wanted: dict[Place, int] = {}
    for block in added.by_section.get(section.number, {}).values():
        wanted |= block.relocations
    for table in added.before.calls.image.rela_sections.get(section.number, ()):
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
