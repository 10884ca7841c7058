"""The ways that one input is put through: strategies with their options."""

from __future__ import annotations

from typing import NamedTuple

from scpatch.linux.offsets import Offsets
from scpatch.rewriter import Options
from scpatch.sites.choices import Hoist, NoNop, Undefined

OFFSETS = Offsets(paca_toc=16, paca_thread_info=2312, livepatch_sp=16)
_NO_OFFSETS = Offsets()
_PLAIN = Options(lines="none")
_KERNEL = _PLAIN._replace(undefined=Undefined.REWRITE, hoist=Hoist.KERNEL)
_THUNK = _PLAIN._replace(undefined=Undefined.REWRITE, no_nop=NoNop.THUNK)


class Way(NamedTuple):
    """Options of a run, under a name for messages and tables."""

    name: str
    options: Options

    @property
    def for_kernel(self) -> bool:
        return self.options.hoist is Hoist.KERNEL


def _way(
    name: str,
    strategy: str = "callsite",
    options: Options = _PLAIN,
    *,
    offsets: Offsets = _NO_OFFSETS,
    emit_sites: bool = False,
    unmark: bool = False,
) -> Way:
    options = options._replace(strategy=strategy, offsets=offsets, emit_sites=emit_sites)
    return Way(name, options._replace(unmark=unmark))


_PACA_AT_CALLS = Offsets(paca_toc=16)

WAYS: tuple[Way, ...] = (
    Way("scan", Options(None, lines="all")),
    Way("callsite", Options(lines="refused")),
    _way("callsite --emit-sites", emit_sites=True, options=_THUNK),
    _way("callsite --no-nop thunk", options=_THUNK),
    _way("callsite --hoist kernel", options=_KERNEL),
    _way("callsite --unmark", unmark=True),
    _way("localentry", "localentry"),
    _way("localentry, by the PACA", "localentry", offsets=_PACA_AT_CALLS),
    _way("localentry --emit-sites", "localentry", emit_sites=True),
    _way("paca", "paca", offsets=OFFSETS),
    _way("paca --emit-sites", "paca", offsets=OFFSETS, emit_sites=True, options=_KERNEL),
    _way("livepatch-stack", "livepatch-stack", offsets=OFFSETS),
    _way(
        "livepatch-stack --emit-sites",
        "livepatch-stack",
        offsets=OFFSETS,
        emit_sites=True,
        options=_KERNEL,
    ),
)
