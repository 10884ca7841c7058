"""What binutils see in the linked kernels and modules."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

from tests import tools
from tests.kernel.build import Kernel
from tests.tools import CROSS

_CALL = re.compile(r"\tbl +[0-9a-f]+ <((?:r2save\.)?__SCT__[^>+]+)[^>]*>")
_RESTORE = re.compile(r"\tld +r2,24\(r1\)$")


def calls(image: Path) -> Counter[tuple[bool, bool]]:
    """The calls of trampolines in a linked image: by stub or not, with r2 restored or not."""
    listed = tools.run(CROSS + "objdump", "-d", "--no-show-raw-insn", image).stdout
    counts: Counter[tuple[bool, bool]] = Counter()
    for line, following in pairwise(listed.splitlines()):
        if match := _CALL.search(line):
            counts[match[1].startswith("r2save."), bool(_RESTORE.search(following))] += 1
    return counts


def relocations(image: Path) -> int:
    """How many relocations for calls name trampolines."""
    listed = tools.run(CROSS + "readelf", "-rW", image).stdout
    return len(re.findall(r" R_PPC64_REL24 +[0-9a-f]+ __SCT__", listed))


def stubs(image: Path) -> list[str]:
    """The names of the stubs, sorted. Each is a function of eight bytes."""
    listed = tools.run(CROSS + "nm", "-S", image).stdout
    names = re.findall(r"^\w+ 0{15}8 [tTW] (r2save\..+)$", listed, re.MULTILINE)
    assert len(names) == listed.count(" r2save.")
    return sorted(names)


def called(stub: str) -> str:
    """The trampoline that a stub is for."""
    return stub.split(".")[1]


def module(kernel: Kernel, name: str) -> Path:
    (file,) = (path for path in kernel.modules if path.name == name)
    return file


def code_bytes(image: Path) -> int:
    """The size of all executable sections in bytes, including the linker's own stubs."""
    return sum(section.size for section in tools.sections(image) if "X" in section.flags)
