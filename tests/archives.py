"""Archives for tests, made and listed by real `ar` programs."""

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.tools import CLANG, CROSS, FIXTURES, GCC, QEMU, compile_c, rewrite, run

AR = CROSS + "ar"
LLVM_AR = "llvm-ar"
CALLER = "extern int __SCT__twice(int); int call(int x) { return __SCT__twice(x) + 1; }"
TWICE = "int __SCT__twice(int x) { return 2 * x; }"
MAIN = r"""
#include <stdio.h>
int call(int);
int main(void) { printf("%d\n", call(20)); }
"""
LINKERS = {"bfd": GCC, "lld": [*CLANG, "-fuse-ld=lld"]}


def header(name: bytes, size: int | bytes, end: bytes = b"`\n") -> bytes:
    """A member header as `ar` writes it."""
    digits = size if isinstance(size, bytes) else b"%d" % size
    return b"%-16b%-12d%-6d%-6d%-8o%-10b%b" % (name, 0, 0, 0, 0o644, digits, end)


def make(
    archive: Path, *files: str | Path, options: str = "rcs", ar: Sequence[str] = (AR,)
) -> Path:
    """Runs `ar` in the archive's directory."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    run(*ar, options, archive.name, *files, cwd=archive.parent)
    return archive


def make_bsd(archive: Path, *files: str | Path, options: str = "rcs") -> Path:
    return make(archive, *files, options=options, ar=(LLVM_AR, "--format=bsd"))


def make_sym64(archive: Path, *files: str | Path, options: str = "rcs") -> Path:
    """An archive with the symbol table /SYM64/, which `ar` writes past 4 GiB only."""
    return make(archive, *files, options=options, ar=("env", "SYM64_THRESHOLD=1", LLVM_AR))


def names(archive: Path) -> list[str]:
    """The members as `ar` lists them: for a thin archive, paths from its directory."""
    return run(AR, "t", archive.name, cwd=archive.parent).stdout.splitlines()


def content(archive: Path, name: str, count: int = 1) -> bytes:
    """A member as GNU ar prints it; the `count`-th of those that have the name."""
    if count == 1:
        command = [AR, "p", archive.name, name]
        return subprocess.run(command, check=True, capture_output=True, cwd=archive.parent).stdout
    with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
        run(AR, "xN", str(count), archive.resolve(), name, cwd=Path(folder))
        return Path(folder, name).read_bytes()


def armap(archive: Path) -> list[str]:
    """The archive's symbol table, each line `SYMBOL in MEMBER`."""
    return _armap("Archive map", "llvm-nm", "--print-armap", archive)


def gnu_armap(archive: Path) -> list[str]:
    """The same by GNU nm, which reads members of a regular archive inside a thin archive."""
    return _armap("Archive index:", CROSS + "nm", "-s", archive)


def _armap(title: str, *command: str | Path) -> list[str]:
    lines = run(*command).stdout.lstrip("\n").split("\n\n")[0].splitlines()
    assert lines[0] == title
    return lines[1:]


def objects(folder: Path, *fixtures: str) -> list[Path]:
    """Copies of prebuilt objects."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name in fixtures:
        made.append(folder / name)
        made[-1].write_bytes((FIXTURES / name).read_bytes())
    return made


def program(folder: Path) -> list[Path]:
    """A caller, the trampoline that it calls, and a program that runs both."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        compile_c(folder, source, "-O2", name=name)
        for source, name in ((CALLER, "caller.o"), (TWICE, "twice.o"), (MAIN, "main.o"))
    ]


def output_of(folder: Path, main: Path, archive: Path, linker: str) -> str:
    """What a program prints that is linked with the archive."""
    built = folder / f"program-{linker}"
    run(*LINKERS[linker], "-static", main, archive, "-o", built)
    return run(*QEMU, built).stdout


def tree(folder: Path) -> dict[str, bytes]:
    """All files under a directory, hidden ones too."""
    contents = {}
    for root, _, files in os.walk(folder):
        for name in files:
            path = Path(root, name)
            contents[str(path.relative_to(folder))] = path.read_bytes()
    return contents


def alone(path: Path) -> bytes:
    """The object as it is when it is rewritten as a file."""
    target = path.with_name(f"alone.{path.name}")
    rewrite(path, target)
    data = target.read_bytes()
    target.unlink()
    assert data != path.read_bytes()
    return data


def program_archive(folder: Path, kind: str) -> tuple[Path, Path]:
    """A program's main object, and an archive of the caller and the trampoline that it needs."""
    caller, twice, main = program(folder)
    maker = {"sym64": make_sym64, "bsd": make_bsd}.get(kind, make)
    options = "rcsT" if kind == "thin" else "rcs"
    return main, maker(folder / "x.a", caller.name, twice.name, options=options)


def thin(folder: Path, *files: str) -> Path:
    return make(folder / "x.a", *files, options="rcsT")


def nested(folder: Path) -> tuple[Path, Path]:
    """A thin archive with a file, and with the members of a regular archive."""
    objects(folder, "calls-gcc.o", "sites.o", "marked.o")
    (folder / "lib").mkdir()
    inner = make(folder / "lib" / "inner.a", "../calls-gcc.o", "../marked.o", "../sites.o")
    objects(folder / "file", "sites.o")
    return thin(folder, "file/sites.o", "lib/inner.a"), inner


def thin_by_hand(archive: Path, *names: str) -> Path:
    """A thin archive with the names as they are: `ar` makes them as short as it can."""
    table = b"".join(name.encode() + b"/\n" for name in names)
    table += b"\n" * (len(table) % 2)
    data = b"!<thin>\n" + header(b"//", len(table)) + table
    start = 0
    for name in names:
        data += header(b"/%d" % start, (archive.parent / name).stat().st_size)
        start += len(name) + 2
    archive.write_bytes(data)
    return archive
