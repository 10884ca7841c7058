"""The step that `scpatch kbuild edit` writes into the tree of a real kernel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from scpatch.kbuild.edit import INSERTIONS, RULES, edit
from tests import tools
from tests.kernel.build import Kernel, build, object_tree
from tests.kernel.images import calls, stubs
from tests.kernel.linux import Linux
from tests.kernel.make import edited, make, source_of
from tests.kernel.source import source_tree
from tests.kernel.store import folder, locked
from tests.kernel.variants import IN_TREE
from tests.tools import CROSS


def _files(tree: Path) -> dict[str, tuple[bytes, int]]:
    """Contents and modes of the files that the step could touch."""
    paths = [*tree.glob("*"), *tree.glob("scripts/*"), *tree.glob("arch/powerpc/*")]
    return {
        str(path.relative_to(tree)): (path.read_bytes(), path.stat().st_mode)
        for path in paths
        if path.is_file()
    }


def test_undo_restores_the_tree_byte_for_byte(linux: Linux, naive: Kernel) -> None:
    with locked(folder() / "lock"):
        tree = source_tree(linux)
        edit(tree, undo=True)
        before = _files(tree)
        try:
            changed = edit(tree)
            after = _files(tree)
            assert edit(tree) == []
        finally:
            undone = edit(tree, undo=True)
        assert _files(tree) == before
    assert set(changed) == set(undone) == {RULES, *(insertion.file for insertion in INSERTIONS)}
    assert {name for name in after if after[name] != before.get(name)} == set(changed)


@pytest.mark.short
def test_it_makes_the_stubs_that_scpatch_ld_makes(linux: Linux, rewritten: Kernel) -> None:
    kernel = build(linux, IN_TREE)
    assert stubs(kernel.vmlinux) == stubs(rewritten.vmlinux)
    assert calls(kernel.vmlinux) == calls(rewritten.vmlinux)
    for in_tree, by_linker in zip(kernel.modules, rewritten.modules, strict=True):
        assert stubs(in_tree) == stubs(by_linker)


@pytest.mark.short
@pytest.mark.parametrize("jobs", ["-j1", "-j4"])
def test_the_image_has_the_code_of_a_changed_object(
    linux: Linux, rewritten: Kernel, tmp_path: Path, jobs: str
) -> None:
    """Then there is nothing to do, and `make -n` with other options does nothing."""
    build(linux, IN_TREE)
    name = "scpatch_" + jobs.replace("-", "")
    with locked(folder() / "lock"), edited(linux, tree := object_tree(linux, IN_TREE), IN_TREE):
        variant = replace(IN_TREE, dwarf=(tree / ".dwarf").exists())

        def run(*words: str) -> str:
            return make(linux, tree, variant, tmp_path / "log", "vmlinux", jobs, *words)

        with _with_function(source_of(linux, tree) / "init/main.c", name):
            run()
        image = tree / "vmlinux"
        assert re.search(rf" T {name}$", tools.run(CROSS + "nm", image).stdout, re.MULTILINE)
        assert {restored for _, restored in calls(image)} == {True}
        made = _times(tree)
        run("-n", "SCPATCH_FLAGS=--trampoline=no")
        assert _times(tree) == made
        run()
        assert not re.search(rf" {name}$", tools.run(CROSS + "nm", image).stdout, re.MULTILINE)
        made = _times(tree)
        assert "  SCPATCH " not in run()
        assert _times(tree) == made


@contextmanager
def _with_function(path: Path, name: str) -> Iterator[None]:
    """A source file with another function. The tree's files may be hard links."""
    old = path.read_text()
    new = f"int {name}(int x);\nint __used {name}(int x)\n{{\n\treturn 3 * x;\n}}\n"
    try:
        path.unlink()
        path.write_text(old + new)
        yield
    finally:
        path.unlink()
        path.write_text(old)


def _times(tree: Path) -> dict[str, int]:
    """When what the links make was made."""
    names = ("vmlinux", "vmlinux.unstripped", "System.map", ".tmp_vmlinux1", ".vmlinux.cmd")
    paths = [tree / name for name in names]
    return {path.name: path.stat().st_mtime_ns for path in paths if path.exists()}


def test_one_object_compiled_again_has_one_member_rewritten_again(
    linux: Linux, rewritten: Kernel, tmp_path: Path
) -> None:
    """V=1 tells it."""
    build(linux, IN_TREE)
    with locked(folder() / "lock"), edited(linux, tree := object_tree(linux, IN_TREE), IN_TREE):
        variant = replace(IN_TREE, dwarf=(tree / ".dwarf").exists())
        make(linux, tree, variant, tmp_path / "log", "vmlinux")
        (tree / "init/main.o").unlink()
        text = make(linux, tree, variant, tmp_path / "log", "vmlinux", "V=1")
    match = re.search(r"^vmlinux\.a: \d+ call sites? .*; (\d+) other members", text, re.MULTILINE)
    assert match is not None
    assert int(match[1]) > 500
