"""Which options of `rewrite` go together, and where new files go."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from scpatch.files.selection import PACKINGS, Selected, Selection
from scpatch.options import UsageError, Values, library_options
from scpatch.rewriter import Options

STDOUT: Final = Path("-")
_CLASHES: Final = (
    ("output", "backup", ""),
    ("output_dir", "backup", ""),
    ("output", "output_dir", ""),
    ("verify", "dry_run", ": it proves what is written"),
    ("verbose", "quiet", ""),
)
"""Options that do not go together, and why."""


def read_options(values: Values) -> Options:
    """The options of the library. Raises UsageError for options that do not go together."""
    if values.output is not None and (len(values.files) > 1 or values.files_froms):
        raise UsageError("--output does not go with several files")
    if values.output is not None and values.output != STDOUT:
        _check_ending(values.files, values.output)
    for first, second, why in _CLASHES:
        if getattr(values, first) and getattr(values, second):
            names = f"--{first} does not go with --{second}".replace("_", "-")
            raise UsageError(names + why)
    if values.depfile is not None:
        if values.output is None and values.output_dir is None:
            raise UsageError(
                "--depfile needs --output or --output-dir: no file is made from itself"
            )
        if any(path.is_dir() for path in values.files):
            raise UsageError(
                "--depfile does not go with a folder: name the files, or a list of them"
            )
    return library_options(values, lines="all" if values.verbose else "refused")


def _check_ending(files: Sequence[Path], output: Path) -> None:
    """What is compressed stays so, and modprobe goes by the name."""
    for file in files:
        if file.suffix in PACKINGS and output.suffix != file.suffix:
            raise UsageError(f"{file} stays compressed, but {output} does not end in {file.suffix}")


def target_of(file: Selected, values: Values) -> Path | None:
    """Where the new file goes; None: in place, or where its content is written to."""
    if values.output_dir is not None:
        return Path(values.output_dir, file.relative)
    return None if values.output == STDOUT or isinstance(file.source, bytes) else values.output


def is_stream(values: Values, files: Selection) -> bool:
    """Whether the file comes from stdin or goes to stdout. Raises UsageError if something else is
    to go there too, and for what cannot be."""
    from_stdin = any(isinstance(file.source, bytes) for file in files.files)
    if values.output is not None and files.many:
        raise UsageError("--output does not go with a folder; --output-dir does")
    if from_stdin and (len(files.files) > 1 or values.output_dir is not None):
        raise UsageError("- does not go with other files, nor with --output-dir")
    if values.output != STDOUT and not from_stdin:
        return False
    to_stdout = values.output in (None, STDOUT)
    for other in ("diff", "backup", "depfile", *["format"] * to_stdout):
        if getattr(values, other):
            raise UsageError(f"--{other} does not go with a file from stdin or on stdout")
    if to_stdout and sys.stdout.isatty() and not values.dry_run:
        raise UsageError("stdout is a terminal: name a file by --output, or redirect it")
    return True
