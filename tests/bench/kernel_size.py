"""Measures how much code each strategy adds to the kernel under test.

    python -m tests.bench.kernel_size [--strategy NAME]... [--write PAGE]

Builds the tests' kernel once without scpatch and once with each strategy that scpatch knows, or
those that are named, and compares the sizes of the executable sections. What differs are the links
only, so that it takes minutes. The table goes to standard output, or between the marks in the page.
Exit status 1: a kernel could not be built.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from scpatch.strategies import DEFAULT, names
from tests.bench.page import write_section
from tests.kernel.build import Kernel, build
from tests.kernel.images import calls, code_bytes, relocations, stubs
from tests.kernel.linux import Linux, select
from tests.kernel.store import KernelError
from tests.kernel.variants import NAIVE, PRELINKED, REWRITTEN, Variant

HEAD = (
    "| strategy | calls by a stub | stubs | more code in vmlinux | a call | in modules | a call |",
    "|---|---:|---:|---:|---:|---:|---:|",
)


def variants(strategies: Sequence[str]) -> Iterator[tuple[str, Variant]]:
    """The kernels to compare, with the names of their rows."""
    for name in strategies:
        if name == DEFAULT:
            yield name, REWRITTEN
            yield f"{name}, from one object (`--prelink`)", PRELINKED
        else:
            yield name, Variant(f"strategy-{name}", flags=f"--strategy={name}")


def row(name: str, naive: Kernel, kernel: Kernel) -> str:
    """A line of the table: bytes, and bytes by call of a trampoline."""
    by_stub = sum(count for (stub, _), count in calls(kernel.vmlinux).items() if stub)
    cells = [name, f"{by_stub:,}", f"{len(stubs(kernel.vmlinux)):,}"]
    in_image = calls(naive.vmlinux).total()
    in_modules = sum(relocations(module) for module in naive.modules)
    for before, after, count in (
        ([naive.vmlinux], [kernel.vmlinux], in_image),
        (naive.modules, kernel.modules, in_modules),
    ):
        more = sum(map(code_bytes, after)) - sum(map(code_bytes, before))
        cells += [f"{more:,} bytes", f"{more / count:.1f}"]
    return f"| {' | '.join(cells)} |"


def measure(linux: Linux, strategies: Sequence[str]) -> tuple[list[str], bool]:
    """The section's text, and whether all kernels could be built."""
    naive = build(linux, NAIVE)
    in_image, in_modules = calls(naive.vmlinux).total(), sum(map(relocations, naive.modules))
    kernel = f"Linux {linux.version}: its vmlinux calls trampolines at {in_image:,} places, its"
    lines, whole = [f"{kernel} modules at {in_modules:,}.", "", *HEAD], True
    for name, variant in variants(strategies):
        try:
            lines.append(row(name, naive, build(linux, variant)))
        except KernelError as error:
            print(error, file=sys.stderr)
            lines.append(f"| {name} | - | does not link | - | - | - | - |")
            whole = False
        print(lines[-1], file=sys.stderr)
    return lines, whole


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.kernel_size", description=__doc__)
    parser.add_argument("--strategy", action="append", choices=names(), help="repeatable")
    parser.add_argument("--linux", metavar="VERSION", help="the kernel; by default the newest")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the section of the page")
    args = parser.parse_args(arguments)
    (linux, *_) = select(args.linux).full
    lines, whole = measure(linux, args.strategy or names())
    print("\n".join(lines))
    if args.write:
        write_section(args.write, "tests.bench.kernel_size", lines)
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
