"""Plans of files, and what they write. No function here writes."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from scpatch.elf.layout import Layout, unchanged
from scpatch.errors import ScpatchError
from scpatch.files.inputs import Input, open_input
from scpatch.files.packing import pack, packing_of
from scpatch.sites.model import Scan, Site
from scpatch.strategies.plans import Plan


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
    """Of the source when it was read. It must be the same when the source is copied."""
    folder: bool = False
    """Whether the target's directory is made if it is missing."""

    @property
    def data(self) -> bytes:
        """The content to be written. Raises ScpatchError if the source cannot be read (SCP109) or
        has changed since it was planned (SCP112)."""
        with open_input(self.source, unpacked=True) as source:
            if source.identity != self.identity:
                raise source_changed(self.source)
            return new_content(source, self.layout)


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
        return tuple(site for entry in self.objects for site in entry.plan.sites)

    @property
    def refused(self) -> tuple[Site, ...]:
        """The call sites that cannot be rewritten."""
        return tuple(site for entry in self.objects for site in entry.plan.refused)

    @property
    def changed(self) -> bool:
        """Whether any object changes."""
        return any(entry.plan.edits for entry in self.objects)

    def writes_one_of(self, files: Sequence[str]) -> bool:
        """Whether an output, or a member of one (`OUTPUT(MEMBER)`), is among files."""
        targets = [str(output.target) for output in self.outputs]
        return any(file == to or file.startswith(f"{to}(") for file in files for to in targets)

    @property
    def data(self) -> bytes:
        """The content of the new file. If the source is a path, it is read again for this.

        Raises ScpatchError if the source cannot be read (SCP109) or has changed since (SCP112),
        and ValueError if the result is several files, as of a thin archive.
        """
        if self.result is not None:
            return self.result
        if len(self.outputs) > 1 or any(output.source != self.path for output in self.outputs):
            raise ValueError("the result is several files: see outputs")
        for output in self.outputs:
            return output.data
        with open_input(self.path, unpacked=True) as source:
            return new_content(source, unchanged(len(source.data)))


def new_content(source: Input, layout: Layout) -> bytes:
    """The content of the new file. It is compressed if the old one is: as that one was, if its
    content stays the same."""
    if source.packed is None:
        return layout.apply(source.data)
    if layout == unchanged(len(source.data)):
        return bytes(source.packed)
    return pack(layout.apply(source.data), packing_of(source.packed), str(source.path))


def source_changed(path: Path) -> ScpatchError:
    """The error for a source that is not what was planned for."""
    return ScpatchError("SCP112", "the file changed while it was read", file=str(path))


def plan_of(
    source: Input, objects: Sequence[ObjectPlan], layout: Layout | None, target: Path | None
) -> FilePlan:
    """The plan of a file that holds all its objects itself."""
    if source.descriptor < 0:
        result = new_content(source, layout or unchanged(len(source.data)))
        return FilePlan(source.path, tuple(objects), (), result)
    return FilePlan(source.path, tuple(objects), tuple(outputs_of(source, layout, target)))


def outputs_of(source: Input, layout: Layout | None, target: Path | None) -> Iterator[Output]:
    """What is to be written for a file: nothing if it keeps its content and its path."""
    if layout is None and target is not None and not is_same(source.path, target):
        layout = unchanged(len(source.data))
    if layout is not None:
        yield Output(source.path, target or source.path, layout, source.identity)


def is_same(source: Path, target: Path) -> bool:
    """Whether `target` exists and is the file `source`."""
    return target.exists() and os.path.samefile(source, target)
