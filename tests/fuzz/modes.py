"""The modes in which the fuzzers run scpatch: strategies with their options."""

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


class Mode(NamedTuple):
    """Options of a run, under a name for messages and tables."""

    name: str
    options: Options

    @property
    def for_kernel(self) -> bool:
        return self.options.hoist is Hoist.KERNEL


def _mode(
    name: str,
    strategy: str = "callsite",
    options: Options = _PLAIN,
    *,
    offsets: Offsets = _NO_OFFSETS,
    emit_sites: bool = False,
    unmark: bool = False,
) -> Mode:
    options = options._replace(strategy=strategy, offsets=offsets, emit_sites=emit_sites)
    return Mode(name, options._replace(unmark=unmark))


_PACA_AT_CALLS = Offsets(paca_toc=16)

MODES: tuple[Mode, ...] = (
    Mode("scan", Options(None, lines="all")),
    Mode("callsite", Options(lines="refused")),
    _mode("callsite --emit-sites", emit_sites=True, options=_THUNK),
    _mode("callsite --no-nop thunk", options=_THUNK),
    _mode("callsite --hoist kernel", options=_KERNEL),
    _mode("callsite --unmark", unmark=True),
    _mode("localentry", "localentry"),
    _mode("localentry, by the PACA", "localentry", offsets=_PACA_AT_CALLS),
    _mode("localentry --emit-sites", "localentry", emit_sites=True),
    _mode("paca", "paca", offsets=OFFSETS),
    _mode("paca --emit-sites", "paca", offsets=OFFSETS, emit_sites=True, options=_KERNEL),
    _mode("livepatch-stack", "livepatch-stack", offsets=OFFSETS),
    _mode(
        "livepatch-stack --emit-sites",
        "livepatch-stack",
        offsets=OFFSETS,
        emit_sites=True,
        options=_KERNEL,
    ),
)
