"""Plans the rewriting of archives: each member that is an object, and the container around it.

Members that are no ELF files stay as they are, byte for byte; an ELF file that is no ppc64le object
is an error, as it is outside an archive, and so are bitcode and an archive inside an archive.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from scpatch.ar.headers import Archive, Member, read_archive
from scpatch.ar.layout import lay_out_members
from scpatch.elf.layout import Layout
from scpatch.files.inputs import Input, is_object
from scpatch.rewriter import FilePlan, ObjectPlan, Options, is_same, plan_object, plan_of


def plan_archive(source: Input, options: Options, target: Path | None) -> FilePlan:
    """What `rewrite` would do to an archive; with `target` the result goes there.

    Raises ScpatchError: SCP108 for a damaged archive, SCP109 for a thin archive's member that
    cannot be read, and what `plan_object` raises for a member.
    """
    archive = read_archive(source.data, str(source.path))
    if target is not None and is_same(source.path, target):
        target = None
    if archive.thin:
        from scpatch.rewriter.thin_archive import plan_thin

        return plan_thin(source, archive, options, target)
    objects, changed = plan_members(archive, archive.members, options)
    layout = lay_out_members(archive, changed) if changed else None
    return plan_of(source, objects, layout, target)


def plan_members(
    archive: Archive, members: Iterable[Member], options: Options
) -> tuple[list[ObjectPlan], dict[int, Layout]]:
    """The plans of a regular archive's members, and by their headers those that change."""
    objects: list[ObjectPlan] = []
    changed: dict[int, Layout] = {}
    for member in members:
        content = archive.content(member)
        name = f"{archive.name}({member.label})"
        if not is_object(content, name):
            continue
        one, layout = plan_object(content, name, options)
        objects.append(one)
        if layout is not None:
            changed[member.header] = layout
    return objects, changed
