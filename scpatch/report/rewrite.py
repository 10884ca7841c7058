"""`scpatch rewrite`: what was done, or would be done, to each file."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence

from scpatch.report import words
from scpatch.report.columns import Cell, lay_out
from scpatch.report.documents import print_document, print_lines
from scpatch.report.scan import site_fields, site_row, site_table
from scpatch.report.term import Screen, Style, clean, count, screen
from scpatch.rewriter import FilePlan, ObjectPlan
from scpatch.sites.model import (
    CHANGED,
    THUNK_PREFIX,
    ListedSite,
    NewStub,
    Site,
    State,
    TrampolineEdit,
)


def print_rewrite(plans: Sequence[FilePlan], form: str, *, written: bool) -> None:
    """Prints the result on stdout; `form` is `plain`, `table` or `json`."""
    if form == "json":
        files = [_fields(plan, written=written) for plan in plans]
        print_document("rewrite", {"written": written, "files": files})
    elif form == "plain":
        for plan in plans:
            print_lines(_plain(plan))
    else:
        where = screen(sys.stdout)
        for plan in plans:
            lines = _table(plan, where, written=written)
            sys.stdout.writelines(line + "\n" for line in lines)


def summary_line(plan: FilePlan, *, written: bool) -> str:
    """One line that says what became of a file, such as

    `core.o: 12 call sites rewritten (9 by 4 stubs, 3 saved already), +136 bytes of code`
    """
    objects = [one for one in plan.objects if one.plan.edits]
    sites = [site for one in plan.objects for site in one.plan.sites]
    changed = [site for site in sites if site.state in CHANGED]
    trampolines = sum(len(one.plan.trampolines) for one in objects)
    others = {s: n for s, n in words.by_state(sites).items() if s not in CHANGED}
    rest = [words.enumerate_states(others)] if others else []
    if not objects:
        return f"{_names(plan)}: " + _nothing(others, rest)
    verb = "rewritten" if written else "would be rewritten"
    what = [f"{words.sites(len(changed))} {verb} ({_how(plan.objects, changed)})"] * bool(changed)
    if trampolines:
        what.append(f"{count(trampolines, 'trampoline')} {verb}")
    if listed := sum(len(one.plan.listed) for one in objects):
        what.append(f"{words.sites(listed)} listed")
    if not what:
        what = ["the strategy was noted" if written else "the strategy would be noted"]
    if len(plan.objects) > 1:
        what[-1] += f" in {len(objects):,} of {count(len(plan.objects), 'member')}"
    added = sum(one.plan.code_bytes for one in objects)
    return f"{_names(plan)}: " + ", ".join([*what, *rest, f"+{count(added, 'byte')} of code"])


def _names(plan: FilePlan) -> str:
    targets = [one.target for one in plan.outputs if one.target != one.source]
    name = clean(str(plan.path))
    return f"{name} -> {clean(str(targets[0]))}" if len(targets) == 1 else name


def _nothing(others: dict[State, int], rest: list[str]) -> str:
    if not others:
        return "nothing to do: no call sites"
    if State.REFUSED in others:
        return "no call site rewritten: " + rest[0]
    return "nothing to do: " + rest[0]


def _how(objects: Iterable[ObjectPlan], changed: Sequence[Site]) -> str:
    """`9 by 4 stubs, 3 saved already`; the number is left out where it is all of them."""
    stubs = [stub for one in objects for stub in one.plan.stubs]
    thunks = sum(map(is_thunk, stubs))
    ways = {
        State.REWRITE: f"by {count(len(stubs) - thunks, 'stub')}",
        State.THUNK: f"by {count(thunks, 'thunk')}",
        State.SAVED: "saved already",
        State.PACA: "from the PACA",
    }
    counts = {ways[state]: number for state, number in words.by_state(changed).items()}
    if hoisted := sum(bool(site.saves) for site in changed):
        counts[ways[State.SAVED]] -= hoisted
        counts = {way: number for way, number in counts.items() if number}
        counts["saved in nops"] = hoisted
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{number:,} {way}" for way, number in counts.items())


def is_thunk(stub: NewStub) -> bool:
    return stub.name.startswith(THUNK_PREFIX)


def print_sites(plan: FilePlan) -> None:
    """Prints one line a call site on stderr (`--verbose`)."""
    for one in plan.objects:
        for site in one.plan.sites:
            notes = [text for text in (site.line, site.code, site.detail) if text]
            ending = f" ({': '.join(map(clean, notes))})" if notes else ""
            what = words.MEANING[site.state]
            line = f"{one.name}: {site.place}: {site.trampoline}: {what}"
            print(clean(line) + ending, file=sys.stderr)


def print_stats(plans: Sequence[FilePlan]) -> None:
    """Prints counts by section and state on stderr (`--stats`)."""
    from scpatch.report.stats import stats_table

    for line in stats_table(
        [one.plan for plan in plans for one in plan.objects], screen(sys.stderr)
    ):
        print(line, file=sys.stderr)


def _fields(plan: FilePlan, *, written: bool) -> dict[str, object]:
    """One file of the JSON document."""
    return {
        "file": clean(str(plan.path)),
        "outputs": [clean(str(one.target)) for one in plan.outputs],
        "summary": summary_line(plan, written=written),
        "objects": [_object_fields(one) for one in plan.objects],
    }


def _object_fields(one: ObjectPlan) -> dict[str, object]:
    return {
        "name": clean(one.name),
        "strategy": one.plan.strategy,
        "trampolines": [_trampoline_fields(edit) for edit in one.plan.trampolines],
        "states": {str(s): n for s, n in words.by_state(one.plan.sites).items()},
        "code_bytes": one.plan.code_bytes,
        "stubs": [_stub_fields(stub) for stub in one.plan.stubs],
        "listed": [_listed_fields(entry) for entry in one.plan.listed],
        "sites": [site_fields(site) for site in one.plan.sites],
    }


def _trampoline_fields(edit: TrampolineEdit) -> dict[str, object]:
    return {
        "name": clean(edit.name),
        "section": clean(edit.section_name),
        "section_index": edit.section,
        "offset": edit.offset,
        "what": edit.what,
    }


def _listed_fields(entry: ListedSite) -> dict[str, object]:
    return {
        "section": clean(entry.section_name),
        "section_index": entry.section,
        "offset": entry.offset,
        "key": clean(entry.key),
    }


def _stub_fields(stub: NewStub) -> dict[str, object]:
    return {
        "name": clean(stub.name),
        "kind": "thunk" if is_thunk(stub) else "stub",
        "trampoline": clean(stub.trampoline),
        "section": clean(stub.section_name),
        "section_index": stub.section,
        "offset": stub.offset,
        "size": len(stub.code),
        "sites": stub.sites,
    }


def _plain(plan: FilePlan) -> Iterator[Sequence[object]]:
    for one in plan.objects:
        for site in one.plan.sites:
            yield "site", one.name, *site_row(site)
        for edit in one.plan.trampolines:
            where = f"{edit.section_name}+{edit.offset:#x}"
            yield "trampoline", one.name, where, edit.name, edit.what
        for stub in one.plan.stubs:
            where = f"{stub.section_name}+{stub.offset:#x}"
            yield "stub", one.name, where, stub.name, stub.trampoline, stub.sites, len(stub.code)
        for entry in one.plan.listed:
            yield "listed", one.name, f"{entry.section_name}+{entry.offset:#x}", entry.key
        yield "object", one.name, one.plan.strategy, len(one.plan.changed), one.plan.code_bytes


def _table(plan: FilePlan, where: Screen, *, written: bool) -> Iterator[str]:
    for one in plan.objects:
        if not one.plan.sites and len(plan.objects) > 1:
            continue
        yield where.paint(clean(one.name), Style.HEADING)
        if one.plan.sites:
            yield ""
            yield from site_table(one.plan.sites, where)
        if one.plan.trampolines:
            yield ""
            rows = [_trampoline_cells(edit) for edit in one.plan.trampolines]
            yield from lay_out(rows, where, "  ")
        if one.plan.stubs:
            yield ""
            yield from lay_out([_stub_cells(stub) for stub in one.plan.stubs], where, "  ")
        if one.plan.listed:
            yield ""
            yield from lay_out([_listed_cells(entry) for entry in one.plan.listed], where, "  ")
        yield ""
    yield summary_line(plan, written=written)


def _trampoline_cells(edit: TrampolineEdit) -> tuple[Cell, ...]:
    return (
        Cell("", "trampoline", Style.CHANGED),
        Cell(clean(edit.section_name), f"+{edit.offset:#x}"),
        Cell(clean(edit.name)),
        Cell("", edit.what),
    )


def _stub_cells(stub: NewStub) -> tuple[Cell, ...]:
    return (
        Cell("", "thunk" if is_thunk(stub) else "stub", Style.NEW),
        Cell(clean(stub.section_name), f"+{stub.offset:#x}"),
        Cell(clean(stub.name)),
        Cell("", count(stub.sites, "call"), right=True),
    )


def _listed_cells(entry: ListedSite) -> tuple[Cell, ...]:
    return (
        Cell("", "listed", Style.NEW),
        Cell(clean(entry.section_name), f"+{entry.offset:#x}"),
        Cell(clean(entry.key)),
    )
