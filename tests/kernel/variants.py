"""The ways in which the kernel under test is linked."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import scpatch
from tests.tools import LD

SCPATCH = Path(scpatch.__file__).parent


@dataclass(frozen=True)
class Variant:
    """One way to link the kernel. All are made from the same compiled objects, but for DWARF and
    those with a configuration of their own."""

    name: str
    flags: str | None = ""
    """SCPATCH_FLAGS; None for a link without scpatch."""
    linker: str = LD
    dwarf: bool = False
    """Whether the directories of DWARF_IN are compiled with debug information."""
    in_tree: bool = False
    """Whether the step stands in the tree's Makefiles, instead of scpatch-ld."""
    at_sites: bool = False
    """Whether the kernel is configured to patch call sites."""

    @property
    def rewritten(self) -> bool:
        return self.flags is not None

    @property
    def words(self) -> list[str]:
        """The variables for make."""
        script = SCPATCH / "kbuild" / "scpatch-ld"
        by_linker = self.rewritten and not self.in_tree
        words = [f"LD={script} {self.linker}" if by_linker else f"LD={self.linker}"]
        if self.in_tree:
            words.append(f"SCPATCH={sys.executable} -m scpatch")
        if self.dwarf:
            words.append("TEST_CFLAGS=-g")
        return words


NAIVE = Variant("naive", flags=None)
REWRITTEN = Variant("rewritten")
IN_TREE = Variant("in-tree", in_tree=True)
PRELINKED = Variant("prelink", flags="--prelink")
BY_LLD = Variant("lld", linker="ld.lld")
WITH_DWARF = Variant("dwarf", dwarf=True)
VARIANTS = (NAIVE, REWRITTEN, IN_TREE, PRELINKED, BY_LLD, WITH_DWARF)
REWRITTEN_VARIANTS = tuple(variant for variant in VARIANTS if variant.rewritten)
"""All of these are booted through all cases."""
BY_PACA = Variant("paca", flags="--strategy=paca")
"""The image alone: its modules are rewritten by callsite."""
BY_LIVEPATCH = Variant("livepatch", flags="--strategy=livepatch-stack")
AT_SITES = Variant("at-sites", flags="--emit-sites", at_sites=True)
AT_SITES_BY_LLD = Variant("at-sites-lld", "--emit-sites", "ld.lld", at_sites=True)
UNLISTED = Variant("unlisted", at_sites=True)
"""The same kernel, which is not told where its call sites are."""
