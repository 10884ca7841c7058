"""The step that `scpatch kbuild edit` writes into the tree of a real kernel."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from scpatch.kbuild.edit import INSERTIONS, RULES, edit
from tests.kernel.build import Kernel, build, object_tree
from tests.kernel.images import calls, stubs
from tests.kernel.linux import Linux
from tests.kernel.make import edited, make
from tests.kernel.source import source_tree
from tests.kernel.store import folder, locked
from tests.kernel.variants import IN_TREE


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
