"""How much of what is wrong `scpatch verify` catches: `python -m tests.fuzz.damage`.

Prebuilt objects are rewritten by every strategy and then damaged, class by class. For each variant
the proof and the execution are asked apart, and a whole program tells whether it behaves otherwise
than the right object (`tests.fuzz.program`). Prints the table of the reliability page. Exit status
1: something that changes behaviour was caught by neither.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from typing import NamedTuple

from scpatch.errors import ScpatchError
from scpatch.linux.offsets import Offsets
from scpatch.rewriter import Options, plan_file, write
from scpatch.verifier.execute import execute
from scpatch.verifier.options import KernelOffsets
from scpatch.verifier.proof import prove
from scpatch.verifier.tools import find_tools
from scpatch.verifier.types import Proof
from tests.fuzz.damage_cases import Mutation, layout, mutations
from tests.fuzz.program import (
    LIVEPATCH_SP,
    PACA_THREAD,
    PACA_TOC,
    Call,
    Setting,
    behaviour,
    byte_order,
)
from tests.tools import FIXTURES, in_both

WORKERS = 2
FILES = tuple(in_both("calls-gcc.o", "calls-clang.o"))
_CALLS = (
    Call("trace_kfree", (5,), value=False),
    Call("returns_the_call", (5,)),
    Call("local_trampoline", (6,)),
    Call("in_a_loop", (3,)),
    Call("call_saved_before", ("plain", 3)),
    Call("call_saved_between", ("plain", 4)),
    Call("call_saved_on_one_path", ("plain", 2)),
    Call("call_saved_on_one_path", ("plain", 3)),
    Call("call_in_init_text", (4,), value=False),
    Call("call_in_noinstr_text", (5,)),
)
_PLAIN = Setting(
    _CALLS,
    {"__SCT__tp_func_kfree": 8, "__SCT__local_hook": 8, "__SCT__elsewhere": -1},
    pokes={"tracepoint_kfree": (16, 1)},
)
_SLOTS = {name: name.replace("SCT", "SCD") for name in list(_PLAIN.trampolines)[:2]}
_PACA = Offsets(paca_toc=PACA_TOC)
_THREAD = Offsets(paca_thread_info=PACA_THREAD, livepatch_sp=LIVEPATCH_SP)


class Strategy(NamedTuple):
    options: Options
    setting: Setting


STRATEGIES: Mapping[str, Strategy] = {
    "callsite": Strategy(Options(undefined="rewrite"), _PLAIN),
    "paca": Strategy(Options("paca", undefined="rewrite", offsets=_PACA), _PLAIN),
    "localentry": Strategy(Options("localentry"), _PLAIN._replace(elsewhere="marked")),
    "livepatch-stack": Strategy(
        Options("livepatch-stack", offsets=_THREAD),
        _PLAIN._replace(slots=_SLOTS, elsewhere="keeper"),
    ),
}


class Verdict(NamedTuple):
    """What was said of one variant. `changed` is None where it cannot be linked."""

    kind: str
    what: str
    proof: bool
    """The proof caught it."""
    execution: bool | None
    """The execution caught it; None if it did not run."""
    changed: bool | None


class Subject:
    """A rightly rewritten object, and what is said of variants of it."""

    def __init__(self, folder: Path, file: str, strategy: str) -> None:
        self.name = f"{file}, {strategy}"
        self._folder = folder
        self._strategy = STRATEGIES[strategy]
        self._before = FIXTURES / file
        self._tools = find_tools(byte_order=byte_order(self._before))
        self._right = folder / "right.o"
        self._damaged = folder / "damaged.o"
        write([plan_file(self._before, self._strategy.options, self._right)])
        self._proof = self._prove(self._right)
        assert not self._proof.errors
        assert all(site.right for site in self._proof.sites)
        self._expected = behaviour(folder, self._right, self._strategy.setting)
        assert self._expected is not None
        assert self._expected[0] == 0
        assert not self._executed(self._right), "the right object must run well"

    def mutations(self) -> Iterator[Mutation]:
        return mutations(layout(self._right), self._proof.sites, layout(self._before))

    def _prove(self, path: Path) -> Proof:
        known = PACA_THREAD, LIVEPATCH_SP
        return prove(self._before, path, paca_toc=PACA_TOC, livepatch_offsets=known)

    def _executed(self, path: Path) -> bool:
        """Whether the execution finds fault with the sites of the right object in this one."""
        offsets = KernelOffsets(PACA_TOC, PACA_THREAD, LIVEPATCH_SP)
        sites = [site for site in self._proof.sites if site.state not in ("notoc", "elsewhere")]
        try:
            outcomes = execute(path, sites, self._tools, offsets, limit=0.1)
            return not all(outcome.passed for outcome in outcomes)
        except ScpatchError:
            return True

    def judge(self, mutation: Mutation, *, everything: bool = True) -> Verdict:
        """All three opinions; without `everything`, only of what the proof accepts."""
        self._damaged.write_bytes(mutation.apply(self._right.read_bytes()))
        proof = self._prove(self._damaged)
        caught = bool(proof.errors) or not all(site.right for site in proof.sites)
        if caught and not everything:
            return Verdict(mutation.kind, mutation.what, True, None, None)
        printed = behaviour(self._folder, self._damaged, self._strategy.setting)
        changed = None if printed is None else printed != self._expected
        return Verdict(mutation.kind, mutation.what, caught, self._executed(self._damaged), changed)


def judge_all(file: str, strategy: str, share: int, *, everything: bool) -> list[Verdict]:
    """The verdicts of one of `share` mutations of each class, the first of each class included."""
    seen: Counter[str] = Counter()
    verdicts = []
    with tempfile.TemporaryDirectory(prefix="scpatch-damage-") as folder:
        subject = Subject(Path(folder), file, strategy)
        for mutation in subject.mutations():
            seen[mutation.kind] += 1
            if (seen[mutation.kind] - 1) % share == 0:
                verdicts.append(subject.judge(mutation, everything=everything))
    return verdicts


COLUMNS = (
    *("mutations", "change behaviour", "caught by the proof alone", "by the execution alone"),
    *("by both", "by neither", "cannot be linked", "harmless", "of those accepted"),
)


def score(verdicts: list[Verdict]) -> tuple[int, ...]:
    """The figures of one row, as COLUMNS has them."""
    changed = [verdict for verdict in verdicts if verdict.changed]
    harmless = [verdict for verdict in verdicts if verdict.changed is False]
    ways = Counter((verdict.proof, bool(verdict.execution)) for verdict in changed)
    return (
        len(verdicts),
        len(changed),
        *(ways[way] for way in ((True, False), (False, True), (True, True), (False, False))),
        sum(verdict.changed is None for verdict in verdicts),
        len(harmless),
        sum(not verdict.proof and not verdict.execution for verdict in harmless),
    )


def _judged(work: tuple[str, str], share: int) -> list[Verdict]:
    return judge_all(*work, share, everything=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.damage", description=__doc__)
    parser.add_argument("--share", type=int, default=1, help="one mutation of so many (1: all)")
    chosen = parser.parse_args()
    started = time.monotonic()
    rows: defaultdict[tuple[str, str], list[Verdict]] = defaultdict(list)
    work = [(file, strategy) for strategy in STRATEGIES for file in FILES]
    with Pool(WORKERS) as pool:
        run = partial(_judged, share=chosen.share)
        for (_, strategy), verdicts in zip(work, pool.imap(run, work), strict=True):
            for verdict in verdicts:
                rows[strategy, verdict.kind].append(verdict)
    print("| Strategy | Class | " + " | ".join(COLUMNS) + " |")
    print("|---|---|" + "---:|" * len(COLUMNS))
    for (strategy, kind), verdicts in rows.items():
        print(f"| {strategy} | {kind} | " + " | ".join(map(str, score(verdicts))) + " |")
    missed = [verdict for all_ in rows.values() for verdict in all_ if _missed(verdict)]
    for verdict in missed:
        print(f"caught by neither: {verdict.kind}: {verdict.what}", file=sys.stderr)
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)
    return bool(missed)


def _missed(verdict: Verdict) -> bool:
    return bool(verdict.changed) and not verdict.proof and not verdict.execution


if __name__ == "__main__":
    sys.exit(main())
