"""The in-tree step: where its lines go, that a second run changes nothing, that undo takes all."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scpatch.errors import ScpatchError
from scpatch.kbuild.edit import INSERTIONS, RULES, Insertion, edit
from tests import archives
from tests.kbuild.support import (
    CALLER,
    SIBLING,
    TRAMPOLINE,
    environment,
    make_tree,
    snapshot,
    stubs,
)
from tests.tools import LD, ROOT, assemble

TOP = """\
# A small top Makefile with the lines that the step looks for.
srctree := .
export srctree
export quiet Q KBUILD_VERBOSE
export KBUILD_VMLINUX_LIBS := lib/lib.a
MAKEFLAGS += --no-print-directory -rR
all: ; $(MAKE) -f scripts/Makefile.vmlinux && $(MAKE) -f scripts/Makefile.modfinal
CLEAN_FILES += vmlinux
MRPROPER_FILES += include/config
clean: ; rm -rf $(CLEAN_FILES)
"""
HELPERS = """\
cmd = set -e; $(if $(cmd_$(1)),echo '  $(quiet_cmd_$(1))'; $(cmd_$(1)))
saved = $(dir $@).$(notdir $@).cmd
if_changed = $(if $(strip $(filter-out FORCE,$?)$(filter-out $(saved_$@),$(cmd_$(1)))\\
\t$(filter-out $(cmd_$(1)),$(saved_$@))),\\
\t$(cmd); printf '%s\\n' 'saved_$@ := $(subst ','\\'',$(cmd_$(1)))' > $(saved),@:)
.DELETE_ON_ERROR:
"""
VMLINUX = """\
__default: vmlinux
include scripts/helpers
quiet_cmd_link_vmlinux = LD      $@
cmd_link_vmlinux = sh scripts/link-vmlinux.sh
targets += vmlinux
vmlinux: vmlinux.a FORCE
\t$(call if_changed,link_vmlinux)
FORCE:
-include $(wildcard $(foreach f,$(targets),$(dir $(f)).$(notdir $(f)).cmd))
"""
MODFINAL = """\
__modfinal: fs/fs.ko
include scripts/helpers
quiet_cmd_ld_ko_o = LD [M]  $@
cmd_ld_ko_o = LINKER -r -T scripts/module.lds -o $@ fs/fs.o fs/fs.mod.o
quiet_cmd_btf_ko = BTF [M] $@
targets += fs/fs.ko
fs/fs.ko: fs/fs.o fs/fs.mod.o FORCE
\t$(call if_changed,ld_ko_o)
FORCE:
-include $(wildcard $(foreach f,$(targets),$(dir $(f)).$(notdir $(f)).cmd))
"""
LINK = """\
if false; then
\tobjs=vmlinux.o
else
\tobjs=vmlinux.a
\tlibs="${KBUILD_VMLINUX_LIBS}"
fi
LINKER -pie -z notext -T arch/powerpc/kernel/vmlinux.lds -o vmlinux \\
\t--whole-archive ${objs} --no-whole-archive --start-group ${libs} --end-group
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = make_tree(tmp_path / "tree")
    (root / "Kbuild").write_text("")
    (root / "Makefile").write_text(TOP)
    (root / "scripts/helpers").write_text(HELPERS)
    (root / "scripts/Makefile.vmlinux").write_text(VMLINUX)
    (root / "scripts/Makefile.modfinal").write_text(MODFINAL.replace("LINKER", LD))
    (root / "scripts/link-vmlinux.sh").write_text(LINK.replace("LINKER", LD))
    (root / "scripts/link-vmlinux.sh").chmod(0o755)
    return root


def _make(tree: Path, *words: str, status: int = 0) -> str:
    program = f"SCPATCH={sys.executable} -m scpatch"
    command = ["make", *([] if any(w.startswith("SCPATCH=") for w in words) else [program]), *words]
    env = environment(PYTHONPATH=str(ROOT))
    done = subprocess.run(command, cwd=tree, env=env, text=True, capture_output=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_edited_tree_builds_with_stubs(tree: Path) -> None:
    edit(tree)
    inputs = {name: (tree / name).read_bytes() for name in ("vmlinux.a", "init/one.o", "lib/lib.a")}
    output = _make(tree)
    assert "SCPATCH vmlinux.scpatch.a" in output
    assert "SCPATCH lib/lib.scpatch.a" in output
    assert len(stubs(tree / "vmlinux")) == 3
    assert len(stubs(tree / "fs/fs.ko")) == 1
    assert {name: (tree / name).read_bytes() for name in inputs} == inputs
    before = snapshot(tree)
    assert "SCPATCH" not in _make(tree)
    assert snapshot(tree) == before


def test_other_flags_rebuild_and_no_program_builds_without_it(tree: Path) -> None:
    edit(tree)
    _make(tree)
    assert "SCPATCH vmlinux.scpatch.a" in _make(tree, "SCPATCH_FLAGS=--trampoline=no")
    assert stubs(tree / "vmlinux") == stubs(tree / "fs/fs.ko") == []
    _make(tree)
    assert len(stubs(tree / "vmlinux")) == 3
    assert "SCPATCH" not in _make(tree, "SCPATCH=")
    assert stubs(tree / "vmlinux") == stubs(tree / "fs/fs.ko") == []


def test_each_rewritten_module_has_a_line_as_with_the_linker(tree: Path) -> None:
    edit(tree)
    output = _make(tree)
    assert output.index("LD [M]  fs/fs.ko") < output.index("  SCPATCH fs/fs.ko\n")
    (tree / "fs/fs.ko").unlink()
    assert "fs.ko: 1 call site rewritten (by 1 stub)" in _make(tree, "KBUILD_VERBOSE=1")
    (tree / "fs/fs.ko").unlink()
    assert "SCPATCH fs/fs.ko" not in _make(tree, "SCPATCH_FLAGS=--trampoline=no")


def _refuse(tree: Path) -> None:
    assemble(tree / "init", SIBLING, "three.o")
    (tree / "vmlinux.a").unlink()
    names = "init/one.o", "init/two.o", "init/three.o"
    archives.make(tree / "vmlinux.a", *names, options="cDPrST")


def test_a_refused_site_ends_the_build_without_warn_only(tree: Path) -> None:
    edit(tree)
    _refuse(tree)
    for _ in range(2):
        output = _make(tree, status=2)
        assert "scpatch: vmlinux.a(init/three.o): .text+0x0 in tail+0x0: " in output
        assert "hint: " in output
        assert not (tree / "vmlinux").exists()
        assert not (tree / "vmlinux.scpatch.a").exists()
    output = _make(tree, "SCPATCH_FLAGS=--warn-only")
    assert "[SCP203]" in output
    assert len(stubs(tree / "vmlinux")) == 3


def test_a_refused_site_in_a_module_ends_the_build_without_warn_only(tree: Path) -> None:
    edit(tree)
    assemble(tree / "fs", CALLER.format(name="probe") + SIBLING + TRAMPOLINE, "fs.o")
    assert "fs/fs.ko: .text+" in _make(tree, status=2)
    assert not (tree / "fs/fs.ko").exists()
    output = _make(tree, "SCPATCH_FLAGS=--warn-only")
    assert "[SCP203]" in output
    assert "  SCPATCH fs/fs.ko\n" in output
    assert len(stubs(tree / "fs/fs.ko")) == 1


def test_only_the_changed_member_is_planned(tree: Path) -> None:
    edit(tree)
    _make(tree)
    assemble(tree / "init", CALLER.format(name="one") + "nop\n", "one.o")
    (tree / "vmlinux.a").unlink()
    names = "init/one.o", "init/two.o", "init/three.o"
    archives.make(tree / "vmlinux.a", *names, options="cDPrST")
    assert "; 2 other members are as before" in _make(tree, "KBUILD_VERBOSE=1")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--prelink", "vmlinux.a", "new.a"], "--prelink is for scpatch-ld"),
        (["one", "two", "three"], "wrong arguments"),
        (["--no-such", "fs/fs.o"], "unknown option --no-such"),
        (["Makefile", "new.a"], "neither an archive nor an object"),
    ],
)
def test_wrong_arguments_of_the_step(tree: Path, words: list[str], message: str) -> None:
    command = [sys.executable, "-m", "scpatch", "kbuild", "step", *words]
    env = environment(PYTHONPATH=str(ROOT))
    done = subprocess.run(command, cwd=tree, env=env, text=True, capture_output=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tree / "new.a").exists()


def test_a_program_that_cannot_run_ends_the_build(tree: Path) -> None:
    edit(tree)
    assert "cannot run no-such-scpatch" in _make(tree, "SCPATCH=no-such-scpatch", status=2)


def test_clean_removes_the_copies(tree: Path) -> None:
    before = {*snapshot(tree)}
    edit(tree)
    _make(tree)
    _make(tree, "clean")
    # The top Makefile of Linux removes .*.cmd and .tmp_* wherever they are.
    hidden = re.compile(r"(.*/)?\.(.*\.cmd|tmp_.*)")
    left = {name for name in snapshot(tree).keys() - before if not hidden.fullmatch(name)}
    assert left == {RULES, "fs/fs.ko"}


def test_a_second_run_changes_nothing_and_undo_restores_all(tree: Path) -> None:
    before = {name: content for name, (content, _) in snapshot(tree).items()}
    changed = edit(tree)
    assert sorted(changed) == sorted({RULES, *(insertion.file for insertion in INSERTIONS)})
    edited = snapshot(tree)
    assert edit(tree) == []
    assert snapshot(tree) == edited
    assert os.access(tree / "scripts/link-vmlinux.sh", os.X_OK)
    assert sorted(edit(tree, undo=True)) == sorted(changed)
    assert {name: content for name, (content, _) in snapshot(tree).items()} == before
    assert edit(tree, undo=True) == []


def test_an_older_step_is_brought_up_to_date(tree: Path) -> None:
    edit(tree)
    expected = {name: content for name, (content, _) in snapshot(tree).items()}
    path = tree / "scripts/link-vmlinux.sh"
    path.write_text(path.read_text().replace("vmlinux.scpatch.a", "old.a"))
    rules = tree / RULES
    rules.write_text(rules.read_text().replace("kbuild step", "kbuild old"))
    assert edit(tree) == ["scripts/link-vmlinux.sh", RULES]
    assert {name: content for name, (content, _) in snapshot(tree).items()} == expected


@pytest.mark.parametrize("insertion", INSERTIONS, ids=lambda insertion: insertion.anchor)
@pytest.mark.parametrize("times", [0, 2])
def test_without_exactly_one_anchor_nothing_is_written(
    tree: Path, insertion: Insertion, times: int
) -> None:
    path = tree / insertion.file
    lines = path.read_text().splitlines(keepends=True)
    new = [
        part
        for line in lines
        for part in [line] * (times if re.fullmatch(insertion.anchor, line.rstrip("\n")) else 1)
    ]
    path.write_text("".join(new))
    before = snapshot(tree)
    with pytest.raises(ScpatchError) as caught:
        edit(tree)
    assert caught.value.code == "SCP402"
    assert caught.value.file == str(path)
    assert ("2 times" if times else "nowhere") in caught.value.message
    assert snapshot(tree) == before


@pytest.mark.parametrize("mark", ["# scpatch: begin\n", "# scpatch: end\n"])
def test_half_a_block_is_refused(tree: Path, mark: str) -> None:
    edit(tree)
    path = tree / "Makefile"
    path.write_text(path.read_text() + mark)
    for undo in (False, True):
        with pytest.raises(ScpatchError, match="without its other half"):
            edit(tree, undo=undo)


def test_a_foreign_file_is_left_alone(tree: Path) -> None:
    (tree / RULES).write_text("theirs\n")
    for undo in (False, True):
        with pytest.raises(ScpatchError, match="did not write it"):
            edit(tree, undo=undo)
    assert (tree / RULES).read_text() == "theirs\n"


def test_another_directory_is_no_kernel_tree(tmp_path: Path) -> None:
    with pytest.raises(ScpatchError, match="no source tree"):
        edit(tmp_path)


def test_the_command_lists_what_it_changed(tree: Path) -> None:
    command = [sys.executable, "-m", "scpatch", "kbuild", "edit", str(tree)]
    env = environment(PYTHONPATH=str(ROOT))
    done = subprocess.run(command, env=env, text=True, capture_output=True, check=True)
    assert done.stdout.splitlines() == edit(tree, undo=True)
    (tree / "Makefile").write_text("")
    done = subprocess.run(command, env=env, text=True, capture_output=True, check=False)
    assert done.returncode == 1
    assert "[SCP402]" in done.stderr
    assert "hint: " in done.stderr
