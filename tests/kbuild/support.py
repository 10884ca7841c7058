"""A tree like Kbuild's, small: a thin archive, a library, a module, and the links that Kbuild does.

The argument lists are those of a build of Linux 6.1 for powerpc.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests import archives
from tests.tools import CROSS, LD, LD_FLAGS_OF, ROOT, assemble, run

SCRIPT = ROOT / "scpatch" / "kbuild" / "scpatch-ld"
COPIES = ".tmp_vmlinux.scpatch"

_FLAGS = {"bfd": ["-z", "noexecstack", "--no-warn-rwx-segments"], "lld": ["-z", "noexecstack"]}
FLAGS = {linker: [*LD_FLAGS_OF["little"], *words] for linker, words in _FLAGS.items()}
LINKERS = {"bfd": LD, "lld": "ld.lld"}

CALLER = """
        FRAME {name}
        CALL __SCT__work
        LEAVE {name}
"""
TRAMPOLINE = """
        FUNC __SCT__work
        blr
        END __SCT__work
"""
PLAIN = """
        FUNC {name}
        blr
        END {name}
"""
SIBLING = """
        FUNC tail
        b __SCT__work
        END tail
"""
USES_LIB = "\n        .data\n        .quad helper\n"
MODULE_INFO = '\n        .section .gnu.linkonce.this_module,"aw"\n        .zero 64\n'

IMAGE_SCRIPT = """SECTIONS {
  .text 0x10000 : { *(.text .text.*) }
  .data : { *(.data .data.*) *(.toc .got) }
}
"""
MODULE_SCRIPT = "SECTIONS { .text 0 : { *(.text) } }\n"


def make_tree(root: Path, order: str = "little") -> Path:
    """An object tree: vmlinux.a (thin: two callers, one plain object), lib/lib.a, a module."""
    for name in ("init", "lib", "fs", "scripts", "include/config", "arch/powerpc/kernel"):
        (root / name).mkdir(parents=True)
    (root / "include/config/auto.conf").write_text("CONFIG_MODULES=y\n")
    (root / "arch/powerpc/kernel/vmlinux.lds").write_text(IMAGE_SCRIPT)
    (root / "scripts/module.lds").write_text(MODULE_SCRIPT)
    option = f"-m{order}"
    assemble(root / "init", CALLER.format(name="one"), "one.o", option)
    assemble(root / "init", CALLER.format(name="two") + TRAMPOLINE + USES_LIB, "two.o", option)
    assemble(root / "init", PLAIN.format(name="three"), "three.o", option)
    assemble(root / "lib", CALLER.format(name="helper"), "helper.o", option)
    archives.make(root / "vmlinux.a", "init/one.o", "init/two.o", "init/three.o", options="cDPrST")
    archives.make(root / "lib/lib.a", "helper.o", options="rcsT")
    source = CALLER.format(name="probe") + TRAMPOLINE
    assemble(root / "fs", source, "fs.o", option)
    assemble(root / "fs", MODULE_INFO, "fs.mod.o", option)
    return root


def image_arguments(
    output: str = "vmlinux", *, linker: str = "bfd", order: str = "little"
) -> list[str]:
    """What scripts/link-vmlinux.sh passes to the linker."""
    return [
        *(*LD_FLAGS_OF[order], *_FLAGS[linker]),
        *("-pie", "-z", "notext", "--build-id=sha1", "--orphan-handling=warn"),
        *("--script=./arch/powerpc/kernel/vmlinux.lds", "-o", output),
        *("--whole-archive", "vmlinux.a", "--no-whole-archive"),
        *("--start-group", "lib/lib.a", "--end-group"),
    ]


def module_arguments(
    module: str = "fs/fs", *, linker: str = "bfd", order: str = "little"
) -> list[str]:
    """What scripts/Makefile.modfinal passes to the linker."""
    return [
        *(
            "-r",
            *LD_FLAGS_OF[order],
            *_FLAGS[linker],
            "--build-id=sha1",
            "-T",
            "scripts/module.lds",
        ),
        *("-o", f"{module}.ko", f"{module}.o", f"{module}.mod.o"),
    ]


def environment(**changes: str) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**inherited, "SCPATCH_PYTHON": sys.executable, "LC_ALL": "C", **changes}


def call(
    tree: Path,
    arguments: Sequence[str],
    *,
    linker: str = LD,
    options: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs scpatch-ld in the tree, as make would."""
    return subprocess.run(
        [str(SCRIPT), *options, linker, *arguments],
        cwd=tree,
        env=environment(**(env or {})),
        text=True,
        capture_output=True,
        check=False,
    )


def link(
    tree: Path, arguments: Sequence[str] | None = None, **how: object
) -> subprocess.CompletedProcess[str]:
    """Runs scpatch-ld, which must succeed."""
    done = call(tree, image_arguments() if arguments is None else arguments, **how)  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr
    return done


def stubs(file: Path) -> list[str]:
    """The names of the stubs in a file, by nm."""
    names = [line.split()[-1] for line in run(CROSS + "nm", file).stdout.splitlines() if line]
    return sorted(name for name in names if name.startswith("r2save."))


def snapshot(root: Path) -> dict[str, tuple[bytes, int]]:
    """The contents and times of all files."""
    return {
        str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in root.rglob("*")
        if path.is_file()
    }
