"""What the sections of a Linux kernel mean to the control flow of its code.

The rewriter and the proof know that apart from each other, and must know the same. A section that
neither knows counts as one that holds addresses which somebody may branch to. Those that a real
kernel has are listed here, so that a new kind is noticed.
"""

from __future__ import annotations

import re
from pathlib import Path

from scpatch.linux import patched
from scpatch.saved import labels
from tests.tools import CROSS, run

CODE = re.compile(r"(\.\w+)*\.text(\..*)?|\.fixup|\.meminit\.text|__ftr_alt_\d+")
"""Sections of instructions, alternatives included: their branches are branches."""

DATA = re.compile(
    r"\.(data|rodata|ref\.data|exit\.data|init\.(data|rodata|setup)|toc|machine\.desc|con_initcall\.init)(\..*)?"
    r"|\.(initcall\w+\.init|exitcall\.exit|pci_fixup_\w+)"
    r"|__(param|tracepoint\w*|reservedmem_of_table|\w+_sched_class)|_ftrace_\w+"
    r"|__(bpf_raw_tp_map|dyndbg\w*|ksymtab\w*)|\.export_symbol|\.gnu\.linkonce\.this_module"
    r"|\.kunit(_init)?_test_suites"
)
"""Data sections in which an address of code is called."""


def unknown(sections: set[str]) -> set[str]:
    """Those of a kernel's relocated sections that are neither a table that is known, nor code, nor
    data."""
    known = labels.MARKS | labels.PAIRS.keys() | {labels.RESTARTS}
    return {
        name
        for name in sections - known
        if not CODE.fullmatch(name)
        and not DATA.fullmatch(name)
        and not name.startswith(labels.DISCARDED)
    }


def relocated(path: Path) -> set[str]:
    """The names of the sections of an object that are relocated, those of exports left out."""
    headers = run(CROSS + "readelf", "-SW", path).stdout
    return {name for name in re.findall(r"\] \.rela(\S+) ", headers) if "+" not in name}


def fixups(sections: set[str]) -> set[str]:
    return {name for name in sections if name.endswith("_fixup")} - patched.FIXUPS
