"""The ways in which a kernel under test is compiled and linked."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import scpatch
from tests.tools import CROSS, CROSS_BIG, LD, LD_BIG, LLD

SCPATCH = Path(scpatch.__file__).parent


@dataclass(frozen=True)
class Variant:
    """One way to build a kernel. All with the same `tree` are made from the same compiled objects,
    but for DWARF."""

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
    bare: bool = False
    """Whether nothing else patches its code: neither ftrace, nor kprobes, nor live patches."""
    pcrel: bool = False
    """Whether it is configured for pc-relative code: it runs on a Power10."""
    clang: bool = False
    """Whether clang compiles it, and LLVM's tools do the rest, the linker too."""
    big_endian: bool = False
    """Whether it is configured to be big-endian. It is ELFv2 all the same."""

    @property
    def cross(self) -> str:
        """What the names of the compiler and of binutils start with."""
        return CROSS_BIG if self.big_endian else CROSS

    @property
    def llvm(self) -> bool:
        """Whether any of LLVM's tools takes part, which a kernel may want newer ones of."""
        return self.clang or self.linker == LLD

    @property
    def rewritten(self) -> bool:
        return self.flags is not None

    def words(self, linker: str) -> list[str]:
        """The variables for make that have it linked so."""
        script = SCPATCH / "kbuild" / "scpatch-ld"
        by_linker = self.rewritten and not self.in_tree
        words = [f"LD={script} {linker}" if by_linker else f"LD={linker}"]
        if self.in_tree:
            words.append(f"SCPATCH={sys.executable} -m scpatch")
        if self.dwarf:
            words.append("TEST_CFLAGS=-g")
        return words

    @property
    def apart(self) -> bool:
        """Whether its objects are not compiled into their source tree, but by `make O=`."""
        return self.clang

    @property
    def tree(self) -> str:
        """The name of its object tree: what has one configuration and one compiler."""
        kinds = {
            "big-endian": self.big_endian,
            "clang": self.clang,
            "pcrel": self.pcrel,
            "at-sites": self.at_sites,
            "bare": self.bare,
        }
        return "-".join(kind for kind, is_one in kinds.items() if is_one) or "objects"

    @property
    def configurations(self) -> tuple[str, ...]:
        """Files in fixtures/kernel. A later line for an option counts."""
        kinds = {
            "config": True,
            "config-big-endian": self.big_endian,
            "config-pcrel": self.pcrel,
            "config-at-sites": self.at_sites,
            "config-bare": self.bare,
            "config-clang": self.clang,
        }
        return tuple(name for name, is_used in kinds.items() if is_used)

    @property
    def cpu(self) -> str:
        """What QEMU is to run it on."""
        return "power10" if self.pcrel else "power9"


NAIVE = Variant("naive", flags=None)
_CALLSITE = "--strategy=callsite"
REWRITTEN = Variant("rewritten", _CALLSITE)
IN_TREE = Variant("in-tree", _CALLSITE, in_tree=True)
PRELINKED = Variant("prelink", f"{_CALLSITE} --prelink")
BY_LLD = Variant("lld", _CALLSITE, LLD)
WITH_DWARF = Variant("dwarf", _CALLSITE, dwarf=True)
REWRITTEN_VARIANTS = (REWRITTEN, IN_TREE, PRELINKED, BY_LLD, WITH_DWARF)
"""All of these are booted through all cases."""
BY_PACA = Variant("paca")
"""The image alone: its modules are rewritten by callsite. So it is without any option."""
BY_LIVEPATCH = Variant("livepatch", flags="--strategy=livepatch-stack")
AT_SITES = Variant("at-sites", f"{_CALLSITE} --emit-sites", at_sites=True)
AT_SITES_BY_LLD = Variant("at-sites-lld", f"{_CALLSITE} --emit-sites", LLD, at_sites=True)
AT_SITES_BY_DEFAULT = Variant("at-sites-default", "--emit-sites", at_sites=True)
UNLISTED = Variant("unlisted", _CALLSITE, at_sites=True)
"""The same kernel, which is not told where its call sites are."""
AT_SITES_BARE = Variant("at-sites-bare", f"{_CALLSITE} --emit-sites", at_sites=True, bare=True)
PCREL = Variant("pcrel", pcrel=True)
PCREL_BY_PACA = Variant("pcrel-paca", "--strategy=paca", pcrel=True)
PCREL_AT_SITES = Variant("pcrel-at-sites", "--emit-sites", at_sites=True, pcrel=True)
BY_CLANG = Variant("clang", _CALLSITE, LLD, clang=True)
NAIVE_BY_CLANG = Variant("naive-clang", flags=None, linker=LLD, clang=True)
SERIES = Variant("series")
SERIES_AT_SITES = Variant("series-at-sites", "--emit-sites", at_sites=True)
"""These are built of the patches, not of the overlay."""


def _big_endian(name: str, flags: str | None = "", linker: str = LD_BIG, **kinds: bool) -> Variant:
    return Variant(f"big-endian-{name}", flags, linker, big_endian=True, **kinds)


BIG_ENDIAN_NAIVE = _big_endian("naive", None)
BIG_ENDIAN_REWRITTEN = _big_endian("rewritten", _CALLSITE)
BIG_ENDIAN_BY_PACA = _big_endian("paca")
BIG_ENDIAN_MARKED = _big_endian("localentry", "--strategy=localentry")
BIG_ENDIAN_BY_LIVEPATCH = _big_endian("livepatch", "--strategy=livepatch-stack")
BIG_ENDIAN_IN_TREE = _big_endian("in-tree", _CALLSITE, in_tree=True)
BIG_ENDIAN_BY_LLD = _big_endian("lld", _CALLSITE, LLD)
BIG_ENDIAN_AT_SITES = _big_endian("at-sites", f"{_CALLSITE} --emit-sites", at_sites=True)
