"""Plans files: an object, an archive, or many of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from scpatch.elf.layout import Layout
from scpatch.errors import ScpatchError
from scpatch.files.inputs import Input, is_archive, open_input
from scpatch.rewriter.model import FilePlan, Output, is_same, plan_of
from scpatch.rewriter.object import Observer, PlanObject, plan_members, plan_object
from scpatch.rewriter.options import Options

Progress = Callable[[Path], None]


def plan_file(
    source: Path | bytes,
    options: Options,
    target: Path | None = None,
    *,
    observe: Observer | None = None,
) -> FilePlan:
    """What `rewrite` would do to a file, or to the content of one; with `target` the result goes
    there. `observe` is called with each object before it is planned.

    Raises ScpatchError for what cannot be read or is no object or archive for ppc64le.
    """
    with open_input(source, unpacked=True) as file:
        if is_archive(file.data):
            return _plan_archive(
                file, partial(plan_object, options=options, observe=observe), target
            )
        plan, layout = plan_object(file.data, str(file.path), options, observe)
        return plan_of(file, [plan], layout, target)


def _plan_archive(source: Input, plan_member: PlanObject, target: Path | None) -> FilePlan:
    """Raises ScpatchError: SCP108 for a damaged archive, SCP109 for a thin archive's member that
    cannot be read, and what `plan_object` raises for a member."""
    from scpatch.ar.headers import read_archive

    archive = read_archive(source.data, str(source.path))
    if target is not None and is_same(source.path, target):
        target = None
    if archive.thin:
        from scpatch.rewriter.thin import plan_thin

        return plan_thin(source, archive, plan_member, target)
    planned = plan_members(archive, archive.members, plan_member)
    return plan_of(source, planned.objects, planned.layout, target)


def try_plan(path: Path, options: Options, target: Path | None = None) -> FilePlan | ScpatchError:
    """The plan of a file, or why there is none."""
    try:
        return plan_file(path, options, target)
    except ScpatchError as error:
        return error


def plan_all(
    paths: Sequence[Path], options: Options, target: Path | None, progress: Progress | None = None
) -> tuple[list[FilePlan], list[ScpatchError]]:
    """The plans of all files, and the errors of those that have none.

    A file that is named twice, perhaps through a link, is planned once; so is a member that two
    thin archives share.
    """
    plans: list[FilePlan] = []
    errors: list[ScpatchError] = []
    seen: set[str] = set()
    layouts: dict[str, Layout] = {}
    for path in paths:
        if (real := os.path.realpath(path)) in seen:
            continue
        seen.add(real)
        try:
            plans.append(_without_repeats(plan_file(path, options, target), layouts))
        except ScpatchError as error:
            errors.append(error)
        if progress is not None:
            progress(path)
    return plans, errors


def _without_repeats(plan: FilePlan, layouts: dict[str, Layout]) -> FilePlan:
    """The plan without the outputs of earlier plans. `layouts` has those by their real paths.

    Raises SCP110 if an earlier plan has another content for the same file.
    """
    outputs: list[Output] = []
    for output in plan.outputs:
        real = os.path.realpath(output.target)
        if layouts.setdefault(real, output.layout) is output.layout:
            outputs.append(output)
        elif layouts[real] != output.layout:
            raise ScpatchError(
                "SCP110",
                "two of the files would be written here, with different contents",
                file=str(output.target),
                hint="rewrite them one after the other",
            )
    return plan._replace(outputs=tuple(outputs))
