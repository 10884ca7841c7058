"""Which strategies a file could be rewritten by, what each would change and cost, which to take.

Every strategy plans the file, and nothing is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from scpatch import strategies
from scpatch.errors import ScpatchError
from scpatch.rewriter import FilePlan, Lines, ObjectPlan, Options, plan_file
from scpatch.sites.model import CHANGED, State
from scpatch.strategies import Cost

RULE: Final = (
    "The one to take leaves the fewest calls wrong, then executes the fewest instructions more a "
    "call (the mean of both kinds of target), then adds the least code; one for the kernel image "
    "only is taken for a linked image, or with --image."
)


class Outlook(NamedTuple):
    """What one strategy would do to a file."""

    strategy: str
    code: str = ""
    reason: str = ""
    """The diagnostic, where it cannot be applied at all."""
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
    """Instructions executed more a call, on the average of `sites`, where the target has the
    caller's TOC, and where it has another."""

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
    """The strategy to take; empty where there is nothing to do, or none is possible."""
    intermediate: tuple[str, ...] = ()
    """The objects whose machine code a link with LTO would not use."""
    trampolines: frozenset[str] = frozenset()
    """The names of those that there are."""


def advise(path: Path | bytes, options: Options, *, image: bool) -> Advice:
    """Plans the file by every strategy. `image` says that it ends in the kernel's image.

    Raises ScpatchError for what cannot be read or is no object or archive for ppc64le.
    """
    options = options._replace(lines=Lines.NONE)
    found = plan_file(path, options._replace(strategy=None))
    kind = _kind(found)
    outlooks = tuple(_outlook(path, name, options) for name in strategies.names())
    sites = sum(len(one.scan.sites) for one in found.objects)
    taken = [
        one
        for one in outlooks
        if one.possible and one.sites and (image or kind == "linked image" or not one.image_only)
    ]
    return Advice(
        found.path,
        kind,
        sites,
        tuple(sorted({name for one in found.objects for name in one.scan.strategies})),
        outlooks,
        min(taken, key=lambda one: one.rank).strategy if taken else "",
        tuple(one.name for one in found.objects if one.intermediate),
        frozenset(name for one in found.objects for name in one.scan.names),
    )


def _kind(plan: FilePlan) -> str:
    if len(plan.objects) != 1 or plan.objects[0].name != str(plan.path):
        return "archive"
    scan = plan.objects[0].scan
    return "linked image" if scan.image else "kernel module" if scan.module else "object"


def _outlook(path: Path | bytes, name: str, options: Options) -> Outlook:
    strategy = strategies.load(name)
    only = not strategies.serves_modules(name)
    try:
        plan = plan_file(path, options._replace(strategy=name))
    except ScpatchError as error:
        return Outlook(name, error.code, error.message, image_only=only)
    return _counted(name, strategy.cost(options.of_strategy), plan.objects)._replace(
        image_only=only
    )


def _counted(name: str, cost: Mapping[State, Cost], objects: Sequence[ObjectPlan]) -> Outlook:
    plans = [one.plan for one in objects]
    states = Counter(site.state for plan in plans for site in plan.sites)
    priced = {state: number for state, number in states.items() if state in cost}
    sites = sum(priced.values())
    total = [sum(cost[state][at] * number for state, number in priced.items()) for at in (0, 1)]
    same, other = (number / sites if sites else 0.0 for number in total)
    return Outlook(
        name,
        sites=sites,
        left=sum(states[state] for state in (CHANGED | {State.REFUSED}) - cost.keys()),
        codes=tuple(sorted({site.code for plan in plans for site in plan.refused})),
        free=sum(number for state, number in priced.items() if not any(cost[state])),
        stubs=sum(len(plan.stubs) for plan in plans),
        trampolines=sum(len(plan.trampolines) for plan in plans),
        code_bytes=sum(plan.code_bytes for plan in plans),
        same=same,
        other=other,
    )
