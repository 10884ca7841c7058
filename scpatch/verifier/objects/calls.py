"""Trampolines, stubs and call sites of one object, as the proof finds them.

A call site is any branch relocation on code that leads to a trampoline: by the trampoline's symbol,
by another symbol or section + addend at its place, or through a stub. So is a branch without a
relocation to a trampoline or a stub in the same section. What lies behind a stub's
name is read from its instructions and its relocation, never believed from the name.
"""

from __future__ import annotations

import re
import sys
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property

from scpatch.verifier.objects import record
from scpatch.verifier.objects.decoded import branches_to
from scpatch.verifier.objects.insn import Flow, flow
from scpatch.verifier.objects.read import (
    SHF_ALLOC,
    SHN_LIVEPATCH,
    STB_WEAK,
    STT_FILE,
    STT_SECTION,
    Image,
    Place,
    Rela,
    Symbol,
    UnreadableError,
)

ADDR24, ADDR14, ADDR14_T, ADDR14_N = 2, 7, 8, 9
REL24, REL14, REL14_T, REL14_N = 10, 11, 12, 13
TOCSAVE, REL24_NOTOC, REL24_P9NOTOC = 109, 116, 124
PLTCALL, PLTCALL_NOTOC = 120, 122
BRANCHES = frozenset(
    (
        *(ADDR24, ADDR14, ADDR14_T, ADDR14_N, REL24, REL14, REL14_T, REL14_N),
        *(REL24_NOTOC, REL24_P9NOTOC, PLTCALL, PLTCALL_NOTOC),
    )
)
"""Relocations that only a branch instruction carries (ELFv2 ABI, table of relocation types)."""

BL, B, STD_R2, LD_R2 = 0x48000001, 0x48000000, 0xF8410018, 0xE8410018
NOPS = frozenset((0x60000000, 0x4DEF7B82, 0x4FFFFB82))
"""`nop`, `cror 15,15,15` and `cror 31,31,31`: what GNU ld takes for one after a call."""
REACH = 1 << 25
"""A REL24 branch reaches -REACH .. REACH - 4 bytes (Power ISA, I-form: a signed 26-bit field)."""

_DATA, _STT_GNU_IFUNC = frozenset((1, 5, 6)), 10
"""STT_OBJECT, STT_COMMON and STT_TLS; and what a resolver has."""
_SHN_COMMON = 0xFFF2

MCOUNT = "_mcount"
"""The kernel patches calls of it at any time."""

STUB_NAME = re.compile(r"r2(save|thunk)\.(.+)\.[0-9a-f]{12}", re.DOTALL)


def unescaped(name: str) -> str:
    """A trampoline's name, from the name of code that was added for it: a linker would read a
    version in what follows an `@`, so that is written `%40` there, and `%` itself `%25`."""
    return re.sub("%(25|40)", lambda match: chr(int(match[1], 16)), name)


@dataclass(frozen=True, slots=True)
class Trampoline:
    """A symbol whose name is a trampoline's. `place` is its global entry; section 0: no section of
    the object holds it, and `place.offset` is then its symbol index."""

    symbol: Symbol
    place: Place
    in_data: bool = False
    """Whether its section is not executable."""

    @property
    def marked(self) -> bool:
        """st_other bits 5-7 = 1: no local entry, r2 is not preserved; linkers save and restore. For
        an undefined symbol its definition says so."""
        return self.symbol.section > 0 and self.symbol.other >> 5 == 1

    @property
    def local_entry(self) -> int:
        """The section offset of its local entry (ELFv2 ABI, st_other)."""
        return self.place.offset + (0, 0, 4, 8, 16, 32, 64, 0)[self.symbol.other >> 5]

    @property
    def is_data(self) -> bool:
        """By its type (STT_OBJECT, STT_COMMON, STT_TLS) or its section: SHN_COMMON, or one that is
        not executable."""
        return self.in_data or self.symbol.type in _DATA or self.symbol.section == -_SHN_COMMON

    @property
    def is_indirect(self) -> bool:
        """STT_GNU_IFUNC: linkers send its calls through the PLT, by a stub that saves r2, and
        restore r2 in the nop."""
        return self.symbol.type == _STT_GNU_IFUNC

    @property
    def stub_fault(self) -> str:
        """What becomes of the branch of a stub to it; empty if that is all right."""
        if self.symbol.section == 0 and self.symbol.binding == STB_WEAK:
            return "a linker makes a nop of its branch to a weak undefined symbol"
        if self.is_indirect:
            return "a linker may restore r2 in the word after its branch to an STT_GNU_IFUNC"
        return ""


@dataclass(frozen=True, slots=True)
class Stub:
    """A stub of scpatch's. `fault` says what is wrong with it; empty for a good one."""

    symbol: Symbol
    place: Place
    size: int
    trampoline: Trampoline | None
    fault: str

    @property
    def thunk(self) -> bool:
        return self.symbol.name.startswith("r2thunk.")

    @property
    def branch(self) -> Place:
        """Where the stub's own branch to the trampoline lies."""
        return Place(self.place.section, self.place.offset + 4)


@dataclass(frozen=True, slots=True)
class Site:
    """A call site. `record` is its relocation: SHT_RELA section and offset of the entry in it. One
    that the assembler has resolved has none: `record` is in section 0, and `rela` says what a
    relocation would."""

    place: Place
    rela: Rela
    record: Place
    trampoline: Trampoline
    distance: int
    """How far behind the trampoline's global entry the branch lands, in bytes."""
    stub: Stub | None

    @property
    def resolved(self) -> bool:
        return not self.record.section


@dataclass(frozen=True, eq=False)
class Calls:
    """The trampolines, stubs and call sites of `image`."""

    image: Image
    globs: tuple[str, ...]

    @cached_property
    def module(self) -> bool:
        """Whether this is a kernel module, linked already: the module loader is next."""
        return any(s.name == ".gnu.linkonce.this_module" for s in self.image.sections)

    def stub_by_loader(self, trampoline: Trampoline) -> bool:
        """Whether the kernel makes a stub for a call of the trampoline when it loads the module:
        the module does not define it, or a livepatch is to find it, whatever object has the call
        (Linux, arch/powerpc/kernel/module_64.c)."""
        livepatch = trampoline.symbol.shndx == SHN_LIVEPATCH
        return trampoline.symbol.section == 0 and (self.module or livepatch)

    @cached_property
    def noted(self) -> frozenset[str]:
        """The strategies that the object says it was rewritten with."""
        return record.strategies(self.image)

    @cached_property
    def trampolines(self) -> dict[Place, list[Trampoline]]:
        """The trampolines by place; several names may share one."""
        found: dict[Place, list[Trampoline]] = {}
        for symbol in self.image.symbols:
            if symbol.type in (STT_SECTION, STT_FILE) or not symbol.number:
                continue
            if any(fnmatchcase(_plain_name(symbol), glob) for glob in self.globs):
                if symbol.section > 0:
                    place = Place(symbol.section, symbol.value)
                    in_data = not self.image.sections[symbol.section].is_executable
                else:
                    place, in_data = Place(0, symbol.number), False
                found.setdefault(place, []).append(Trampoline(symbol, place, in_data))
        return found

    @cached_property
    def _starts(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for section, offset in sorted(self.trampolines):
            found.setdefault(section, []).append(offset)
        return found

    def behind(self, rela: Rela) -> tuple[Trampoline, int] | None:
        """The trampoline that a branch relocation leads into, and how far into it (bytes)."""
        symbol = self.image.symbols[rela.symbol]
        if symbol.section <= 0:
            named = self.trampolines.get(Place(0, rela.symbol), [])
            return (named[0], rela.addend) if named and rela.symbol else None
        for named_here in self.trampolines.get(Place(symbol.section, symbol.value), []):
            if named_here.symbol.number == rela.symbol:
                return named_here, rela.addend
        offset = symbol.value + rela.addend
        starts = self._starts.get(symbol.section, [])
        at = bisect_right(starts, offset)
        if not at:
            return None
        start = Place(symbol.section, starts[at - 1])
        for trampoline in self.trampolines[start]:
            if offset == trampoline.local_entry:
                return trampoline, 0
            if offset == start.offset or offset < start.offset + trampoline.symbol.size:
                return trampoline, offset - start.offset
        return None

    def words(self, section: int) -> array[int]:
        """The instruction words of a section, as 32-bit values."""
        if section not in self._words:
            content = self.image.content(section)
            words = array("I", content[: len(content) & ~3])
            if sys.byteorder == "big":
                words.byteswap()
            self._words[section] = words
        return self._words[section]

    @cached_property
    def _words(self) -> dict[int, array[int]]:
        return {}

    def word(self, place: Place) -> int:
        """The instruction word at `place`; 0 (no instruction) outside of the section."""
        words, at = self.words(place.section), place.offset // 4
        return words[at] if 0 <= at < len(words) else 0

    @cached_property
    def branches(self) -> dict[Place, tuple[Rela, Place]]:
        """Every branch relocation on code: by where it applies, with the place of its record."""
        found = {}
        for code in self.image.code:
            for table in self.image.rela_sections.get(code.number, ()):
                for entry, rela in enumerate(self.image.relas(table)):
                    if rela.type in BRANCHES:
                        record = Place(table, entry * 24)
                        found[Place(code.number, rela.offset)] = rela, record
        return found

    @cached_property
    def other_relocations(self) -> frozenset[Place]:
        """Where on code other relocations than branches apply, but TOCSAVE, which only hints."""
        return frozenset(
            Place(code.number, rela.offset)
            for code in self.image.code
            for table in self.image.rela_sections.get(code.number, ())
            for rela in self.image.relas(table)
            if rela.type not in BRANCHES and rela.type not in (0, TOCSAVE)
        )

    @cached_property
    def relocated_words(self) -> dict[Place, int]:
        """How many relocations apply to each word of code, those that only hint included."""
        places = (
            Place(code.number, rela.offset & ~3)
            for code in self.image.code
            for table in self.image.rela_sections.get(code.number, ())
            for rela in self.image.relas(table)
            if rela.type
        )
        return Counter(places)

    def plain_call(self, place: Place) -> Symbol | None:
        """The symbol that a `bl` with a nop behind it calls, where nothing else applies to them."""
        following = Place(place.section, place.offset + 4)
        if place not in self.branches or self.word(place) != BL:
            return None
        rela, _ = self.branches[place]
        alone = self.relocated_words[place] == 1 and following not in self.relocated_words
        if rela.type != REL24 or rela.addend or not alone:
            return None
        return self.image.symbols[rela.symbol]

    def by_loader(self, place: Place) -> bool:
        """Whether the module loader makes a stub for the call, which stores r2 in 24(r1), and a
        restore of the nop behind it (Linux, arch/powerpc/kernel/module_64.c)."""
        if not self.module or self.word(Place(place.section, place.offset + 4)) != 0x60000000:
            return False
        symbol = self.plain_call(place)
        if symbol is None or symbol.name == MCOUNT:
            return False
        return symbol.section == 0

    @cached_property
    def stubs(self) -> dict[Place, Stub]:
        """The stubs by place; of two at one place the first."""
        found: dict[Place, Stub] = {}
        for symbol in self.image.symbols:
            if symbol.section > 0 and STUB_NAME.fullmatch(symbol.name):
                place = Place(symbol.section, symbol.value)
                found.setdefault(place, self.read_stub(symbol))
        return found

    def read_stub(self, symbol: Symbol) -> Stub:
        """Read the instructions that a stub's symbol stands for."""
        place = Place(symbol.section, symbol.value)
        thunk = symbol.name.startswith("r2thunk.")
        size = 16 if thunk else 8
        words = [self.word(Place(place.section, place.offset + at)) for at in range(0, size, 4)]
        entry = self.branches.get(Place(place.section, place.offset + 4))
        reached = self.behind(entry[0]) if entry is not None and entry[0].type == REL24 else None
        fault = ""
        wanted = [STD_R2, BL, LD_R2] if thunk else [STD_R2, B]
        if words[: len(wanted)] != wanted or place.offset % 4:
            fault = "its instructions are not those of a stub"
        elif reached is None or reached[1]:
            fault = "its branch does not lead to a trampoline"
        elif any(
            at != 4 and Place(place.section, place.offset + at) in self.branches
            for at in range(0, size, 4)
        ) or any(
            Place(place.section, place.offset + at) in self.other_relocations for at in range(size)
        ):
            fault = "a relocation changes its instructions"
        elif self._linker_refuses(reached[0], thunk):
            fault = self._linker_refuses(reached[0], thunk)
        return Stub(symbol, place, size, reached[0] if reached else None, fault)

    def _linker_refuses(self, trampoline: Trampoline, thunk: bool) -> str:
        """Why linker or module loader do not take a stub's branch to `trampoline`; empty if so."""
        if trampoline.stub_fault and not thunk:
            return trampoline.stub_fault
        if trampoline.marked and not self.module:
            return "no linker takes a branch without nop to a trampoline with st_other = 1"
        if thunk and self.stub_by_loader(trampoline):
            return "the module loader expects a nop after the call of an undefined trampoline"
        return ""

    @cached_property
    def sites(self) -> dict[Place, Site]:
        """The call sites by place; the branches inside stubs are none."""
        inner = {stub.branch for stub in self.stubs.values() if self._is_formed(stub)}
        found = {}
        for place, (rela, entry) in self.branches.items():
            target = self.image.target(rela)
            stub = self.stubs.get(target) if target is not None else None
            if stub is not None and stub.trampoline is not None:
                found[place] = Site(place, rela, entry, stub.trampoline, 0, stub)
                continue
            reached = self.behind(rela)
            if reached is None or place in inner or self._inside(place, reached[0]):
                continue
            if not self._is_dead_copy(place, rela):
                found[place] = Site(place, rela, entry, *reached, None)
        for site in self._resolved():
            found[site.place] = site
        return dict(sorted(found.items()))

    def _is_formed(self, stub: Stub) -> bool:
        """Whether it has the instructions of a stub, be it good or not."""
        one = stub.trampoline
        return not stub.fault or (
            one is not None and stub.fault == self._linker_refuses(one, stub.thunk)
        )

    def _resolved(self) -> Iterator[Site]:
        """The branches without a relocation to a trampoline or a stub in the same section. Unless
        a function covers it, a `b` is padding: assemblers branch over a long row of nops."""
        entries: dict[int, dict[int, Trampoline | Stub]] = {}
        code = {section.number for section in self.image.code}
        for place, (one, *_) in self.trampolines.items():
            if place.section in code and not one.is_data:
                here = entries.setdefault(place.section, {})
                here |= {place.offset: one, one.local_entry: one}
        for place, stub in self.stubs.items():
            entries.setdefault(place.section, {})[place.offset] = stub
        for section, here in entries.items():
            for at, to in branches_to(self.words(section), here):
                place, callee = Place(section, at), here[to]
                if place in self.relocated_words or self._is_own(place, callee):
                    continue
                is_call = self.word(place) & 1 or (isinstance(callee, Stub) and callee.thunk)
                if is_call or self.image.function_at(place) is not None:
                    yield from self._resolved_site(place, to, callee)

    @staticmethod
    def _resolved_site(place: Place, to: int, callee: Trampoline | Stub) -> Iterator[Site]:
        rela, nowhere = Rela(place.offset, REL24, callee.symbol.number, 0), Place(0, 0)
        if isinstance(callee, Trampoline):
            yield Site(place, rela, nowhere, callee, to - callee.local_entry, None)
        elif callee.trampoline is not None:
            yield Site(place, rela, nowhere, callee.trampoline, 0, callee)

    def _is_own(self, place: Place, callee: Trampoline | Stub) -> bool:
        if isinstance(callee, Trampoline):
            return self._inside(place, callee)
        within = range(callee.place.offset, callee.place.offset + callee.size)
        return place.section == callee.place.section and place.offset in within

    def _is_dead_copy(self, place: Place, rela: Rela) -> bool:
        """Whether a branch ends the copy of a stub that nothing runs: if two objects brought the
        same stub, `ld -r` keeps the first of the two symbols and leaves the other stub's code.

        A thunk that somebody wrote is not one: something leads to it, or no stub is its like.
        """
        start = Place(place.section, place.offset - 4)
        if place.offset < 4 or (self.word(start), self.word(place)) != (STD_R2, B):
            return False
        if (rela.symbol, rela.addend) not in self._stub_branches:
            return False
        before = self.word(Place(place.section, place.offset - 8)) if place.offset >= 8 else 0
        if before and flow(before) not in (Flow.JUMP, Flow.LEAVES):
            return False
        if self.image.function_at(start) is not None or not self._named.isdisjoint((start, place)):
            return False
        ends = (start.offset, place.offset)
        return not any(True for _ in branches_to(self.words(place.section), ends))

    @cached_property
    def _stub_branches(self) -> frozenset[tuple[int, int]]:
        """What the branches of good stubs name: symbol and addend."""
        found = (self.branches[one.branch][0] for one in self.stubs.values() if not one.fault)
        return frozenset((rela.symbol, rela.addend) for rela in found)

    @cached_property
    def _named(self) -> frozenset[Place]:
        """The places that symbols, or relocations on what is loaded, name."""
        symbols = (one for one in self.image.symbols if one.type not in (STT_SECTION, STT_FILE))
        found = {Place(one.section, one.value) for one in symbols}
        for section in self.image.sections:
            if section.flags & SHF_ALLOC:
                for table in self.image.rela_sections.get(section.number, ()):
                    targets = map(self.image.target, self.image.relas(table))
                    found |= {place for place in targets if place is not None}
        return frozenset(found)

    def _inside(self, place: Place, trampoline: Trampoline) -> bool:
        """Whether a branch into a trampoline comes from that trampoline itself."""
        start = trampoline.place
        within = range(start.offset, start.offset + trampoline.symbol.size)
        return place.section == start.section and place.offset in within


def _plain_name(symbol: Symbol) -> str:
    """A symbol's name; of one that a livepatch finds, `.klp.sym.OBJECT.NAME,POSITION`, the NAME."""
    if symbol.shndx != SHN_LIVEPATCH or not symbol.name.startswith(".klp.sym."):
        return symbol.name
    return symbol.name.split(".", 4)[-1].rpartition(",")[0]


def find_calls(image: Image, trampolines: Sequence[str]) -> Calls:
    """The call sites of `image` against trampolines whose names match one of the globs.

    Raises UnreadableError for a call in what is loaded and not executable, which would go unseen.
    """
    calls = Calls(image, tuple(trampolines))
    code = {section.number for section in image.code}
    for section in image.sections if calls.trampolines else ():
        if not section.flags & SHF_ALLOC or section.number in code:
            continue
        for table in image.rela_sections.get(section.number, ()):
            for rela in image.relas(table):
                if rela.type in BRANCHES and calls.behind(rela) is not None:
                    where = f"{section.name}+{rela.offset:#x}"
                    raise UnreadableError(f"{where}: a call in a section that is not executable")
    return calls
