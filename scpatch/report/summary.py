"""One line that says what became of a file. Light to import: a build prints it for each link."""

from __future__ import annotations

from collections.abc import Sequence

from scpatch import strategies
from scpatch.report.words import by_state, call_sites, clean, count, enumerate_states
from scpatch.rewriter import FilePlan, ObjectPlan
from scpatch.sites.actions import Action, Common


def summary_line(plan: FilePlan, *, written: bool) -> str:
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
        parts[-1] += f" in {len(objects):,} of {count(len(plan.objects), 'member')}"
    added = sum(entry.plan.code_bytes for entry in objects)
    return f"{_names(plan)}: " + ", ".join([*parts, *rest, f"+{count(added, 'byte')} of code"])


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
