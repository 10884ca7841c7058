"""The functions that vmlinux defines, by the symbol tables of all that it is linked from.

Only the link knows them: with them, the nop after a call of another object's function can hold a
save of r2. A file beside the copies has what was read, so that only files that have changed are
read again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from scpatch import strategies
from scpatch.ar.headers import Archive, read_archive
from scpatch.elf.reader import ElfFile
from scpatch.errors import ScpatchError
from scpatch.files.inputs import is_archive, is_object, open_input
from scpatch.files.members import paths_of
from scpatch.kbuild.record import Identities, RecordFile, identities
from scpatch.rewriter import Options
from scpatch.sites.choices import Hoist
from scpatch.sites.definitions import Definitions, definitions, image_functions, undefined

_Entry = tuple[list[int], str, str]
"""The identity of a file, and the two sets of its `Definitions`."""


class _Read(NamedTuple):
    """What earlier runs have read."""

    files: dict[str, _Entry]


class Callees(NamedTuple):
    """The names that an object with call sites takes from others, as one text each: those that the
    image defines as functions that preserve r2, and the rest. Its copy depends on both."""

    functions: str
    others: str

    @classmethod
    def of(cls, elf: ElfFile, functions: frozenset[str]) -> Callees:
        names = undefined(elf)
        return cls(_join(names & functions), _join(names - functions))

    def hold(self, functions: frozenset[str]) -> bool:
        """Whether the image defines the same of them now."""
        return functions.issuperset(_split(self.functions)) and functions.isdisjoint(
            _split(self.others)
        )


def stale(callees: Mapping[str, Sequence[str]], functions: frozenset[str]) -> set[str]:
    """The objects whose `Callees` are not what the image defines now, by their names there."""
    return {name for name, pair in callees.items() if not Callees._make(pair).hold(functions)}


def sources_of(name: str) -> Identities:
    """The files that an input consists of now: itself and, if it is a thin archive, its members."""
    return identities(paths_of(Path(name)))


def sources_in(archive: Archive) -> Identities:
    members = archive.members if archive.thin else ()
    return identities([archive.name, *(path_of(archive, member.name) for member in members)])


def path_of(archive: Archive, member: str) -> str:
    return os.path.join(os.path.dirname(archive.name), member)


def with_functions(options: Options, inputs: Iterable[Identities], record: RecordFile) -> Options:
    """The options with the functions of an image that is linked from the files of `inputs`.

    `record` has what earlier runs have read. What cannot be read defines nothing here: planning it
    raises the error.
    """
    strategy = strategies.load(options.strategy or strategies.DEFAULT)
    if options.hoist is not Hoist.KERNEL or not strategy.hoists:
        return options
    known = record.read(_Read({})).files
    entries = {
        path: _entry(path, now, known.get(path), options.trampolines)
        for sources in inputs
        for path, now in sources.items()
    }
    if entries != known:
        record.write(_Read(entries))
    functions = image_functions(
        Definitions(frozenset(_split(functions)), frozenset(_split(others)))
        for _, functions, others in entries.values()
    )
    return options._replace(image_functions=functions)


def _entry(path: str, now: list[int], known: _Entry | None, patterns: Sequence[str]) -> _Entry:
    if known is not None and now and known[0] == now:
        return known
    try:
        parts = list(_definitions(path, patterns))
    except ScpatchError:
        return [], "", ""
    functions = {name for part in parts for name in part.functions}
    return now, _join(functions), _join({name for part in parts for name in part.others})


def _definitions(path: str, patterns: Sequence[str]) -> Iterator[Definitions]:
    """What each object of a file defines. A thin archive has none: its members are other files."""
    with open_input(Path(path)) as source:
        if not is_archive(source.data):
            if is_object(source.data, path):
                yield definitions(ElfFile(source.data, path), patterns)
            return
        archive = read_archive(source.data, path)
        for member in () if archive.thin else archive.members:
            content, name = archive.content(member), f"{path}({member.label})"
            if is_object(content, name):
                yield definitions(ElfFile(content, name), patterns)


_SEPARATOR = "\0"
"""No name has it."""


def _join(names: Iterable[str]) -> str:
    return _SEPARATOR.join(sorted(names))


def _split(names: str) -> list[str]:
    return names.split(_SEPARATOR) if names else []
