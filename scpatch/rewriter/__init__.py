"""Rewrites files: plans all of them, stages all outputs, then puts them in place together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from scpatch import strategies
from scpatch.elf import constants as c
from scpatch.elf.additions import Additions
from scpatch.elf.layout import Copy, Layout, lay_out
from scpatch.elf.reader import ElfFile
from scpatch.errors import RefusedError, ScpatchError
from scpatch.files import output
from scpatch.files.inputs import (
    IN_MEMORY,
    Input,
    has_intermediate,
    identity,
    is_archive,
    open_input,
    read_object,
)
from scpatch.sites import record
from scpatch.sites.choices import Choices
from scpatch.sites.classify import scan
from scpatch.sites.model import Plan, Scan, Site, State
from scpatch.strategies import StrategyOptions


class Lines(StrEnum):
    """The call sites whose source lines are looked up."""

    ALL = "all"
    REFUSED = "refused"
    NONE = "none"


class Options(NamedTuple):
    strategy: str | None = strategies.DEFAULT
    """The name of a strategy; None plans no change and only tells what there is."""
    choices: Choices = Choices()
    own: StrategyOptions = StrategyOptions()
    """What only some strategies take."""
    lines: str = Lines.REFUSED
    emit_sites: bool = False
    """Whether the object gets a table of its call sites."""


class ObjectPlan(NamedTuple):
    """What happens to one object: a file, or a member of an archive."""

    name: str
    """The file's name, for a member `ARCHIVE(MEMBER)`."""
    scan: Scan
    plan: Plan
    intermediate: bool = False
    """It also holds what a link with LTO would compile in place of its machine code."""


class Output(NamedTuple):
    """A file to be written: a new layout of `source` at `target`."""

    source: Path
    target: Path
    layout: Layout
    identity: tuple[int, ...]
    """What the source was when it was read; it must still be that when it is copied."""
    folder: bool = False
    """Whether the target's directory is made where it is missing."""


class FilePlan(NamedTuple):
    """What happens to a file: to the object that it is, or to the members of an archive."""

    path: Path
    objects: tuple[ObjectPlan, ...]
    outputs: tuple[Output, ...]
    """Empty if the file stays as it is, and if the source was bytes."""
    result: bytes | None = None
    """The content of the new file, if the source was bytes."""

    @property
    def sites(self) -> tuple[Site, ...]:
        """The call sites of all objects."""
        return tuple(site for plan in self.objects for site in plan.plan.sites)

    @property
    def refused(self) -> tuple[Site, ...]:
        """The call sites that cannot be rewritten."""
        return tuple(site for plan in self.objects for site in plan.plan.refused)

    @property
    def changed(self) -> bool:
        """Whether any object changes."""
        return any(plan.plan.edits for plan in self.objects)

    @property
    def data(self) -> bytes:
        """The content of the new file. A source that is a path is read again for it.

        Raises ScpatchError if the source cannot be read (SCP109) or has changed since (SCP112),
        and ValueError if the result is several files, as of a thin archive.
        """
        if self.result is not None:
            return self.result
        if len(self.outputs) > 1 or any(output.source != self.path for output in self.outputs):
            raise ValueError("the result is several files: see outputs")
        with open_input(self.path) as source:
            if not self.outputs:
                return bytes(source.data)
            (output,) = self.outputs
            if source.identity != output.identity:
                raise _changed(self.path)
            return output.layout.apply(source.data)


def plan_file(path: Path | bytes, options: Options, target: Path | None = None) -> FilePlan:
    """What `rewrite` would do to a file, or to the content of one; with `target` the result goes
    there.

    Raises ScpatchError for what cannot be read or is no object or archive for ppc64le.
    """
    with open_input(path) as source:
        if is_archive(source.data):
            from scpatch.rewriter.archive import plan_archive

            return plan_archive(source, options, target)
        one, layout = plan_object(source.data, str(source.path), options)
        return plan_of(source, [one], layout, target)


def plan_of(
    source: Input, objects: Sequence[ObjectPlan], layout: Layout | None, target: Path | None
) -> FilePlan:
    """The plan of a file with all its content in one place."""
    if source.path is IN_MEMORY:
        result = bytes(source.data) if layout is None else layout.apply(source.data)
        return FilePlan(source.path, tuple(objects), (), result)
    return FilePlan(source.path, tuple(objects), tuple(outputs_of(source, layout, target)))


def plan_object(data: memoryview, name: str, options: Options) -> tuple[ObjectPlan, Layout | None]:
    """The plan of one object and its new layout; None where nothing changes."""
    elf = read_object(data, name, linked=_takes_images(options))
    if elf.header.e_type != c.ET_REL:
        return _plan_image(elf, options)
    found = scan(elf, options.choices._replace(unmark=options.own.unmark))
    if options.strategy is None:
        plan = Plan("", found.sites)
    else:
        plan = _plan(elf, found, options, options.strategy)
    plan = plan._replace(sites=_with_lines(elf, plan.sites, which=options.lines))
    layout = lay_out(elf, plan.edits) if plan.edits else None
    found = found._replace(sites=plan.sites)
    return ObjectPlan(name, found, plan, has_intermediate(elf)), layout


def _takes_images(options: Options) -> bool:
    """Whether a linked image will do. It has no room for a table of call sites."""
    if options.strategy is None:
        return True
    return not options.emit_sites and strategies.takes_images(options.strategy)


def _plan_image(elf: ElfFile, options: Options) -> tuple[ObjectPlan, Layout | None]:
    """As `plan_object`, for a linked image, of which nothing moves that is loaded."""
    from scpatch.elf.image import Image
    from scpatch.sites.image import scan_image

    assert isinstance(elf, Image)
    found = scan_image(elf, options.choices)
    plan = Plan("", found.sites)
    if options.strategy is not None:
        plan = _plan(elf, found, options, options.strategy)
    layout = lay_out(elf, plan.edits) if plan.edits else None
    if layout is not None:
        elf.check_layout(layout)
    return ObjectPlan(elf.name, found._replace(sites=plan.sites), plan), layout


def _plan(elf: ElfFile, found: Scan, options: Options, strategy: str) -> Plan:
    """The plan by one strategy. A file that another one was applied to is refused (SCP114), unless
    that one is undone."""
    applied = strategies.load(strategy)
    if others := set(found.strategies) - {strategy} - strategies.replaced(applied, options.own):
        raise ScpatchError(
            "SCP114", f"was rewritten by strategy {' and '.join(sorted(others))}", file=elf.name
        )
    additions = Additions(elf)
    plan = applied.plan(elf, found, additions, options.own)
    # A call that is left to its trampoline depends on the strategy, also where nothing else does.
    if additions or any(site.state is State.TRAMPOLINE for site in plan.sites):
        record.add(elf, additions, strategy)
    if options.emit_sites:
        from scpatch.rewriter import site_table

        plan = plan._replace(listed=site_table.add(elf, found, plan, additions))
    return plan._replace(edits=additions.edits())


def _with_lines(elf: ElfFile, sites: tuple[Site, ...], *, which: str) -> tuple[Site, ...]:
    """The sites with their source lines, where DWARF has them."""
    wanted = [
        (site.section, site.offset)
        for site in sites
        if which == Lines.ALL or (which == Lines.REFUSED and site.state is State.REFUSED)
    ]
    if not wanted:
        return sites
    from scpatch.dwarf.lines import line_of

    lines = line_of(elf, wanted)
    return tuple(site._replace(line=lines.get((site.section, site.offset), "")) for site in sites)


def outputs_of(source: Input, layout: Layout | None, target: Path | None) -> Iterator[Output]:
    """What is to be written for a file: nothing where it stays as it is and where it is."""
    if layout is None and target is not None and not is_same(source.path, target):
        layout = whole(source)
    if layout is not None:
        yield Output(source.path, target or source.path, layout, source.identity)


def whole(source: Input) -> Layout:
    """The file as it is."""
    size = len(source.data)
    return Layout(size, (Copy(0, 0, size),), ())


def is_same(one: Path, other: Path) -> bool:
    """Whether `other` is there and is the file `one`."""
    return other.exists() and os.path.samefile(one, other)


def check_refused(plans: Sequence[FilePlan]) -> None:
    """Raises RefusedError (SCP135) if a call site of the plans was refused: what they would write
    is then not right as a whole, and the caller has to allow it."""
    if count := sum(len(plan.refused) for plan in plans):
        sites = "1 call site was" if count == 1 else f"{count} call sites were"
        raise RefusedError("SCP135", f"{sites} refused")


@contextmanager
def staged(
    plans: Sequence[FilePlan], *, allow_refused: bool = False
) -> Iterator[list[output.Staged]]:
    """All outputs of `plans` as finished files for `output.commit`. At the end of the context,
    whatever was not committed is removed, as are the directories that were made for it.

    Raises RefusedError if call sites were refused, unless `allow_refused`; they stay as they are
    then. Raises ScpatchError if an output cannot be written, or if a source is no longer what was
    planned for.
    """
    if not allow_refused:
        check_refused(plans)
    done: list[output.Staged] = []
    most_unnamed = output.most_unnamed()
    try:
        for plan in plans:
            for one in plan.outputs:
                done.append(_stage(one, unnamed=len(done) < most_unnamed))
        yield done
    finally:
        output.discard(done)


def _stage(one: Output, *, unnamed: bool) -> output.Staged:
    """Stages an output. Raises SCP112 if its source is not what was planned for, or is not any
    more when all is copied."""
    with open_input(one.source) as source:
        if source.identity != one.identity:
            raise _changed(one.source)
        new = output.stage(
            one.target, source.descriptor, one.layout, unnamed=unnamed, folder=one.folder
        )
    try:
        same = identity(os.stat(one.source)) == one.identity
    except OSError:
        same = False
    if not same:
        output.discard([new])
        raise _changed(one.source)
    return new


def _changed(path: Path) -> ScpatchError:
    return ScpatchError("SCP112", "the file changed while it was read", file=str(path))


def write(plans: Sequence[FilePlan], *, backup: bool = False, allow_refused: bool = False) -> None:
    """Writes all outputs of `plans`, or none if one of them cannot be written.

    Raises what `staged` and `output.commit` raise.
    """
    with staged(plans, allow_refused=allow_refused) as files:
        output.commit(files, backup=backup)


Progress = Callable[[Path], None]


def plan_all(
    paths: Sequence[Path], options: Options, target: Path | None, progress: Progress | None = None
) -> tuple[list[FilePlan], list[ScpatchError]]:
    """Plans for all files, and the errors of those that have none. A file named twice, also by
    way of a link, is planned once; so is a member that two thin archives share."""
    plans: list[FilePlan] = []
    errors: list[ScpatchError] = []
    seen: set[str] = set()
    planned: dict[str, Layout] = {}
    for path in paths:
        if (real := os.path.realpath(path)) in seen:
            continue
        seen.add(real)
        try:
            plans.append(_without_repeats(plan_file(path, options, target), planned))
        except ScpatchError as error:
            errors.append(error)
        if progress is not None:
            progress(path)
    return plans, errors


def _without_repeats(plan: FilePlan, planned: dict[str, Layout]) -> FilePlan:
    """The plan without the outputs that earlier ones have, which `planned` has by their names.

    Raises SCP110 where an earlier plan has something else for the same file.
    """
    outputs: list[Output] = []
    for one in plan.outputs:
        real = os.path.realpath(one.target)
        if planned.setdefault(real, one.layout) is one.layout:
            outputs.append(one)
        elif planned[real] != one.layout:
            raise ScpatchError(
                "SCP110",
                "two of the files would be written here, with different contents",
                file=str(one.target),
                hint="rewrite them one after the other",
            )
    return plan._replace(outputs=tuple(outputs))
