"""Measures where the time of a small object and of a module's link goes: nearly all is start-up.

    python -m tests.bench.start [--rounds N] [--write docs/explanation/performance.md]

The commands take turns. A figure is the processor time of a process with its children, the least of
all rounds, which other work on the machine changes least. The tables go to standard output, or
between the marks in the page.
"""

import argparse
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench.growing import object_file
from tests.bench.installed import install, package
from tests.bench.measure import Command, Result, side_by_side
from tests.bench.page import write_section
from tests.bench.tools import bare_python, module_links, scpatch

BARE = "python -c pass"
HOOK = "scpatch-ld ld"
SCRIPT = "scpatch-ld --version"
_IMPORT = re.compile(r"import time: +(\d+) \| +\d+ \| +(\S+)")


def commands(folder: Path, python: Path) -> list[Command]:
    """What is compared: the same Python doing nothing, and scpatch's shortest runs."""
    source, output = object_file(folder, "7K", "--size", "7K"), folder / "out.o"
    script = str(package(python) / "kbuild" / "scpatch-ld")
    return [
        bare_python(python),
        Command("python -S -c pass", (str(python), "-S", "-c", "pass")),
        Command("scpatch --version", scpatch(python, "--version")),
        Command("scpatch rewrite", scpatch(python, "rewrite", source, "-o", output), output),
        *module_links(folder, python),
        Command(SCRIPT, (script, "--version")),
    ]


def imports(command: Command) -> dict[str, float]:
    """The modules that Python imports, and the seconds that each takes by itself: the least of ten
    runs, as `-X importtime` gives them."""
    first, *rest = command.argv
    if first != "env":
        argv = [first, "-X", "importtime", *rest]
    else:
        argv = [first, "PYTHONPROFILEIMPORTTIME=1", *command.argv]
    least: dict[str, float] = {}
    for _ in range(10):
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        for microseconds, name in _IMPORT.findall(done.stderr):
            least[name] = min(least.get(name, 1.0), int(microseconds) / 1e6)
    return least


def tables(results: Sequence[Result], every: Sequence[Command]) -> Iterator[str]:
    """Two tables in Markdown: the commands, and what the link of a module consists of."""
    least = {result.name: min(sample.cpu for sample in result.samples) for result in results}
    named = {command.name: command for command in every}
    modules = {name: {} if name == SCRIPT else imports(command) for name, command in named.items()}
    yield f"| command | processor time | / `{BARE}` | modules imported |"
    yield "|---|---:|---:|---:|"
    for name, seconds in sorted(least.items(), key=lambda item: item[1]):
        ratio = f"{seconds / least[BARE]:.2f}"
        yield f"| `{name}` | {seconds * 1e3:.1f} ms | {ratio} | {len(modules[name]) or '-'} |"
    more = {name: time for name, time in modules[HOOK].items() if name not in modules[BARE]}
    own = {name: time for name, time in more.items() if name.startswith("scpatch")}
    others = sum(more.values()) - sum(own.values())
    parts = {
        "the shell script": least[SCRIPT],
        "the start of Python": least[BARE],
        "`ld`": least["ld"],
    }
    parts["import scpatch, plan and write"] = least[HOOK] - sum(parts.values())
    traced = "of that, by `-X importtime`, which takes time itself: import"
    parts[f"{traced} {len(more) - len(own)} modules of the standard library"] = others
    parts[f"{traced} {len(own)} modules of scpatch"] = sum(own.values())
    yield from ("", "| part of the link of a module | processor time |", "|---|---:|")
    yield from (f"| {part} | {seconds * 1e3:.1f} ms |" for part, seconds in parts.items())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.start", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, metavar="N")
    parser.add_argument("--write", type=Path, metavar="PAGE")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="scpatch-bench-") as folder:
        every = commands(Path(folder), install(Path(folder)))
        lines = list(tables(side_by_side(every, args.rounds), every))
    print("\n".join(lines))
    if args.write:
        write_section(args.write, "start", lines)


if __name__ == "__main__":
    main()
