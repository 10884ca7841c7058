"""The cache of the kernel under test, and running the commands that build it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

TAIL = 60
"""How many lines of a log a failure shows."""


class KernelError(Exception):
    """A step before the kernel had booted failed; the text has the end of its log."""


def folder() -> Path:
    """The directory of the kernel's source and object trees. It may be removed at any time."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    path = Path(cache) / "scpatch" / "kernel"
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps other processes of the tests out as long as it lasts."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def made(tree: Path, wanted: str) -> Iterator[bool]:
    """Gives True with the tree empty where it is not there or was made for another key; the block
    then fills it. It counts as made only if the block came to its end. To be called with the lock
    held."""
    stamp = tree.with_name(f"{tree.name}.key")
    missing = not (tree.exists() and stamp.exists() and stamp.read_text() == wanted)
    if missing:
        stamp.unlink(missing_ok=True)
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir()
    yield missing
    stamp.write_text(wanted)


def key(*parts: str | Path) -> str:
    """Twelve hex digits that stand for texts and for files, or all files of directories."""
    digest = hashlib.sha256()
    for part in parts:
        for name, content in _contents(part):
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:12]


def _contents(part: str | Path) -> Iterator[tuple[str, bytes]]:
    if isinstance(part, str):
        yield "", part.encode()
    elif part.is_file():
        yield part.name, part.read_bytes()
    else:
        for path in sorted(part.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield str(path.relative_to(part)), path.read_bytes()


def tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join([f"the last lines of {log}:", *lines[-TAIL:]])


def logged(
    command: Sequence[str | Path],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    timeout: float = 3600,
) -> None:
    """Runs a command with its output in `log`.

    Raises KernelError, with the end of the log, where it fails or takes longer than `timeout`
    seconds.
    """
    words = [str(word) for word in command]
    with log.open("a") as out:
        out.write("+ " + " ".join(words) + "\n")
        out.flush()
        try:
            done = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                cwd=directory,
                timeout=timeout,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise KernelError(f"{error}\n{tail(log)}") from None
    if done.returncode:
        raise KernelError(f"{' '.join(words)}: exit status {done.returncode}\n{tail(log)}")
