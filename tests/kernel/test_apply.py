"""The script that puts the overlay into a tree, on a tree of a few lines."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests import tools
from tests.kernel.source import KERNEL

_HEADER = "arch/powerpc/include/asm/static_call.h"

TREE = {
    "arch/powerpc/Kconfig": (
        "config PPC\n\tselect HAVE_STATIC_CALL\t\t\tif PPC32\n\tselect OTHER\n"
        'source "arch/powerpc/kvm/Kconfig"\n'
    ),
    "arch/powerpc/Kbuild": "obj-y += kernel/\nobj-y += mm/\n",
    "arch/powerpc/kernel/Makefile": "obj-$(CONFIG_PPC32)\t\t+= a.o static_call.o\nobj-y += b.o\n",
    _HEADER: (
        "#ifndef _ASM_POWERPC_STATIC_CALL_H\n#define _ASM_POWERPC_STATIC_CALL_H\nold\n"
        "#endif /* _ASM_POWERPC_STATIC_CALL_H */\n"
    ),
    "arch/powerpc/kernel/setup-common.c": (
        "#include <linux/export.h>\n#include <linux/other.h>\n"
        "void __init setup_arch(void)\n{\n\tmmu_context_init();\n\n\tmore();\n}\n"
    ),
    "arch/Kconfig": (
        "config HAVE_STATIC_CALL_INLINE\n\tbool\n\tdepends on HAVE_STATIC_CALL\n"
        "\tselect OBJTOOL\n\nconfig OTHER\n\tselect OBJTOOL\n"
    ),
    "kernel/static_call_inline.c": (
        "\tarch_static_call_transform(NULL, tramp, func, false);\n"
        "\t\t\tarch_static_call_transform(site_addr, NULL, func,\n"
        "\t\t\t\t\t\t   static_call_is_tail(site));\n"
    ),
}

REPLACED = {
    "\tselect OBJTOOL": "\tselect OBJTOOL if HAVE_OBJTOOL",
    "\t\t\tarch_static_call_transform(site_addr, NULL, func,": (
        "\t\t\tarch_static_call_transform(site_addr, tramp, func,"
    ),
}
"""The lines that become others, once each."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in TREE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def apply(tree: Path) -> tuple[int, str]:
    done = tools.run(sys.executable, KERNEL / "apply.py", tree, check=False)
    assert done.stdout == ""
    return done.returncode, done.stderr


def content(tree: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in tree.rglob("*") if path.is_file()}


def test_it_inserts_and_copies(tree: Path) -> None:
    files = sum(path.is_file() for path in (KERNEL / "overlay").rglob("*"))
    assert apply(tree) == (0, f"apply.py: {files + len(TREE)} files changed\n")
    assert (tree / _HEADER).read_text().splitlines() == [
        "#ifndef _ASM_POWERPC_STATIC_CALL_H",
        "#define _ASM_POWERPC_STATIC_CALL_H",
        "#ifdef CONFIG_PPC64",
        "#include <asm/static_call_64.h>",
        "#else",
        "old",
        "#endif /* CONFIG_PPC64 */",
        "#endif /* _ASM_POWERPC_STATIC_CALL_H */",
    ]
    for path in (KERNEL / "overlay").rglob("*"):
        if path.is_file():
            copy = tree / path.relative_to(KERNEL / "overlay")
            assert copy.read_bytes() == path.read_bytes()


def test_twice_is_once(tree: Path) -> None:
    apply(tree)
    before = content(tree)
    assert apply(tree) == (0, "apply.py: 0 files changed\n")
    assert content(tree) == before


def test_no_line_is_lost(tree: Path) -> None:
    apply(tree)
    replaced = []
    for name, text in TREE.items():
        left = iter((tree / name).read_text().splitlines())
        for line in text.splitlines():
            found = next(one for one in left if one in (line, REPLACED.get(line)))
            replaced += [line] if found != line else []
    assert sorted(replaced) == sorted(REPLACED)


def test_files_shared_by_hard_links_stay_as_they_are(tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.hardlink_to(tree / _HEADER)
    apply(tree)
    assert other.read_text() == TREE[_HEADER]


@pytest.mark.parametrize("name", TREE)
@pytest.mark.parametrize("change", ["gone", "twice", "missing"])
def test_an_anchor_that_is_not_there_once_stops_it(tree: Path, name: str, change: str) -> None:
    path = tree / name
    if change == "missing":
        path.unlink()
    else:
        path.write_text("other\n" if change == "gone" else TREE[name] * 2)
    before = content(tree)
    code, message = apply(tree)
    assert code == 1
    assert message.startswith(f"apply.py: {name}: ")
    assert content(tree) == before
