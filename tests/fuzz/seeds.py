"""What the fuzzers begin with: every prebuilt object, module and archive, and some made of them."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

from scpatch.errors import ScpatchError
from scpatch.rewriter import plan_object
from tests.archives import AR, header
from tests.fuzz.modes import MODES
from tests.tools import CROSS, FIXTURES, apply

BIG = FIXTURES / "big"
MEMBERS = ("calls-gcc.o", "sites.o", "marked.o")
"""Files that the thin archives name."""


@cache
def objects() -> dict[str, bytes]:
    """The prebuilt files that are no archives, and a linked image; of both byte orders."""
    names = [path for kind in ("*.o", "*.ko", "*.so") for path in sorted(FIXTURES.glob(kind))]
    names += [path for kind in ("*.o", "*.ko", "*.so") for path in sorted(BIG.glob(kind))]
    return {str(path.relative_to(FIXTURES)): path.read_bytes() for path in names}


@cache
def rewritten() -> dict[str, tuple[bytes, bytes]]:
    """Pairs of a prebuilt object before and after each mode that changes it."""
    archives = {}
    for name, data in objects().items():
        for mode in MODES:
            try:
                _, layout = plan_object(memoryview(data), name, mode.options)
            except ScpatchError:
                continue
            if layout is not None:
                archives[f"{name}, {mode.name}"] = data, apply(data, layout)
    return archives


def archives(folder: Path) -> dict[str, bytes]:
    """The prebuilt archive, one with each kind of table, and thin ones whose members are put into
    `folder`."""
    archives = {path.name: path.read_bytes() for path in sorted(FIXTURES.glob("*.a"))}
    archives |= {f"big/{path.name}": path.read_bytes() for path in sorted(BIG.glob("*.a"))}
    for name in MEMBERS:
        (folder / name).write_bytes((FIXTURES / name).read_bytes())
    (folder / "out").mkdir(exist_ok=True)
    small = [folder / name for name in ("marked.o", "unmarked.o")]
    small[1].write_bytes((FIXTURES / "unmarked.o").read_bytes())
    made = folder / "made.a"
    inner = folder / "inner.a"
    _run(AR, "rcsD", inner, *small)
    commands: dict[str, list[str | Path]] = {
        "gnu": [AR, "rcsD", made, *small],
        "bsd": ["llvm-ar", "--format=bsd", "rcsD", made, *small],
        "sym64": ["env", "SYM64_THRESHOLD=1", "llvm-ar", "rcsD", made, *small],
        "thin": [AR, "rcsDT", made, *(folder / name for name in MEMBERS)],
        "nested": [AR, "rcsDT", made, folder / "sites.o", inner],
    }
    for label, command in commands.items():
        made.unlink(missing_ok=True)
        _run(*command)
        archives[label] = made.read_bytes()
    archives["odd"] = b"!<arch>\n" + header(b"a/", 1) + b"x\n" + header(b"/7", 0)
    return archives


def large(folder: Path) -> bytes:
    """An object of about 64 KiB with many call sites: prebuilt ones linked together."""
    large = folder / "large.o"
    names = ("calls-sections.o", "calls-gcc.o", "calls-clang.o", "merged.o", "sites.o", "refused.o")
    paths = [FIXTURES / name for name in names]
    _run(CROSS + "ld", "-r", "-z", "muldefs", "-o", large, *paths, FIXTURES / "calls-gcc-dwarf.o")
    return large.read_bytes()


def _run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
