"""The ways that one input is put through: strategies with their options."""

from __future__ import annotations

from typing import NamedTuple

from scpatch.linux.offsets import Offsets
from scpatch.rewriter import Options
from scpatch.sites.choices import Choices
from scpatch.strategies import StrategyOptions

OFFSETS = Offsets(paca_toc=16, paca_thread_info=2312, livepatch_sp=16)
_OWN = StrategyOptions(OFFSETS)
_NONE = StrategyOptions()
_PLAIN = Choices()
_KERNEL = Choices(undefined="rewrite", hoist="kernel")
_THUNK = Choices(undefined="rewrite", no_nop="thunk")


class Way(NamedTuple):
    """Options of a run, under a name for messages and tables."""

    name: str
    options: Options

    @property
    def for_kernel(self) -> bool:
        return self.options.choices.hoist == "kernel"


def _way(
    name: str,
    strategy: str | None = "callsite",
    *,
    own: StrategyOptions = _NONE,
    emit: bool = False,
    choices: Choices = _PLAIN,
) -> Way:
    return Way(name, Options(strategy, choices, own, "none", emit))


_PACA_AT_CALLS = StrategyOptions(Offsets(paca_toc=16))

WAYS: tuple[Way, ...] = (
    Way("scan", Options(None, lines="all")),
    Way("callsite", Options(lines="refused")),
    _way("callsite --emit-sites", emit=True, choices=_THUNK),
    _way("callsite --no-nop thunk", choices=_THUNK),
    _way("callsite --hoist kernel", choices=_KERNEL),
    _way("callsite --unmark", own=StrategyOptions(unmark=True)),
    _way("localentry", "localentry"),
    _way("localentry, by the PACA", "localentry", own=_PACA_AT_CALLS),
    _way("localentry --emit-sites", "localentry", emit=True),
    _way("paca", "paca", own=_OWN),
    _way("paca --emit-sites", "paca", own=_OWN, emit=True, choices=_KERNEL),
    _way("livepatch-stack", "livepatch-stack", own=_OWN),
    _way("livepatch-stack --emit-sites", "livepatch-stack", own=_OWN, emit=True, choices=_KERNEL),
)
