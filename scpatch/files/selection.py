"""The files that a command line names: files, folders, lists of files, and response files.

A folder stands for the objects, archives and kernel images in it, at any depth, also compressed
ones. What comes first in a folder is by name, so that the order is the same on each machine.
"""

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Generic, NamedTuple, TypeVar

from scpatch.errors import ScpatchError
from scpatch.files.inputs import STDIN, Stdin, cannot_read, name_of

PACKINGS: Final = (".gz", ".xz", ".zst", ".bz2")
_OBJECT: Final = re.compile(
    rf"(.*\.(o|ko|a)|vmlinu[xz](-[0-9].*)?)({'|'.join(map(re.escape, PACKINGS))})?", re.DOTALL
)
"""What a folder is searched for. The image of a kernel is `vmlinux`, in /boot with its release; RPM
packages call the same ELF file `vmlinuz`."""

_NOT_OBJECT: Final = re.compile(r"vmlinux-.*\.(py|lds)")


_FOREIGN: Final = "SCP102"
"""The code of objects for another machine. The tree of a kernel has some: programs of the build."""

T = TypeVar("T")


class Selected(NamedTuple):
    """A file to work on."""

    source: Path | bytes
    """Its path, or the content of stdin."""
    relative: Path
    """Its place in the folder that it was found in. Of a file that was named itself: its path, if
    that is relative and does not lead upwards, else its name."""
    found: bool = False
    """It was found in a folder. The user may not know of it."""


class Sorted(NamedTuple, Generic[T]):
    """What came of some files."""

    results: list[T]
    errors: list[ScpatchError]
    foreign: list[Path]
    """Files for another machine that were found in folders, and that nobody has asked for."""


class Selection(NamedTuple):
    files: tuple[Selected, ...]
    """In the order of the command line, each once."""
    errors: tuple[ScpatchError, ...] = ()
    """Of folders that cannot be read."""
    links: tuple[Path, ...] = ()
    """Symbolic links to folders, in folders. They are not followed, so that `build` in
    /lib/modules/RELEASE does not stand for a kernel's whole tree."""
    outputs: tuple[Path, ...] = ()
    """Folders in those that were named which new files go to. They are not searched."""
    many: bool = False
    """A folder or a list was named, so that the user wants to know about the whole of them."""

    def sort_out(self, results: Iterable[T | ScpatchError]) -> Sorted[T]:
        """What came of each file, `results` being in the order of `files`."""
        good: list[T] = []
        errors = list(self.errors)
        foreign: list[Path] = []
        for file, result in zip(self.files, results, strict=True):
            if not isinstance(result, ScpatchError):
                good.append(result)
            elif file.found and result.code == _FOREIGN:
                foreign.append(name_of(file.source))
            else:
                errors.append(result)
        return Sorted(good, errors, foreign)


def select(
    arguments: Sequence[Path],
    lists: Sequence[Path] = (),
    *,
    null: bool = False,
    copies: bool = False,
    but: Path | None = None,
) -> Selection:
    """The files that are named by arguments and in lists of files. A list has a name a line, or
    with `null` before each NUL; `-` is stdin, as a list or as a file.

    A file that is named twice, perhaps by a link, is selected once; with `copies`, once for each
    place in a tree. One that does not exist is selected: its reader says so. `but` is a folder that
    new files go to: what a run has written is no input of the next.

    Raises SCP109 for a list that cannot be read, and for a folder without objects: a typing error
    would look like a tree without faults.
    """
    names = [*arguments, *listed(lists, null=null)]
    files: dict[tuple[str, Path | None], Selected] = {}
    errors: list[ScpatchError] = []
    skipped = _Skipped(links=[], outputs=[], output=os.path.realpath(but) if but else None)
    folders = [name for name in names if os.path.isdir(name)]
    for name in names:
        selected = _in_folder(name, errors, skipped) if name in folders else [_named(name)]
        for file in selected:
            real = "-" if isinstance(file.source, bytes) else os.path.realpath(file.source)
            files.setdefault((real, file.relative if copies else None), file)
    many = bool(folders or lists)
    links, outputs = tuple(skipped.links), tuple(skipped.outputs)
    return Selection(tuple(files.values()), tuple(errors), links, outputs, many)


class _Skipped(NamedTuple):
    """Folders in folders that are not searched."""

    links: list[Path]
    outputs: list[Path]
    output: str | None = None
    """The real path of a folder that new files go to."""


class Pairs(NamedTuple):
    """Two versions of files."""

    pairs: Selection
    """The new versions, in order."""
    before: tuple[Path | bytes, ...]
    """The old version of each."""
    alone: tuple[tuple[Path, Path], ...] = ()
    """Files that only one of two folders has, each with the folder that lacks it."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing was named, not even in error."""
        return not (self.before or self.alone or self.pairs.errors)

    @property
    def sources(self) -> list[tuple[Path | bytes, Path | bytes]]:
        return list(zip(self.before, (file.source for file in self.pairs.files), strict=True))


def pair(before: Path, after: Path, lists: Sequence[Path] = (), *, null: bool = False) -> Pairs:
    """Two files, or the files of two folders by their places in them; `x.ko` and `x.ko.xz` are
    versions of the same. With `lists`, as of `select`, only what they name: files and folders by
    their places in the two folders.

    Raises SCP109 as `select` does, and for a folder and a file.
    """
    folders = os.path.isdir(before), os.path.isdir(after)
    if not any(folders) and not lists:
        return Pairs(Selection((_named(after),)), (_named(before).source,))
    if not all(folders):
        file, folder = (before, after) if not folders[0] else (after, before)
        hint = "name two folders" if lists else "name two files or two folders"
        what = f"but {folder} is one" if any(folders) else "and a list names files in two folders"
        raise ScpatchError("SCP109", f"it is no folder, {what}", file=str(file), hint=hint)
    if lists:
        names = listed(lists, null=null)
        old, new = _named_in(before, names, after), _named_in(after, names)
    else:
        old, new = select([before], copies=True, but=after), select([after], copies=True)
    old_places, new_places = _by_place(old), _by_place(new)
    both = [place for place in new_places if place in old_places]
    sides = (old_places, new_places, after), (new_places, old_places, before)
    alone = [
        (_path(file), folder)
        for places, others, folder in sides
        for place, file in places.items()
        if place not in others
    ]
    files = tuple(new_places[place] for place in both)
    selection = Selection(files, old.errors + new.errors, old.links + new.links, many=True)
    return Pairs(selection, tuple(old_places[place].source for place in both), tuple(alone))


def _named_in(folder: Path, names: Iterable[Path], other: Path | None = None) -> Selection:
    """What a folder has of the files and folders with these places; with another folder, also an
    error for each that neither has."""
    files: list[Selected] = []
    errors: list[ScpatchError] = []
    skipped = _Skipped([], [])
    for name in dict.fromkeys(names):
        leads_out = name.is_absolute() or ".." in name.parts
        path = None if leads_out else _version(folder / name)
        if path is not None and path.is_dir():
            paths = _walk(path, errors, skipped)
            files += (Selected(file, file.relative_to(folder), found=True) for file in paths)
        elif path is not None:
            files.append(Selected(path, path.relative_to(folder)))
        elif other is not None and (leads_out or _version(other / name) is None):
            errors.append(
                ScpatchError(
                    "SCP109",
                    "neither folder has such a file",
                    file=str(name),
                    hint=f"a list names places in the folders: cd {folder}; find . -name '*.ko'",
                )
            )
    return Selection(tuple(files), tuple(errors), tuple(skipped.links), many=True)


def _version(path: Path) -> Path | None:
    """The file or folder, or the same file in another packing, if there is one."""
    plain = str(path).removesuffix(_packing(path.name))
    versions = (path, *(Path(plain + suffix) for suffix in ("", *PACKINGS)))
    return next((version for version in versions if version.exists()), None)


def _packing(name: str) -> str:
    """The suffix of the packing in the name of an object; empty for any other name."""
    match = _OBJECT.fullmatch(name)
    return (match and match[4]) or ""


def _by_place(selection: Selection) -> dict[str, Selected]:
    """The files by their places without the suffix of their packing, unless two would share it."""
    places: dict[str, Selected] = {}
    for file in selection.files:
        whole = str(file.relative)
        place = whole.removesuffix(_packing(file.relative.name))
        places[whole if place in places else place] = file
    return places


def _path(file: Selected) -> Path:
    return name_of(file.source)


def _named(name: Path) -> Selected:
    if str(name) == "-":
        return Selected(Stdin(sys.stdin.buffer.read()), STDIN)
    upwards = name.is_absolute() or ".." in name.parts
    return Selected(name, Path(name.name) if upwards else name)


def _in_folder(folder: Path, errors: list[ScpatchError], skipped: _Skipped) -> list[Selected]:
    """Raises SCP109 if there is nothing, and no error says why."""
    known = len(errors)
    paths = list(_walk(folder, errors, skipped))
    if not paths and len(errors) == known:
        raise ScpatchError(
            "SCP109",
            "the folder has no objects: no .o, .ko, .a or vmlinux",
            file=str(folder),
            hint="name the folder that has them, or the files themselves",
        )
    return [Selected(path, path.relative_to(folder), found=True) for path in paths]


def _walk(folder: Path, errors: list[ScpatchError], skipped: _Skipped) -> Iterator[Path]:
    """The files in a folder that may be objects: by name, and before those in its folders."""

    def failed(error: OSError) -> None:
        errors.append(cannot_read(Path(error.filename), error))

    for root, folders, names in os.walk(folder, onerror=failed):
        folders.sort()
        paths = [Path(root, name) for name in folders]
        skipped.links.extend(path for path in paths if path.is_symlink())
        if skipped.output is not None:
            outputs = [path for path in paths if os.path.realpath(path) == skipped.output]
            skipped.outputs.extend(outputs)
            folders[:] = [path.name for path in paths if path not in outputs]
        for name in sorted(names):
            if _OBJECT.fullmatch(name) and not _NOT_OBJECT.fullmatch(name):
                yield Path(root, name)


def listed(lists: Iterable[Path], *, null: bool) -> list[Path]:
    """The names in lists; empty lines name nothing. Raises SCP109."""
    names: list[bytes] = []
    hint = "add -0: a NUL ends each name in it, not a line end"
    for path in lists:
        try:
            data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        except OSError as error:
            raise cannot_read(path, error) from error
        if not null and b"\0" in data:
            raise _has_nul(str(path), hint)
        names += data.split(b"\0" if null else b"\n")
    return [Path(os.fsdecode(name)) for name in names if name]


def _has_nul(file: str, hint: str) -> ScpatchError:
    return ScpatchError("SCP109", "cannot read: there is a NUL in it", file=file, hint=hint)


def expand_response_files(arguments: Sequence[str]) -> list[str]:
    """The arguments with the content of FILE in place of `@FILE`, as GNU's programs do it: words
    with quotes and backslashes as in a shell. If there is no FILE, `@FILE` stays as it is.

    Raises SCP109 for a file that cannot be read, or that names itself.
    """
    return list(_expanded(arguments, ()))


def _expanded(arguments: Sequence[str], inside: tuple[str, ...]) -> Iterator[str]:
    for argument in arguments:
        name = argument[1:]
        if not argument.startswith("@") or not os.path.exists(name):
            yield argument
            continue
        if (real := os.path.realpath(name)) in inside:
            raise ScpatchError("SCP109", "the response file names itself", file=name)
        try:
            import shlex

            content = os.fsdecode(Path(name).read_bytes())
            if "\0" in content:
                raise _has_nul(name, f"give it as a list: --files-from {name} -0")
            words = shlex.split(content)
        except OSError as error:
            raise cannot_read(Path(name), error) from error
        except ValueError as error:
            raise ScpatchError("SCP109", f"cannot read: {error}", file=name) from error
        yield from _expanded(words, (*inside, real))
