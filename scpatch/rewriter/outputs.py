"""The outputs of a plan: which files are to be written, and with what content."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from scpatch.elf.layout import Layout, unchanged
from scpatch.files.inputs import IN_MEMORY, Input
from scpatch.rewriter.model import FilePlan, ObjectPlan, Output


def plan_of(
    source: Input, objects: Sequence[ObjectPlan], layout: Layout | None, target: Path | None
) -> FilePlan:
    """The plan of a file that holds all its objects itself."""
    if source.path is IN_MEMORY:
        result = bytes(source.data) if layout is None else layout.apply(source.data)
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
