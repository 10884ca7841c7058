"""Builds the kernel under test, once as compilers and linkers make it and once with scpatch."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.kernel.make import TESTS, edited, forget_links, make, make_command
from tests.kernel.source import KERNEL, install, source_key
from tests.kernel.store import KernelError, folder, key, locked, logged, tail
from tests.kernel.variants import SCPATCH, VARIANTS, Variant
from tests.tools import CROSS, LD, run

_CODE = tuple(Path(__file__).with_name(f"{name}.py") for name in ("build", "make", "variants"))
"""What the products depend on beside scpatch."""


@dataclass(frozen=True)
class Kernel:
    """The products of a build. The names of modules are those of their files, with `.ko`."""

    vmlinux: Path
    modules: tuple[Path, ...]
    init: Path
    """The program that is the kernel's user space, statically linked."""


def build(variant: Variant) -> Kernel:
    """The kernel, from the cache where it is there; also one that is not among VARIANTS.

    Raises KernelError with the end of the log where a step fails.
    """
    with locked(folder() / "lock"):
        install()
        tree = object_tree(at_sites=variant.at_sites)
        same_tree = {known for known in VARIANTS if known.at_sites == variant.at_sites}
        for wanted in _in_order(tree, {*same_tree, variant}):
            if not (_products(tree, wanted) / ".complete").exists():
                _make(tree, wanted)
                _keep(tree, _products(tree, wanted))
            os.utime(_products(tree, wanted))
            if wanted == variant:
                break
        products = _products(tree, variant)
        modules = tuple(sorted(products.glob("*.ko")))
        return Kernel(products / "vmlinux", modules, _init(tree))


def _in_order(tree: Path, variants: Collection[Variant]) -> list[Variant]:
    """The variants, such that little is compiled again from one to the next in the object tree."""
    last = tree / ".dwarf"

    def rank(variant: Variant) -> tuple[bool, bool, bool, str]:
        return variant.rewritten, variant.dwarf != last.exists(), variant.linker != LD, variant.name

    return sorted(variants, key=rank)


def _products(tree: Path, variant: Variant) -> Path:
    """Where the products are stored. The name of rewritten ones depends on all of scpatch."""
    code = _key_of_scpatch() if variant.rewritten else ""
    return tree / "products" / f"{variant.name}-{key(code, *_CODE)}"


@cache
def _key_of_scpatch() -> str:
    return key(SCPATCH)


def object_tree(*, at_sites: bool = False) -> Path:
    """A configured object tree; others, of an old source or configuration, are removed."""
    kind = "at-sites" if at_sites else "objects"
    files = [KERNEL / "config", *([KERNEL / "config-at-sites"] if at_sites else [])]
    config = "".join(file.read_text() for file in files)
    tools = [run(CROSS + "gcc", "--version").stdout, run(LD, "--version").stdout]
    tree = folder() / f"{kind}-{key(source_key(), config, *tools)}"
    if not (tree / ".config").exists():
        for old in folder().glob(f"{kind}-*"):
            shutil.rmtree(old)
        tree.mkdir()
        log, asked = tree / "config.log", tree / "asked.config"
        asked.write_text(config)
        chosen = {"KCONFIG_ALLCONFIG": str(asked)}
        logged([*make_command(tree), "allnoconfig"], log, environment=chosen)
        _check_config(tree, config.splitlines())
    return tree


def _check_config(tree: Path, asked: Collection[str]) -> None:
    """Raises KernelError if Kconfig dropped an option; the last line for an option counts."""
    have = _options((tree / ".config").read_text().splitlines())
    wrong = [
        line
        for option, line in _options(asked).items()
        if have.get(option, f"# {option} is not set") != line
    ]
    if wrong:
        (tree / ".config").unlink()
        raise KernelError(f"the configuration lacks {', '.join(wrong)}")


def _options(lines: Iterable[str]) -> dict[str, str]:
    """The last line for each option, `CONFIG_X=y` or `# CONFIG_X is not set`."""
    option = re.compile(r"(?:# )?(CONFIG_\w+)(?:=.*| is not set)")
    return {match[1]: match[0] for match in map(option.fullmatch, lines) if match}


def _make(tree: Path, variant: Variant) -> None:
    """Builds a variant, and a second time: there is nothing to do then.

    Raises KernelError where there is, or the build has warnings.
    """
    forget_links(tree)
    log, second = tree / f"{variant.name}.log", tree / f"{variant.name}-again.log"
    with edited(variant):
        text = make(tree, variant, log, "vmlinux", "modules")
        again = make(tree, variant, second, "vmlinux", "modules")
    if "WARNING" in text or "warning:" in text:
        raise KernelError(f"the build has warnings\n{tail(log)}")
    if re.search(r"^  (LD|SCPATCH|AR|CC) ", again, re.MULTILINE):
        raise KernelError(f"a second build does not find everything made\n{tail(second)}")


def _keep(tree: Path, products: Path) -> None:
    """Copies what a boot and the tests need, and drops what no test run has used for a day."""
    for old in products.parent.glob("*"):
        if old.stat().st_mtime < time.time() - 24 * 3600:
            shutil.rmtree(old)
    shutil.rmtree(products, ignore_errors=True)
    products.mkdir(parents=True)
    names = ["vmlinux", "vmlinux.o", "System.map"]
    files = [tree / name for name in names]
    files += sorted(tree.glob(f"{TESTS}/*.ko"))
    for file in files:
        shutil.copy(file, products)
    (products / ".complete").touch()


def _init(tree: Path) -> Path:
    program = tree / f"init-{key(KERNEL / 'init.c')}"
    if not program.exists():
        new = program.with_suffix(".new")
        warnings = ["-Wall", "-Wextra", "-Werror"]
        source = KERNEL / "init.c"
        logged([CROSS + "gcc", "-O2", "-static", *warnings, "-o", new, source], tree / "init.log")
        new.replace(program)
    return program
