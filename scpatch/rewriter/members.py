"""Plans the members of regular archives.

Members that are no ELF files stay as they are, byte for byte; an ELF file that is no ppc64le object
is an error, as it is outside an archive, and so are bitcode and an archive inside an archive.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from scpatch.ar.headers import Archive, Member
from scpatch.ar.layout import lay_out_members
from scpatch.elf.layout import Layout
from scpatch.files.inputs import is_object
from scpatch.rewriter.model import ObjectPlan
from scpatch.rewriter.object import Observer, plan_object
from scpatch.rewriter.options import Options


class Members(NamedTuple):
    """What happens to members of a regular archive."""

    objects: list[ObjectPlan]
    changed: dict[int, Layout]
    """The new layouts of members, by the file offset of the member's header."""
    layout: Layout | None
    """The new layout of the archive; None if nothing changes."""


def plan_members(
    archive: Archive,
    members: Iterable[Member],
    options: Options,
    observe: Observer | None = None,
) -> Members:
    """The plans of members of a regular archive."""
    objects: list[ObjectPlan] = []
    changed: dict[int, Layout] = {}
    for member in members:
        content = archive.content(member)
        name = f"{archive.name}({member.label})"
        if not is_object(content, name):
            continue
        plan, layout = plan_object(content, name, options, observe)
        objects.append(plan)
        if layout is not None:
            changed[member.header] = layout
    return Members(objects, changed, lay_out_members(archive, changed) if changed else None)
