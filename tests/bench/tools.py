"""The commands that are compared: scpatch, and what else copies or reads an object."""

import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path

from tests.bench.installed import package
from tests.bench.measure import Command
from tests.kbuild.support import make_tree, module_arguments
from tests.tools import CROSS, LD

BINUTILS = CROSS
LIEF = "import sys, lief; b = lief.ELF.parse(sys.argv[1]); b.write(sys.argv[2])"
# What a scan needs at least, as one writes it with pyelftools: names of call sites' symbols.
PYELFTOOLS = """
import sys
from elftools.elf.elffile import ELFFile
from tests.tools import CROSS
with open(sys.argv[1], 'rb') as file:
    elf, sites, names = ELFFile(file), 0, {}
    symtab = elf.get_section_by_name('.symtab')
    for section in elf.iter_sections('SHT_RELA'):
        if elf.get_section(section['sh_info'])['sh_flags'] & 4:
            for relocation in section.iter_relocations():
                if relocation['r_info_type'] == 10:
                    number = relocation['r_info_sym']
                    if number not in names:
                        names[number] = symtab.get_symbol(number).name
                    sites += names[number].startswith('__SCT__')
print(sites)
"""


def scpatch(python: Path, *arguments: str | Path) -> tuple[str, ...]:
    # -I: not the package in the current folder.
    return str(python), "-I", "-m", "scpatch", *map(str, arguments)


def all_commands(file: Path, folder: Path, python: Path) -> list[Command]:
    """One command of each tool on the same file; each writes to another name. `python` runs
    scpatch."""

    def writing(name: str, *argv: str) -> Command:
        out = folder / (name.replace(" ", "-") + ".out.o")
        return Command(name, tuple(str(out) if word == "OUT" else word for word in argv), out)

    source = str(file)
    return [
        writing("cp", "cp", source, "OUT"),
        writing("scpatch rewrite", *scpatch(python, "rewrite", source, "-o", "OUT")),
        writing(
            "scpatch rewrite --sync", *scpatch(python, "rewrite", source, "-o", "OUT", "--sync")
        ),
        Command("scpatch scan --no-lines", scpatch(python, "scan", "--no-lines", source)),
        writing("objcopy", BINUTILS + "objcopy", source, "OUT"),
        writing("llvm-objcopy", "llvm-objcopy", source, "OUT"),
        writing("ld -r", BINUTILS + "ld", "-r", source, "-o", "OUT"),
        writing("LIEF parse and write", sys.executable, "-c", LIEF, source, "OUT"),
        Command("pyelftools scan", (sys.executable, "-c", PYELFTOOLS, source)),
    ]


def bare_python(python: Path) -> Command:
    return Command("python -c pass", (str(python), "-c", "pass"))


def module_links(folder: Path, python: Path) -> list[Command]:
    """The link of a small module, by ld and by scpatch-ld, in a tree like Kbuild's."""
    tree = make_tree(folder / "tree")
    link = ("env", "-C", str(tree), f"SCPATCH_PYTHON={python}")
    hook = str(package(python) / "kbuild" / "scpatch-ld")
    output = tree / "fs/fs.ko"
    return [
        Command("ld", (*link, LD, *module_arguments()), output),
        Command("scpatch-ld ld", (*link, hook, LD, *module_arguments()), output),
    ]


def versions() -> list[str]:
    """What was measured with: a line for each tool."""
    lines = [f"Python {platform.python_version()}, {platform.system()} {platform.release()}"]
    for tool in ("cp", BINUTILS + "objcopy", "llvm-objcopy"):
        done = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True)
        said = [
            line.strip() for line in done.stdout.splitlines() if "ersion" in line or "(" in line
        ]
        lines.append(said[0])
    packages = ("capstone", "keystone-engine", "lief", "pyelftools", "rich", "typer")
    versions_of_packages = (f"{name} {importlib.metadata.version(name)}" for name in packages)
    return [*lines, ", ".join(versions_of_packages)]
