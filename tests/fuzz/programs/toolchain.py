"""Compilers, option sets, linkers and QEMU, as a random program needs them."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from scpatch.elf.encoding import ByteOrder
from tests.tools import CLANG_OF, CROSS, LD, LD_FLAGS_OF, LLD, QEMU_OF

HERE: Final = Path(__file__).parent
START: Final = ("-static", "-e", "_start", "-z", "noexecstack")

LINKERS: Final = {"ld": LD, "lld": LLD}
BYTE_ORDERS: Final[dict[ByteOrder, str]] = {"little": "", "big": ", big-endian"}
"""With what the names of their compilers end."""

PACA_TOC, PACA_THREAD_INFO, LIVEPATCH_SP = 16, 64, 80
"""Offsets in bytes, as in start.S."""


class Compiler(NamedTuple):
    name: str
    command: tuple[str, ...]
    byte_order: ByteOrder
    """Of what it makes."""

    @property
    def is_gcc(self) -> bool:
        return self.name.startswith("gcc")


class OptionSet(NamedTuple):
    """Options of both units; None where the compiler does not know them."""

    name: str
    gcc: tuple[str, ...] | None
    clang: tuple[str, ...] | None
    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()

    def of(self, compiler: Compiler) -> tuple[str, ...] | None:
        return self.gcc if compiler.is_gcc else self.clang


def _both(name: str, options: str, *, a: str = "", b: str = "") -> OptionSet:
    words = tuple(options.split())
    return OptionSet(name, words, words, tuple(a.split()), tuple(b.split()))


def _gcc(name: str, options: str, *, b: str = "") -> OptionSet:
    return OptionSet(name, tuple(options.split()), None, (), tuple(b.split()))


_KERNEL = (
    "-O2 -mcpu=power8 -mno-vsx -fno-strict-aliasing -fno-common -fno-asynchronous-unwind-tables"
)

OPTION_SETS: Final = (
    _both("-O0", "-O0"),
    _both("-O1", "-O1"),
    _both("-O2", "-O2"),
    _both("-O3", "-O3"),
    _both("-Os", "-Os"),
    _both("-fPIC", "-O2 -fPIC"),
    _both("-mcpu=power8", "-O2 -mcpu=power8"),
    _both("-mcpu=power9", "-O3 -mcpu=power9"),
    # Of an inline PLT call in pc-relative code, GNU ld 2.40 makes one to a local entry, r2 unset.
    _both("power10 and TOC", "-O2", a="-mcpu=power10 -DNO_LONGCALL"),
    _both("-mcmodel=small", "-O2 -mcmodel=small"),
    _both("-mcmodel=large", "-O2 -mcmodel=large"),
    _both("-ffunction-sections", "-O2 -ffunction-sections -fdata-sections"),
    _both("-fno-omit-frame-pointer", "-O2 -fno-omit-frame-pointer -fno-optimize-sibling-calls"),
    _both("-fstack-protector-strong", "-O2 -fstack-protector-strong"),
    _both("-fstack-clash-protection", "-O2 -fstack-clash-protection"),
    _both("-fno-jump-tables", "-O2 -fno-jump-tables"),
    _both("-fno-inline -g", "-O2 -fno-inline -g"),
    OptionSet("kernel", (*_KERNEL.split(), "-mno-altivec"), tuple(_KERNEL.split())),
    OptionSet(
        "no shrink-wrapping",
        ("-O2", "-fno-shrink-wrap"),
        ("-O2", "-mllvm", "-enable-shrink-wrap=false"),
    ),
    OptionSet(
        "cold parts",
        ("-O2", "-freorder-blocks-and-partition"),
        ("-O2", "-mllvm", "-hot-cold-split"),
    ),
    _both("-fpatchable-function-entry", "-O2 -fpatchable-function-entry=2"),
    _gcc("-mlongcall", "-O2 -mlongcall"),
    _gcc("-fno-plt", "-O2", b="-fno-plt -DPLAIN"),
    _gcc("-mno-save-toc-indirect", "-O2 -mno-save-toc-indirect"),
    _gcc("-mprofile-kernel", "-O2 -pg -mprofile-kernel"),
    _gcc("-mlongcall -mno-save-toc-indirect", "-O1 -mlongcall -mno-save-toc-indirect"),
)


def compilers() -> list[Compiler]:
    """gcc, and the oldest and the newest clang that are installed; each for both byte orders."""
    folders = {Path(path).parent for path in map(shutil.which, ("clang", CROSS + "gcc")) if path}
    numbers = sorted(
        int(match[1])
        for folder in folders | {Path("/usr/bin")}
        for path in folder.glob("clang-*")
        if (match := re.fullmatch(r"clang-(\d+)", path.name))
    )
    chosen = dict.fromkeys(numbers[:1] + numbers[-1:])
    gcc = f"gcc-{_version(CROSS + 'gcc')}"
    compilers = [
        Compiler(gcc + suffix, gcc_of(order), order) for order, suffix in BYTE_ORDERS.items()
    ]
    for name in (f"clang-{number}" for number in chosen):
        for order, suffix in BYTE_ORDERS.items():
            compilers.append(Compiler(name + suffix, (name, *CLANG_OF[order][1:]), order))
    return compilers


def gcc_of(order: ByteOrder) -> tuple[str, ...]:
    return CROSS + "gcc", f"-m{order}-endian"


def _version(command: str) -> str:
    return _run((command, "-dumpversion")).stdout.strip()


class ToolError(Exception):
    """A compiler or linker failed; the message is its output."""


def _run(command: Sequence[str | Path], *, check: bool = True) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    if check and done.returncode:
        raise ToolError(f"{' '.join(words)}\n{done.stderr.strip()}")
    return done


@cache
def knows(compiler: Compiler, options: tuple[str, ...], folder: Path) -> bool:
    """Whether a compiler takes the options, tried on an empty file."""
    empty = folder / "empty.c"
    empty.write_text("")
    rest = ("-c", str(empty), "-o", str(folder / "empty.o"))
    command = (*compiler.command, *options, *rest)
    return not _run(command, check=False).returncode


def compile_command(
    compiler: Compiler, options: Sequence[str], source: Path, target: Path
) -> list[str]:
    rest = ["-w", "-ffreestanding", "-I", str(HERE), "-c", str(source), "-o", str(target)]
    return [*compiler.command, *options, *rest]


def compile_unit(compiler: Compiler, options: Sequence[str], source: Path, target: Path) -> None:
    _run(compile_command(compiler, options, source, target))


CONSTANT: Final = {
    "inside.o": ("trampolines.S", "-DINSIDE"),
    "outside.o": ("trampolines.S",),
    "start.o": ("start.S",),
    "harmless.o": ("hostile.S", "-DHARMLESS"),
    "hostile.o": ("hostile.S",),
    "hostile-near.o": ("hostile.S", "-DNEAR_KEEPS_R2"),
    "targets.o": ("targets.c", "-O2", "-fno-stack-protector"),
}
"""What is the same for every program, and how it is made."""


def constant_command(name: str, folder: Path, order: ByteOrder) -> list[str]:
    source, *options = CONSTANT[name]
    words = ["-mcpu=power8", "-w", "-ffreestanding", *options, "-c", str(HERE / source)]
    return [*gcc_of(order), *words, "-o", str(folder / name)]


def build_constant(folder: Path, order: ByteOrder) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in CONSTANT:
        _run(constant_command(name, folder, order))


def libgcc(order: ByteOrder) -> list[str]:
    """The functions that save and restore registers for `-Os` code; GNU ld has its own. Debian has
    none for big-endian ELFv2."""
    name = _run((CROSS + "gcc", "-print-libgcc-file-name")).stdout.strip()
    return [name] if order == "little" else []


def merge_command(parts: Sequence[Path | str], target: Path | str, order: ByteOrder) -> list[str]:
    return [LD, *LD_FLAGS_OF[order], "-r", "-o", str(target), *map(str, parts)]


def merge(parts: Sequence[Path], target: Path, order: ByteOrder) -> None:
    _run(merge_command(parts, target, order))


def link_command(
    linker: str, parts: Sequence[Path | str], target: Path | str, order: ByteOrder
) -> list[str]:
    flags = (*LD_FLAGS_OF[order], *START)
    return [LINKERS[linker], *flags, "-o", str(target), *map(str, parts), *libgcc(order)]


def link(linker: str, parts: Sequence[Path | str], target: Path, order: ByteOrder) -> None:
    _run(link_command(linker, parts, target, order))


def emulator(order: ByteOrder) -> list[str]:
    """What runs a program; with any instruction that one of the option sets permits."""
    return [*QEMU_OF[order], "-cpu", "power10"] if QEMU_OF[order] else []


class Output(NamedTuple):
    """What a program did."""

    text: str
    status: int
    """Negative: the signal that ended it."""
    reached: int
    """Call sites that reached their hostile target; 0 where the program did not come to its end."""

    def same(self, other: Output) -> bool:
        return (self.text, self.status) == (other.text, other.status)


def no_core_files() -> None:
    """QEMU writes one for each program that crashes, unless told not to."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def execute(program: Path, order: ByteOrder, seconds: float = 120) -> Output:
    command = [*emulator(order), str(program)]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=seconds, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return Output("", -99, 0)
    reached = done.stderr.decode("latin-1").strip() if not done.returncode else "0"
    return Output(done.stdout.decode("latin-1"), done.returncode, int(reached, 16))
