"""The words for numbers, for the states of call sites, and for what became of a file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from scpatch import strategies
from scpatch.errors import ScpatchError
from scpatch.rewriter import FilePlan, ObjectPlan
from scpatch.sites.actions import Action, Common
from scpatch.sites.model import Site


def by_state(sites: Iterable[Site]) -> dict[Action, int]:
    """The number of sites of each state that occurs, in the order of reports."""
    numbers = Counter(site.state for site in sites)
    return {state: numbers[state] for state in sorted(numbers, key=lambda state: state.rank)}


def enumerate_states(counts: Mapping[Action, int]) -> str:
    """`12 to rewrite, 1 refused`"""
    return ", ".join(f"{number:,} {state.words}" for state, number in counts.items())


def count(number: int, noun: str) -> str:
    """`1 stub`, `1,204 stubs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def unread(failed: Sequence[ScpatchError]) -> str:
    """`; 3 files cannot be read`, for the end of a total; empty if all could be."""
    return f"; {count(len({error.file for error in failed}), 'file')} cannot be read" * bool(failed)


def call_sites(number: int) -> str:
    return count(number, "call site")


def place(section_name: str, offset: int) -> str:
    """`.text+0x1a0`"""
    return f"{section_name}+{offset:#x}"


def spot(function: str, offset: int) -> str:
    """`tcp_sendmsg+0x40`; empty if no symbol covers the place."""
    return place(function, offset) if function else ""


_UNPRINTABLE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def clean(text: str) -> str:
    """The text with control characters, and bytes that are not UTF-8, or that turn the direction of
    writing, written as `\\xNN` or `\\uNNNN`."""
    return text if text.isprintable() else _UNPRINTABLE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that surrogateescape has carried along
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def summary_line(plan: FilePlan, *, written: bool, noun: str = "member") -> str:
    """`core.o: 12 call sites rewritten (9 by 4 stubs, 3 saved already), +136 bytes of code`"""
    objects = [entry for entry in plan.objects if entry.plan.edits]
    sites = [site for entry in plan.objects for site in entry.plan.sites]
    changed = [site for site in sites if site.state.changes]
    trampolines = sum(len(entry.plan.trampolines) for entry in objects)
    others = {state: n for state, n in by_state(sites).items() if not state.changes}
    rest = [enumerate_states(others)] if others else []
    if not objects:
        return f"{_names(plan)}: " + _nothing(others, rest)
    verb = "rewritten" if written else "would be rewritten"
    parts = [f"{call_sites(len(changed))} {verb} ({_how(plan.objects)})"] * bool(changed)
    if trampolines:
        parts.append(f"{count(trampolines, 'trampoline')} {verb}")
    if listed := sum(len(entry.plan.listed) for entry in objects):
        parts.append(f"{call_sites(listed)} listed")
    if not parts:
        noted = "recorded in .comment" if written else "would be recorded in .comment"
        parts = [f"no call sites changed; strategy {noted}"]
    if len(plan.objects) > 1:
        parts[-1] += f" in {len(objects):,} of {count(len(plan.objects), noun)}"
    added = sum(entry.plan.code_bytes for entry in objects)
    return f"{_names(plan)}: " + ", ".join([*parts, *rest, f"+{count(added, 'byte')} of code"])


def total_line(
    plans: Sequence[FilePlan], *, written: bool, failed: Sequence[ScpatchError] = ()
) -> str:
    """The summary line for all files of a tree, and the number of those that have no plan."""
    objects = tuple(entry for plan in plans for entry in plan.objects)
    line = summary_line(FilePlan(Path("total"), objects, ()), written=written, noun="object")
    rest = len({error.file for error in failed})
    return f"{line} ({count(len(plans), 'file')}{f'; {rest:,} more failed' if rest else ''})"


def _names(plan: FilePlan) -> str:
    targets = [output.target for output in plan.outputs if output.target != output.source]
    name = clean(str(plan.path))
    return f"{name} -> {clean(str(targets[0]))}" if len(targets) == 1 else name


def _nothing(others: dict[Action, int], rest: list[str]) -> str:
    if not others:
        return "nothing to do: no call sites"
    if Common.REFUSED in others:
        return "no call site rewritten: " + rest[0]
    return "nothing to do: " + rest[0]


def _how(objects: Sequence[ObjectPlan]) -> str:
    """`9 by 4 stubs, 3 saved already`; without a number if there is one part only."""
    plans = [entry.plan for entry in objects]
    counts = strategies.load(plans[0].strategy).means(plans)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{number:,} {phrase}" for phrase, number in counts.items())
