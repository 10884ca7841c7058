"""Which strategies a file could be rewritten with, what each would change and cost, which to take.

The file is read once. Every strategy plans each of its objects, and nothing is written.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

from scpatch import strategies
from scpatch.elf.reader import ElfFile
from scpatch.errors import ScpatchError
from scpatch.rewriter import FilePlan, Lines, Options, plan_file, plan_scanned
from scpatch.sites.actions import Common
from scpatch.sites.model import Scan
from scpatch.strategies.plans import Plan

RULE: Final = (
    "The one to take leaves the fewest calls wrong, then executes the fewest extra instructions a "
    "call (the mean of both kinds of target), then adds the least code; one for the kernel image "
    "only is taken for a linked image, or with --image."
)


class Outlook(NamedTuple):
    """What one strategy would do to a file."""

    strategy: str
    code: str = ""
    reason: str = ""
    """The diagnostic, if it cannot be applied at all."""
    image_only: bool = False
    """It does not serve kernel modules."""
    sites: int = 0
    """Calls that it makes right, or has made."""
    left: int = 0
    """Calls that stay wrong: refused ones, and such as it does nothing for."""
    codes: tuple[str, ...] = ()
    """The diagnostics of the refused ones."""
    free: int = 0
    """Those of `sites` that cost nothing, whatever their target."""
    stubs: int = 0
    trampolines: int = 0
    """How many would be changed."""
    code_bytes: int = 0
    """Bytes of code added."""
    same: float = 0.0
    other: float = 0.0
    """Extra instructions per call, on the average of `sites`: the target has the caller's TOC, or
    another."""

    @property
    def possible(self) -> bool:
        return not self.code

    @property
    def rank(self) -> tuple[float, ...]:
        """Smaller is better; see `RULE`."""
        return self.left, self.same + self.other, self.code_bytes, self.stubs + self.trampolines


class Advice(NamedTuple):
    """What is said of one file."""

    path: Path
    kind: str
    """`object`, `kernel module`, `linked image` or `archive`."""
    sites: int
    applied: tuple[str, ...]
    """The strategies that it says it was rewritten with."""
    outlooks: tuple[Outlook, ...]
    recommended: str = ""
    """The strategy to take; empty if there is nothing to do, or none is possible."""
    intermediate: tuple[str, ...] = ()
    """The objects whose machine code a link with LTO would not use."""
    trampolines: frozenset[str] = frozenset()
    """The names of those that there are."""


def advise(path: Path | bytes, options: Options, *, image: bool) -> Advice:
    """Plans the file by every strategy. `image` says that it ends in the kernel's image.

    Raises ScpatchError for what cannot be read or is no object or archive for ppc64 ELFv2.
    """
    without_lines = options._replace(lines=Lines.NONE)
    candidates = [_Candidate(name, without_lines) for name in strategies.names()]

    def observe(elf: ElfFile, scan: Scan) -> None:
        for candidate in candidates:
            candidate.plan(elf, scan)

    file = plan_file(path, options._replace(strategy=None), observe=observe)
    scans = [entry.scan for entry in file.objects]
    kind = _kind(file)
    serves_images = image or kind == "linked image"
    outlooks = tuple(candidate.outlook() for candidate in candidates)
    taken = [
        outlook
        for outlook in outlooks
        if outlook.possible and outlook.sites and (serves_images or not outlook.image_only)
    ]
    return Advice(
        file.path,
        kind,
        sum(len(scan.sites) for scan in scans),
        tuple(sorted({name for scan in scans for name in scan.strategies})),
        outlooks,
        min(taken, key=lambda outlook: outlook.rank).strategy if taken else "",
        tuple(entry.name for entry in file.objects if entry.intermediate),
        frozenset(name for scan in scans for name in scan.names),
    )


def _kind(plan: FilePlan) -> str:
    if [entry.name for entry in plan.objects] != [str(plan.path)]:
        return "archive"
    scan = plan.objects[0].scan
    return "linked image" if scan.image else "kernel module" if scan.module else "object"


class _Candidate:
    """A strategy, and what it would do to the objects of a file."""

    def __init__(self, name: str, options: Options) -> None:
        self._strategy = strategies.load(name)
        self._options = options._replace(strategy=name)
        self._plans: list[Plan] = []
        self._error: ScpatchError | None = None

    def plan(self, elf: ElfFile, scan: Scan) -> None:
        """Plans an object, unless the strategy cannot be applied to an earlier one."""
        if self._error is None:
            try:
                self._plans.append(plan_scanned(elf, scan, self._options)[0].plan)
            except ScpatchError as error:
                self._error = error

    def outlook(self) -> Outlook:
        name, image_only, error = self._strategy.name, not self._strategy.modules, self._error
        if error is not None:
            return Outlook(name, error.code, error.message, image_only)
        cost = self._strategy.cost(self._options.offsets)
        states = Counter(site.state for plan in self._plans for site in plan.sites)
        priced = {state: number for state, number in states.items() if state in cost}
        sites = sum(priced.values())
        total = [sum(cost[state][at] * number for state, number in priced.items()) for at in (0, 1)]
        wrong = [state for state in states if state.changes or state is Common.REFUSED]
        return Outlook(
            name,
            image_only=image_only,
            sites=sites,
            left=sum(states[state] for state in wrong if state not in cost),
            codes=tuple(sorted({site.code for plan in self._plans for site in plan.refused})),
            free=sum(number for state, number in priced.items() if not any(cost[state])),
            stubs=sum(len(plan.stubs) for plan in self._plans),
            trampolines=sum(len(plan.trampolines) for plan in self._plans),
            code_bytes=sum(plan.code_bytes for plan in self._plans),
            same=total[0] / sites if sites else 0.0,
            other=total[1] / sites if sites else 0.0,
        )
