"""A call site that cannot be made right ends the build of a real kernel, and says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.kernel.build import Kernel, object_tree
from tests.kernel.images import calls
from tests.kernel.linux import Linux
from tests.kernel.make import edited, forget_links, make
from tests.kernel.store import KernelError, folder, locked
from tests.kernel.variants import REWRITTEN, WITH_DWARF, Variant
from tests.tools import CROSS, run

SOURCE = """\
        .text
        .globl  sct_tail
        .type   sct_tail, @function
sct_tail:
        b       __SCT__sct_k            # hand-written: no compiler makes a sibling call of it
        .size   sct_tail, . - sct_tail
"""


class Tree(NamedTuple):
    """An object tree, of which vmlinux.a has one more object, compiled from SOURCE."""

    linux: Linux
    path: Path
    variant: Variant
    """The one whose objects it has."""
    source: Path
    log: Path

    def make(self, flags: str = "") -> str:
        return make(self.linux, self.path, self.variant, self.log, "vmlinux", flags=flags)


@pytest.fixture
def tree(linux: Linux, naive: Kernel, tmp_path: Path) -> Iterator[Tree]:
    """`naive` sees to it that there is an object tree. What is changed here is made again by the
    next build."""
    source = tmp_path / "sct_tail.S"
    source.write_text(SOURCE)
    with locked(folder() / "lock"):
        path = object_tree(linux, REWRITTEN)
        added, archive = path / "sct_tail.o", path / "vmlinux.a"
        # modpost looks into what Kbuild leaves beside each object for the versions of symbols.
        beside = path / ".sct_tail.o.cmd"
        variant = WITH_DWARF if (path / ".dwarf").exists() else REWRITTEN
        forget_links(path)
        try:
            with edited(linux, path, variant):
                make(linux, path, variant, tmp_path / "make.log", "vmlinux_o")
                run(CROSS + "gcc", "-c", "-g", "-o", added, source)
                run(CROSS + "ar", "qDPST", "vmlinux.a", "sct_tail.o", cwd=path)
                beside.touch()
                yield Tree(linux, path, variant, source, tmp_path / "make.log")
        finally:
            for file in (archive, added, beside):
                file.unlink(missing_ok=True)
            forget_links(path)


def test_it_ends_the_build_unless_told_to_warn_only(tree: Tree) -> None:
    with pytest.raises(KernelError):
        tree.make()
    text = tree.log.read_text()
    place = f"vmlinux.a(sct_tail.o): .text+0x0 in sct_tail+0x0 ({tree.source}:5): "
    assert text.count(f"scpatch: error: {place}sibling call (b) to __SCT__sct_k") == 1
    assert "[SCP203]" in text
    assert "hint: make it a call: `bl` followed by a nop" in text
    assert "1 call site was refused, so the link is not done" in text
    assert not (tree.path / "vmlinux").exists()
    text = tree.make("--warn-only")
    assert text.count("[SCP203]") == 1
    assert "  SCPATCH vmlinux.a" in text
    # All others are right.
    counts = calls(tree.path / "vmlinux")
    assert counts.total() == counts[True, True] + counts[False, True] > 300
