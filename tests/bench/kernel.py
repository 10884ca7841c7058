"""Measures what scpatch costs in a build of the kernel under test, and says whether its targets
hold.

    python -m tests.bench.kernel [--rounds 2] [--relinks 7] [--write PAGE]

Run it in the project's folder, on a machine that does nothing else; it takes about fifteen minutes.
Tables go to standard output, or between the marks in the page. Exit status 1: a target was missed.
The kernel is that of tests/kernel.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scpatch.kbuild import copies
from tests.bench.measure import Command, Result, run_once
from tests.bench.page import write_section
from tests.bench.report import duration
from tests.kernel.linux import Linux, select
from tests.kernel.make import JOBS
from tests.kernel.source import KERNEL, install, source_tree
from tests.kernel.store import folder, locked
from tests.kernel.variants import NAIVE, REWRITTEN, Variant
from tests.tools import CROSS

LIMIT = 3600.0
LINKS, ONE, NOTHING = "all links", "init/main.o and its links", "nothing to do"
REBUILDS = {
    LINKS: ("vmlinux", "**/*.ko", copies.FOLDER),
    ONE: ("init/main.o",),
    NOTHING: (),
}
"""What is made again, and the files that are removed for it."""
CLEAN, RELINK = 0.02, 1.0
"""The targets: how much longer a clean build takes, and a relink of vmlinux in seconds."""


@dataclass(frozen=True, slots=True)
class Tree:
    """An object tree that is always built with the same command."""

    source: Path
    path: Path
    name: str
    variant: Variant

    def make(self, *targets: str) -> Command:
        environment = [f"SCPATCH_PYTHON={sys.executable}", "SCPATCH_FLAGS="]
        environment.append(f"KCONFIG_ALLCONFIG={KERNEL / 'config'}")
        words = ["make", "-C", str(self.source), f"O={self.path}", f"-j{JOBS}", "ARCH=powerpc"]
        words += [
            f"CROSS_COMPILE={CROSS}",
            "KBUILD_BUILD_TIMESTAMP=1",
            *self.variant.words(self.variant.linker),
        ]
        return Command(self.name, ("env", *environment, *words, *targets), limit=LIMIT)

    def configure(self) -> None:
        """An empty object tree with the configuration of the kernel under test."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir()
        run_once(self.make("allnoconfig"))


def turns(trees: Sequence[Tree], rounds: int) -> list[Tree]:
    """Who comes when: the second round in the other order, and so on."""
    return [tree for i in range(rounds) for tree in (trees if i % 2 == 0 else reversed(trees))]


def clean_builds(trees: Sequence[Tree], rounds: int) -> list[Result]:
    """Everything compiled and linked, in an object tree that has nothing but a configuration."""
    results_by_name = {tree.name: Result(tree.name) for tree in trees}
    for tree in turns(trees, rounds):
        tree.configure()
        _add(results_by_name, tree.make("vmlinux", "modules"))
    return list(results_by_name.values())


def rebuilds(trees: Sequence[Tree], rounds: int, missing: Sequence[str]) -> list[Result]:
    """What make does when files are missing (patterns, from the object tree). Once uncounted."""
    results_by_name = {tree.name: Result(tree.name) for tree in trees}
    for number, tree in enumerate(turns(trees, rounds + 1)):
        for path in [file for pattern in missing for file in tree.path.glob(pattern)]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        command = tree.make("vmlinux", "modules")
        if number < len(trees):
            run_once(command)
        else:
            _add(results_by_name, command)
    return list(results_by_name.values())


def _add(results_by_name: dict[str, Result], command: Command) -> None:
    sample = run_once(command)
    print(f"{command.name}: {sample.seconds:.2f} s, processor {sample.cpu:.2f} s", file=sys.stderr)
    old = results_by_name[command.name]
    results_by_name[command.name] = replace(old, samples=(*old.samples, sample))


def rows(what: str, results: Sequence[Result]) -> list[str]:
    lines = []
    for result in results:
        low, high = (duration(value) for value in result.spread)
        cells = [what, result.name, duration(result.median), f"{low} to {high}"]
        cells += [duration(result.cpu), str(len(result.samples))]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def verdict(
    name: str, results: Sequence[Result], limit: float, *, relative: bool
) -> tuple[bool, str]:
    """Whether the target holds in wall time, and a sentence about it and about processor time."""
    without, with_ = results
    unit = without.median if relative else 1.0
    more = (with_.median - without.median) / unit
    cpu = (with_.cpu - without.cpu) / (without.cpu if relative else 1.0)
    holds = more <= limit

    def shown(value: float) -> str:
        return f"{value * 100:+.1f} %" if relative else f"{value:+.2f} s"

    text = f"{name}: {shown(more)} with scpatch, processor time {shown(cpu)}"
    said = "holds" if holds else "**does not hold**"
    return holds, f"- {text}; target {shown(limit)}: {said}"


def share(clean: Result, links: Sequence[Result]) -> str:
    """What scpatch adds to all links of a build, as a share of the whole: the same question as that
    about clean builds, but not blurred by the minutes in which compilers run."""
    without, with_ = links
    more, cpu = with_.median - without.median, with_.cpu - without.cpu
    text = f"{more:+.2f} s with scpatch, {more / clean.median * 100:.1f} % of a clean build without"
    cpu_text = f"processor time {cpu:+.2f} s, {cpu / clean.cpu * 100:.1f} %"
    return f"- all links of a clean build: {text}; {cpu_text}"


def source_copy(linux: Linux, place: Path) -> Path:
    """A separate source tree, because tests write into theirs; the files are hard links."""
    with locked(folder() / "lock"):
        install()
        subprocess.run(["cp", "-al", source_tree(linux), place / "source"], check=True)
    return place / "source"


def measure(linux: Linux, place: Path, rounds: int, relink_rounds: int) -> tuple[list[str], bool]:
    """The section's text, and whether all targets hold."""
    source = source_copy(linux, place)
    trees = [
        Tree(source, place / "without", "without", NAIVE),
        Tree(source, place / "with", "with scpatch-ld", REWRITTEN),
    ]
    clean = clean_builds(trees, rounds)
    results_by_name = {
        what: rebuilds(trees, relink_rounds, missing) for what, missing in REBUILDS.items()
    }
    verdicts = [
        verdict("a clean build", clean, CLEAN, relative=True),
        verdict("one object changed", results_by_name[ONE], RELINK, relative=False),
    ]
    lines = [text for _, text in verdicts]
    lines += [share(clean[0], results_by_name[LINKS]), ""]
    lines += ["| build | | median | fastest to slowest | processor | rounds |"]
    lines += ["|---|---|---:|---:|---:|---:|", *rows("clean", clean)]
    lines += [line for what, results in results_by_name.items() for line in rows(what, results)]
    return lines, all(holds for holds, _ in verdicts)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.kernel", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="clean builds of each kind")
    parser.add_argument("--relinks", type=int, default=7, help="incremental builds of each kind")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the section of the page")
    parser.add_argument(
        "--folder", type=Path, help="where to build; on the file system of the cache"
    )
    parser.add_argument("--linux", metavar="VERSION", help="the kernel; by default the newest")
    args = parser.parse_args(arguments)
    (linux, *_) = select(args.linux).full
    where = args.folder or folder()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=where) as place:
        lines, holds = measure(linux, Path(place), args.rounds, args.relinks)
    print("\n".join(lines))
    if args.write:
        write_section(args.write, "tests.bench.kernel", lines)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
