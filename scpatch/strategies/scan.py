"""Scans a file: the facts, with what earlier rewrites have left in it, and what they mean."""

from __future__ import annotations

import re
from collections.abc import Sequence

from scpatch import strategies
from scpatch.elf import constants as c
from scpatch.elf.reader import ElfFile
from scpatch.sites.choices import Choices
from scpatch.sites.model import Scan, Site, Traces
from scpatch.sites.objects import scan_object
from scpatch.strategies import record

_ADDED = re.compile(rb"r2[a-z]+\.")
"""How the names of all added code begin."""


def scan(elf: ElfFile, choices: Choices) -> Scan:
    """The trampolines and call sites of an object or a linked image. Nothing is decided yet.

    Raises ScpatchError: SCP107 for a damaged file, SCP121 for a call in a section that is not
    executable, SCP222 for an image without symbols.
    """
    traces = _traces(elf, choices)
    if elf.header.e_type == c.ET_REL:
        return scan_object(elf, choices, traces)
    from scpatch.elf.image import LinkedImage
    from scpatch.sites.image import scan_image

    assert isinstance(elf, LinkedImage), "whoever read it knows that it is linked"
    return scan_image(elf, choices, traces)


def _traces(elf: ElfFile, choices: Choices) -> Traces:
    """What earlier rewrites have left. A file without any imports no strategy."""
    recorded = record.find(elf)
    undone = strategies.undone(recorded, choices)
    keeps = bool(set(recorded) - {strategies.DEFAULT} - undone)
    traces = Traces(recorded, keeps=keeps)
    if elf.symbols is None or not _ADDED.search(elf.symbols.strings):
        return traces
    for name in strategies.names():
        left = strategies.load(name).find_traces(elf, choices.trampolines)
        traces = traces._replace(
            stubs=traces.stubs + left.stubs, copies=traces.copies | left.copies
        )
    return traces


def decided(elf: ElfFile, scan: Scan) -> Scan:
    """The scan with what a rewrite would do to each site, by the default strategy; in an image by
    one that takes images. Earlier rewrites are recognised."""
    if scan.image:
        takes = (strategies.load(name) for name in strategies.names())
        strategy = next(strategy for strategy in takes if strategy.images)
    else:
        strategy = strategies.load(strategies.DEFAULT)
    sites: Sequence[Site] = strategy.decide(elf, scan)
    for name in scan.strategies:
        if name in strategies.names():
            sites = strategies.load(name).recognise(elf, scan, sites)
    return scan._replace(sites=tuple(sites))
