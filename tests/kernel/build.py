"""Builds the kernel under test, once as compilers and linkers make it and once with scpatch."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from tests.kernel import toolchain
from tests.kernel.linux import Linux
from tests.kernel.make import TESTS, edited, forget_links, make, make_command
from tests.kernel.source import KERNEL, install, source_key, source_tree
from tests.kernel.store import KernelError, folder, key, locked, logged, made, tail
from tests.kernel.variants import SCPATCH, Variant

_CODE = tuple(
    Path(__file__).with_name(f"{name}.py") for name in ("build", "make", "toolchain", "variants")
)
"""What the products depend on beside scpatch."""

_NOT_IN_ALL = frozenset({"CONFIG_BASIC_MODVERSIONS"})
"""Options of the configuration that older kernels do not know."""


@dataclass(frozen=True)
class Kernel:
    """The products of a build. The names of modules are those of their files, with `.ko`."""

    vmlinux: Path
    modules: tuple[Path, ...]
    init: Path
    """The program that is the kernel's user space, statically linked."""


def build(linux: Linux, variant: Variant) -> Kernel:
    """The kernel, from the cache where it is there.

    Raises KernelError with the end of the log where a step fails.
    """
    with locked(folder() / "lock"):
        _install(toolchain.programs(linux, variant))
        tree = object_tree(linux, variant)
        products = _products(tree, variant)
        if not (products / ".complete").exists():
            _make(linux, tree, variant)
            _keep(tree, products)
        os.utime(products)
        modules = tuple(sorted(products.glob("*.ko")))
        return Kernel(products / "vmlinux", modules, user_space(linux, variant))


@cache
def _install(programs: tuple[str, ...]) -> None:
    install(*programs)


def _products(tree: Path, variant: Variant) -> Path:
    """Where the products are stored. The name of rewritten ones depends on all of scpatch."""
    code = _key_of_scpatch() if variant.rewritten else ""
    return tree / "products" / f"{variant.name}-{key(code, *_CODE)}"


@cache
def _key_of_scpatch() -> str:
    return key(SCPATCH)


def object_tree(linux: Linux, variant: Variant) -> Path:
    """The configured object tree of a variant. To be called with the lock held."""
    config = "".join((KERNEL / name).read_text() for name in variant.configurations)
    tree = linux.folder / variant.tree
    # Others of the same tree may have another linker.
    first = replace(variant, flags=None, linker=variant.cross + "ld")
    wanted = key(source_key(linux), config, toolchain.version(linux, first))
    with made(tree, wanted) as missing:
        if missing:
            if not variant.apart:
                tree.rmdir()
                logged(["cp", "-al", source_tree(linux), tree], linux.folder / "copy.log")
            log, asked = tree / "config.log", tree / "asked.config"
            asked.write_text(config)
            chosen = {"KCONFIG_ALLCONFIG": str(asked), **toolchain.environment()}
            command = [
                *make_command(linux, tree, first),
                *toolchain.words(linux, first),
                "allnoconfig",
            ]
            logged(command, log, environment=chosen)
            check_config(tree, config.splitlines(), source_tree(linux))
    return tree


def check_config(tree: Path, asked: Collection[str], source: Path) -> None:
    """Raises KernelError if Kconfig dropped an option; the last line for an option counts."""
    have = _options((tree / ".config").read_text().splitlines())
    wrong = [
        line
        for option, line in _options(asked).items()
        if have.get(option, f"# {option} is not set") != line
        and (option not in _NOT_IN_ALL or _declares(source, option))
    ]
    if wrong:
        raise KernelError(f"the configuration lacks {', '.join(wrong)}")


def _declares(source: Path, option: str) -> bool:
    line = f"\nconfig {option.removeprefix('CONFIG_')}\n"
    return any(line in path.read_text() for path in source.rglob("Kconfig*") if path.is_file())


def _options(lines: Iterable[str]) -> dict[str, str]:
    """The last line for each option, `CONFIG_X=y` or `# CONFIG_X is not set`."""
    option = re.compile(r"(?:# )?(CONFIG_\w+)(?:=.*| is not set)")
    return {match[1]: match[0] for match in map(option.fullmatch, lines) if match}


def _make(linux: Linux, tree: Path, variant: Variant) -> None:
    """Builds a variant, and a second time: there is nothing to do then.

    Raises KernelError where there is, or the build has warnings.
    """
    forget_links(tree)
    log, second = tree / f"{variant.name}.log", tree / f"{variant.name}-again.log"
    with edited(linux, tree, variant):
        text = make(linux, tree, variant, log, "vmlinux", "modules")
        again = make(linux, tree, variant, second, "vmlinux", "modules")
    check_warnings(text, log)
    if re.search(r"^  (LD|SCPATCH|AR|CC) ", again, re.MULTILINE):
        raise KernelError(f"a second build does not find everything made\n{tail(second)}")


def check_warnings(text: str, log: Path) -> None:
    """Raises KernelError if the text of a build has warnings."""
    if "WARNING" in text or "warning:" in text:
        raise KernelError(f"the build has warnings\n{tail(log)}")


def _keep(tree: Path, products: Path) -> None:
    """Copies what a boot and the tests need, and drops what no test run has used for a day."""
    for old in products.parent.glob("*"):
        if old.stat().st_mtime < time.time() - 24 * 3600:
            shutil.rmtree(old)
    shutil.rmtree(products, ignore_errors=True)
    products.mkdir(parents=True)
    names = ["vmlinux", "vmlinux.o", "System.map", "include/generated/asm-offsets.h"]
    files = [tree / name for name in names]
    files += sorted(tree.glob(f"{TESTS}/*.ko"))
    for file in files:
        shutil.copy(file, products)
    (products / ".complete").touch()


def user_space(linux: Linux, variant: Variant) -> Path:
    """The program init, compiled for the variant. To be called with the lock held."""
    source = KERNEL / "init.c"
    folder = linux.folder / ("init-big-endian" if variant.big_endian else "init")
    with made(folder, key(source)) as missing:
        program = folder / "init"
        if missing:
            words = [variant.cross + "gcc", "-O2", "-static", "-Wall", "-Wextra", "-Werror"]
            logged([*words, "-o", program, source], linux.folder / "init.log")
    return program
