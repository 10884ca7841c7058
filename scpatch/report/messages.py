"""Messages about plans, on stderr: refused call sites, notes, and what `--verbose` adds."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

from scpatch.report.errors import Kind, print_hint, print_message
from scpatch.report.words import clean, count

if TYPE_CHECKING:
    from scpatch.report.blocks import Finding
    from scpatch.report.filters import Filter
    from scpatch.rewriter import FilePlan


def print_refusals(plans: Sequence[FilePlan], kind: Kind = Kind.ERROR) -> None:
    """Prints each refused site, and after those with the same code what to do."""
    entries = [entry for plan in plans for entry in plan.objects]
    refused = [(site.code, entry.name, site) for entry in entries for site in entry.plan.refused]
    if not refused:
        return
    from scpatch.report.blocks import Style
    from scpatch.report.screen import screen_of
    from scpatch.strategies.diagnostics import hint

    screen = screen_of(sys.stderr)
    code_of = itemgetter(0)
    for code, group in groupby(sorted(refused, key=code_of), code_of):
        for _, name, site in group:
            line = f" ({site.line})" if site.line else ""
            text = clean(f"{name}: {site.place}{line}: {site.detail}")
            print_message(kind, f"{text} {screen.paint(f'[{code}]', Style.REFUSED)}")
        print_hint(hint(code))


def print_findings(findings: Iterable[Finding]) -> None:
    """Prints what is wrong, one line each (`verify --quiet`)."""
    from scpatch.report.blocks import Level

    for finding in findings:
        place = ": ".join(filter(None, (finding.file, finding.where)))
        kind = Kind.ERROR if finding.level is Level.ERROR else Kind.WARNING
        print_message(kind, clean(f"{place}: {finding.message}"))


def print_sites(plan: FilePlan, shown: Filter) -> None:
    """Prints one line a call site (`--verbose`)."""
    for entry in plan.objects:
        for site in shown.calls(entry.plan.sites):
            notes = [text for text in (site.line, site.code, site.detail) if text]
            ending = f" ({': '.join(notes)})" if notes else ""
            line = f"{entry.name}: {site.place}: {site.trampoline}: {site.state.words}{ending}"
            print(clean(line), file=sys.stderr)


def print_stats(plans: Sequence[FilePlan]) -> None:
    """Prints counts by section and state (`--stats`)."""
    from scpatch.report.forms.text import draw_block
    from scpatch.report.rewrite import stats
    from scpatch.report.screen import screen_of

    screen = screen_of(sys.stderr)
    for block in stats([entry.plan for plan in plans for entry in plan.objects]):
        for line in draw_block(block, screen):
            print(line, file=sys.stderr)


def note_intermediate(names: Iterable[str]) -> None:
    """Notes that a link with LTO would not use the machine code of these files."""
    for name in names:
        print_message(
            Kind.NOTE,
            f"{clean(name)}: it also holds code for link-time optimisation; a link with LTO "
            "compiles that, and throws this machine code away",
        )


def note_left_out(
    links: Sequence[Path], foreign: Sequence[Path], outputs: Sequence[Path] = ()
) -> None:
    """Notes what there is in folders that was not looked at."""
    for paths, verb, noun, what in (
        (links, "did not follow", "symbolic link", "to folders"),
        (foreign, "left out", "file", "for other machines"),
        (outputs, "left out", "folder", "that new files go to"),
    ):
        if paths:
            others = ", ..." if len(paths) > 1 else ""
            names = f"{verb} {count(len(paths), noun)} {what}: {clean(str(paths[0]))}{others}"
            print_message(Kind.NOTE, names)


def warn_of_no_files(lists: Sequence[Path]) -> None:
    """Warns that lists of files name nothing at all: perhaps they were made in the wrong place."""
    print_message(Kind.WARNING, f"{clean(', '.join(map(str, lists)))}: it names no file")


def warn_alone(alone: Sequence[tuple[Path, Path]]) -> None:
    """Warns of files that only one of two folders has."""
    for path, folder in alone:
        text = f"{clean(str(path))}: there is no such file in {clean(str(folder))}"
        print_message(Kind.WARNING, text)


def print_unmatched(patterns: Sequence[str], names: Iterable[str]) -> None:
    """Warns of each trampoline pattern of the user that matches no name. Without the warning, a
    typing error would look like an input without call sites."""
    if not patterns:
        return
    from fnmatch import fnmatchcase

    known = set(names)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            print_message(Kind.WARNING, f"no symbol matches --trampoline {pattern!r}")
