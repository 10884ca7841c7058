"""Counts what plans do, by the names of sections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from scpatch.sites.actions import Action
from scpatch.strategies.plans import Plan


@dataclass(slots=True)
class Counts:
    """What all sections of one name hold, and what is added to them."""

    states: Counter[Action] = field(default_factory=Counter)
    stubs: int = 0
    thunks: int = 0
    code: int = 0
    """Bytes of code added."""

    def __iadd__(self, other: Self) -> Self:
        self.states += other.states
        self.stubs += other.stubs
        self.thunks += other.thunks
        self.code += other.code
        return self


def count_by_section(plans: Iterable[Plan]) -> Mapping[str, Counts]:
    """Section name -> counts, in the order in which the sections come."""
    sections: dict[str, Counts] = {}
    for plan in plans:
        names = {site.section: site.section_name for site in plan.sites}
        for site in plan.sites:
            sections.setdefault(site.section_name, Counts()).states[site.state] += 1
        for stub in plan.stubs:
            sections[stub.section_name].thunks += stub.is_thunk
            sections[stub.section_name].stubs += not stub.is_thunk
        for section in {stub.section for stub in plan.stubs}:
            sections[names[section]].code += len(plan.edits.sections[section].tail)
    return sections


def total(parts: Iterable[Counts]) -> Counts:
    whole = Counts()
    for counts in parts:
        whole += counts
    return whole
