"""Plans files: an object, an archive, or many of them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from scpatch.errors import ScpatchError
from scpatch.files.inputs import Input, is_archive, open_input
from scpatch.rewriter.model import FilePlan, Output, is_same, plan_of
from scpatch.rewriter.object import Observer, PlanObject, plan_members, plan_object
from scpatch.rewriter.options import Options


def plan_file(
    source: Path | bytes,
    options: Options,
    target: Path | None = None,
    *,
    observe: Observer | None = None,
) -> FilePlan:
    """What `rewrite` would do to a file, or to the content of one; with `target` the result goes
    there. `observe` is called with each object before it is planned.

    Raises ScpatchError for what cannot be read or is no object or archive for ppc64 ELFv2.
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


def without_repeats(plans: Iterable[FilePlan]) -> tuple[list[FilePlan], list[ScpatchError]]:
    """The plans, each without the outputs of earlier ones, such as a member that two thin archives
    share; and SCP110 in place of each that has other contents for a file of an earlier one."""
    good: list[FilePlan] = []
    errors: list[ScpatchError] = []
    first: dict[str, Output] = {}
    for plan in plans:
        outputs: list[Output] = []
        for output in plan.outputs:
            other = first.setdefault(os.path.realpath(output.target), output)
            same_source = os.path.realpath(other.source) == os.path.realpath(output.source)
            if other is output:
                outputs.append(output)
            elif not same_source or other.layout != output.layout:
                errors.append(_clash(output, other))
                break
        else:
            good.append(plan._replace(outputs=tuple(outputs)))
    return good, errors


def _clash(output: Output, other: Output) -> ScpatchError:
    return ScpatchError(
        "SCP110",
        f"{other.source} and {output.source} would both be written here",
        file=str(output.target),
        hint="rewrite them one after the other; with --output-dir, name a folder that both are in",
    )
