"""The in-tree step: where its lines go, that a second run changes nothing, that undo takes all."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from scpatch.errors import ScpatchError
from scpatch.kbuild.edit import INSERTIONS, RULES, Insertion, edit
from tests.kbuild.support import (
    CALLER,
    COPIES,
    PLAIN,
    SIBLING,
    TRAMPOLINE,
    environment,
    make_tree,
    snapshot,
    stubs,
)
from tests.tools import CROSS, LD, ROOT, assemble, run

TOP = """\
# A small top Makefile with the lines that the step looks for.
srctree := .
export srctree
LD := LINKER
export LD
ifneq ($(sub_make_done),1)
export quiet Q KBUILD_VERBOSE
export sub_make_done := 1
endif
export KBUILD_VMLINUX_LIBS := lib/lib.a
export KBUILD_LDS := arch/powerpc/kernel/vmlinux.lds
MAKEFLAGS += --no-print-directory -rR
all: vmlinux modules
modules: compiled
\t@$(MAKE) -f scripts/Makefile.modfinal
vmlinux: compiled
\t@$(MAKE) -f scripts/Makefile.vmlinux
compiled: vmlinux.a
\ttouch compiled
vmlinux.a: init/one.o init/two.o init/three.o
\trm -f $@; AR cDPrST $@ $^
CLEAN_FILES += vmlinux vmlinux.unstripped vmlinux.o compiled
# Directories
MRPROPER_FILES += include/config
clean: ; rm -rf $(CLEAN_FILES)
help modules_install: ; @echo nothing is linked
.PHONY: all vmlinux modules clean help modules_install
"""
HELPERS = """\
squote := '
escsq = $(subst $(squote),'\\$(squote)',$1)
cmd = @set -e; $(if $(quiet_cmd_$(1)),echo '  $(quiet_cmd_$(1))';) $(cmd_$(1))
saved = $(dir $@).$(notdir $@).cmd
cmd_and_savecmd = $(cmd); printf '%s\\n' 'saved_$@ := $(call escsq,$(cmd_$(1)))' > $(saved)
cmd_and_fixdep = $(cmd_and_savecmd)
condition = $(strip $(filter-out FORCE,$?)$(filter-out $(saved_$@),$(cmd_$(1)))\\
\t$(filter-out $(cmd_$(1)),$(saved_$@)))
if_changed = $(if $(condition),$(cmd_and_savecmd),@:)
if_changed_dep = $(if $(condition),$(cmd_and_fixdep),@:)
.DELETE_ON_ERROR:
"""
VMLINUX = """\
__default: vmlinux
include include/config/auto.conf
include scripts/helpers
IMAGE := TARGET
cmd_link_vmlinux = $< "$(LD)" "$(KBUILD_LDFLAGS)" "$(LDFLAGS_vmlinux)" "$@"; true
targets += TARGET vmlinux.o
TARGET: scripts/link-vmlinux.sh vmlinux.o $(KBUILD_LDS) FORCE
\t+$(call if_changed_dep,link_vmlinux)
cmd_strip_relocs = cp $< $@
ifneq ($(IMAGE),vmlinux)
targets += vmlinux
vmlinux: $(IMAGE) FORCE
\t$(call if_changed,strip_relocs)
endif
vmlinux.o: vmlinux.a $(KBUILD_VMLINUX_LIBS)
\ttouch $@
FORCE:
-include $(wildcard $(foreach f,$(targets),$(dir $(f)).$(notdir $(f)).cmd))
"""
MODFINAL = """\
__modfinal: fs/fs.ko
include include/config/auto.conf
include scripts/helpers
quiet_cmd_ld_ko_o = LD [M]  $@
cmd_ld_ko_o = $(LD) -r -T scripts/module.lds -o $@ $(filter %.o, $^)
quiet_cmd_btf_ko = BTF [M] $@
if_changed_except = $(if $(condition),$(cmd); \\
\tprintf '%s\\n' 'saved_$@ := $(call escsq,$(cmd_$(1)))' > $(saved),@:)
targets += fs/fs.ko
fs/fs.ko: fs/fs.o fs/fs.mod.o FORCE
\t+$(call if_changed_except,ld_ko_o)
FORCE:
-include $(wildcard $(foreach f,$(targets),$(dir $(f)).$(notdir $(f)).cmd))
"""
LINK = """\
#!/bin/sh
set -e
LD="$1"
vmlinux_link()
{
\tld="${LD}"
\t${ld} -pie -z notext --script=./${KBUILD_LDS} -o $1 --whole-archive vmlinux.a \\
\t\t--no-whole-archive --start-group ${KBUILD_VMLINUX_LIBS} --end-group
}
vmlinux_link .tmp_vmlinux1
vmlinux_link "$4"
"""
SHAPES = {
    "6.1": "vmlinux",
    "6.14": "$(vmlinux-final)",
    "7.3": "vmlinux.unstripped",
}
"""By the first version that has it, the target of the link in scripts/Makefile.vmlinux."""
MEMBERS = ("init/one.o", "init/two.o", "init/three.o")


@pytest.fixture(params=SHAPES)
def shaped(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A tree of each shape."""
    return _tree(tmp_path / "tree", SHAPES[request.param])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return _tree(tmp_path / "tree", SHAPES["7.3"])


def _tree(path: Path, target: str) -> Path:
    root = make_tree(path)
    config = root / "include/config/auto.conf"
    config.write_text(config.read_text() + "CONFIG_PPC64=y\n")
    (root / "Kbuild").write_text("")
    (root / "Makefile").write_text(TOP.replace("LINKER", LD).replace("AR", CROSS + "ar"))
    (root / "scripts/helpers").write_text(HELPERS)
    vmlinux = VMLINUX.replace("TARGET", target)
    if target == "$(vmlinux-final)":
        vmlinux = f"vmlinux-final := vmlinux.unstripped\n{vmlinux}"
    (root / "scripts/Makefile.vmlinux").write_text(vmlinux)
    (root / "scripts/Makefile.modfinal").write_text(MODFINAL)
    (root / "scripts/link-vmlinux.sh").write_text(LINK)
    (root / "scripts/link-vmlinux.sh").chmod(0o755)
    return root


def _make(
    tree: Path, *words: str, status: int = 0, variables: Mapping[str, str] | None = None
) -> str:
    program = f"SCPATCH={sys.executable} -m scpatch"
    command = ["make", *([] if any(w.startswith("SCPATCH=") for w in words) else [program]), *words]
    env = environment(**{"PYTHONPATH": str(ROOT), **(variables or {})})
    done = subprocess.run(command, cwd=tree, env=env, text=True, capture_output=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def _symbols(file: Path) -> set[str]:
    return {line.split()[-1] for line in run(CROSS + "nm", file).stdout.splitlines() if line}


@pytest.mark.parametrize("jobs", ["-j1", "-j4"])
def test_a_changed_member_is_in_the_next_image(shaped: Path, jobs: str) -> None:
    """The copies are made before the link, whatever its target is called."""
    edit(shaped)
    for name in ("first", "second", "third"):
        assemble(shaped / "init", CALLER.format(name="one") + PLAIN.format(name=name), "one.o")
        assert "SCPATCH vmlinux.a" in _make(shaped, jobs)
        assert _symbols(shaped / "vmlinux") & {"first", "second", "third"} == {name}
        assert len(stubs(shaped / "vmlinux")) == 3
        before = snapshot(shaped)
        assert "SCPATCH" not in _make(shaped, jobs)
        assert snapshot(shaped) == before


def test_the_edited_tree_builds_with_stubs(shaped: Path) -> None:
    edit(shaped)
    inputs = {name: (shaped / name).read_bytes() for name in (*MEMBERS, "lib/lib.a", "fs/fs.o")}
    output = _make(shaped)
    assert "SCPATCH vmlinux.a" in output
    assert "SCPATCH lib/lib.a" in output
    assert len(stubs(shaped / "vmlinux")) == 3
    assert len(stubs(shaped / "fs/fs.ko")) == 1
    assert {name: (shaped / name).read_bytes() for name in inputs} == inputs


@pytest.mark.parametrize("by_environment", [False, True])
def test_other_flags_link_again_and_no_program_links_without_it(
    tree: Path, by_environment: bool
) -> None:
    edit(tree)
    _make(tree)
    flags = "--trampoline=no"
    words = [] if by_environment else [f"SCPATCH_FLAGS={flags}"]
    variables = {"SCPATCH_FLAGS": flags} if by_environment else {}
    for _ in range(2):
        _make(tree, *words, variables=variables)
        assert stubs(tree / "vmlinux") == stubs(tree / "fs/fs.ko") == []
        before = snapshot(tree)
        _make(tree, *words, variables=variables)
        assert snapshot(tree) == before
        assert "SCPATCH vmlinux.a" in _make(tree)
        assert len(stubs(tree / "vmlinux")) == 3
        assert len(stubs(tree / "fs/fs.ko")) == 1
    assert "SCPATCH" not in _make(tree, "SCPATCH=")
    assert stubs(tree / "vmlinux") == stubs(tree / "fs/fs.ko") == []


def test_another_scpatch_links_again(tree: Path, tmp_path: Path) -> None:
    """The program says what it is, so another state of a checkout with the same version counts."""
    edit(tree)
    _make(tree)
    shutil.copytree(ROOT / "scpatch", tmp_path / "other/scpatch")
    (tmp_path / "other/scpatch/new.py").write_text("")
    vmlinux, module = ((tree / name).stat().st_mtime_ns for name in ("vmlinux", "fs/fs.ko"))
    _make(tree, variables={"PYTHONPATH": str(tmp_path / "other")})
    assert (tree / "vmlinux").stat().st_mtime_ns > vmlinux
    assert (tree / "fs/fs.ko").stat().st_mtime_ns > module


@pytest.mark.parametrize("state", ["fresh", "same", "changed", "flags"])
def test_make_n_changes_nothing(shaped: Path, state: str) -> None:
    edit(shaped)
    words = ["SCPATCH_FLAGS=--trampoline=no"] if state == "flags" else []
    if state != "fresh":
        _make(shaped)
    if state == "changed":
        assemble(shaped / "init", CALLER.format(name="one") + PLAIN.format(name="new"), "one.o")
        assemble(shaped / "fs", CALLER.format(name="other") + TRAMPOLINE, "fs.o")
    before = snapshot(shaped)
    output = _make(shaped, "-n", *words)
    assert snapshot(shaped) == before
    assert ("-o fs/fs.ko" in output) == (state != "same")
    # make does not tell a make below it what it would have changed.
    assert ("link-vmlinux.sh" in output) == (state in ("fresh", "flags"))
    _make(shaped)
    assert len(stubs(shaped / "vmlinux")) == 3
    assert ("new" in _symbols(shaped / "vmlinux")) == (state == "changed")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["SCPATCH_FLAGS=--no-such"], "unknown option --no-such"),
        (["SCPATCH_FLAGS=--strategy=none"], "--strategy"),
        (["SCPATCH_FLAGS=--strategy=paca --unmark"], "--unmark"),
        (["SCPATCH=no-such-scpatch"], "cannot run no-such-scpatch"),
        ([f"LD=scpatch-ld {LD}"], "leave scpatch-ld out of LD"),
    ],
)
@pytest.mark.parametrize("goals", [[], ["clean", "modules"]])
def test_what_is_wrong_is_told_before_anything_is_compiled(
    tree: Path, words: list[str], message: str, goals: list[str]
) -> None:
    edit(tree)
    before = snapshot(tree)
    assert message in _make(tree, *goals, *words, status=2)
    assert snapshot(tree) == before


@pytest.mark.parametrize("goal", ["clean", "help", "modules_install"])
def test_goals_that_link_nothing_do_not_need_the_program(tree: Path, goal: str) -> None:
    edit(tree)
    _make(tree, goal, "SCPATCH=no-such-scpatch")
    _make(tree, goal, "SCPATCH_FLAGS=--no-such")


def test_the_program_says_once_what_it_is(tree: Path) -> None:
    """Each start costs a tenth of a second, in builds that have nothing to do also."""
    edit(tree)
    _make(tree)
    counter = tree / "program"
    counter.write_text(f'#!/bin/sh\necho "$@" >>calls\nexec {sys.executable} -m scpatch "$@"\n')
    counter.chmod(0o755)
    _make(tree, "SCPATCH=./program")
    (tree / "calls").unlink()
    _make(tree, "SCPATCH=./program")
    assert (tree / "calls").read_text() == "kbuild step\n"


def test_another_word_size_is_not_touched(tree: Path) -> None:
    """It has no TOC."""
    edit(tree)
    (tree / "include/config/auto.conf").write_text("CONFIG_PPC32=y\n")
    assert "SCPATCH" not in _make(tree)
    assert stubs(tree / "vmlinux") == []


def test_a_command_without_the_linker_ends_the_build(tree: Path) -> None:
    path = tree / "scripts/Makefile.modfinal"
    path.write_text(path.read_text().replace("$(LD)", LD))
    edit(tree)
    assert "cmd_ld_ko_o has no $(LD)" in _make(tree, status=2)


def test_an_unknown_link_ends_the_build(tree: Path) -> None:
    """It would be done without scpatch."""
    path = tree / "scripts/link-vmlinux.sh"
    path.write_text(path.read_text().replace("--script=./${KBUILD_LDS}", ""))
    edit(tree)
    output = _make(tree, status=2)
    assert "not by arch/powerpc/kernel/vmlinux.lds" in output
    assert not (tree / "vmlinux").exists()
    command = [sys.executable, "-m", "scpatch", "kbuild", "step", LD, "-r", "-o", "x.o", "fs/fs.o"]
    env = environment(PYTHONPATH=str(ROOT))
    done = subprocess.run(command, cwd=tree, env=env, text=True, capture_output=True, check=False)
    assert done.returncode == 2
    assert "neither the link of vmlinux nor that of a module" in done.stderr
    assert not (tree / "x.o").exists()


def test_each_rewritten_module_has_a_line_as_with_the_linker(tree: Path) -> None:
    edit(tree)
    output = _make(tree)
    assert output.index("LD [M]  fs/fs.ko") < output.index("  SCPATCH fs/fs.ko\n")
    (tree / "fs/fs.ko").unlink()
    assert "fs.ko: 1 call site rewritten (by 1 stub)" in _make(tree, "KBUILD_VERBOSE=1")
    (tree / "fs/fs.ko").unlink()
    assert "SCPATCH fs/fs.ko" not in _make(tree, "SCPATCH_FLAGS=--trampoline=no")


def test_a_refused_site_ends_the_build_without_warn_only(tree: Path) -> None:
    edit(tree)
    assemble(tree / "init", SIBLING, "three.o")
    for _ in range(2):
        output = _make(tree, status=2)
        assert "scpatch: error: vmlinux.a(init/three.o): .text+0x0 in tail+0x0: " in output
        assert "hint: " in output
        assert not (tree / "vmlinux").exists()
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
    assert "; 2 other members are as before" in _make(tree, "KBUILD_VERBOSE=1")


def test_clean_removes_the_copies(tree: Path) -> None:
    before = {*snapshot(tree)}
    edit(tree)
    _make(tree)
    _make(tree, "clean")
    # The top Makefile of Linux removes .*.cmd and .tmp_* wherever they are.
    hidden = re.compile(r"(.*/)?\.(.*\.cmd|tmp_.*)")
    left = {name for name in snapshot(tree).keys() - before if not hidden.fullmatch(name)}
    assert left == {RULES, "fs/fs.ko"}
    assert not (tree / COPIES).exists()


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
    old = "\t\t# scpatch: begin\n\t\tobjs=vmlinux.scpatch.a\n\t\t# scpatch: end\n"
    path.write_text(path.read_text() + old)
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
    text = path.read_text()
    (anchor,) = re.finditer(rf"^(?:{insertion.anchor})\n", text, re.MULTILINE)
    path.write_text(text[: anchor.start()] + anchor.group() * times + text[anchor.end() :])
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


def test_a_tree_that_links_another_way_is_refused_by_name(tree: Path) -> None:
    """Linux 5.15 has no scripts/Makefile.vmlinux; a coming version may make vmlinux otherwise."""
    path = tree / "scripts/Makefile.vmlinux"
    path.write_text(path.read_text().replace("if_changed_dep,link_vmlinux", "if_changed,link"))
    before = snapshot(tree)
    with pytest.raises(ScpatchError, match="nowhere, not once") as caught:
        edit(tree)
    assert (caught.value.code, caught.value.file) == ("SCP402", str(path))
    assert snapshot(tree) == before
    path.unlink()
    with pytest.raises(ScpatchError, match=r"no such file: .* 6\.1 and later") as caught:
        edit(tree)
    assert (caught.value.code, caught.value.file) == ("SCP402", str(path))


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
