"""Links of vmlinux: copies of the inputs with call sites, made once for all passes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scpatch.kbuild.record import package_digest
from tests import archives
from tests.kbuild.support import (
    CALLER,
    COPIES,
    LINKERS,
    PLAIN,
    SIBLING,
    TRAMPOLINE,
    USES_LIB,
    call,
    image_arguments,
    link,
    make_tree,
    snapshot,
    stubs,
)
from tests.sites.support import TABLE, entries, key
from tests.tools import CROSS, LD, LD_FLAGS_OF, ROOT, assemble, rewrite, run, sections


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree")


def _copies(tree: Path) -> dict[str, tuple[bytes, int]]:
    files = snapshot(tree / COPIES)
    return {name: file for name, file in files.items() if not name.endswith(".json")}


@pytest.mark.parametrize("order", LD_FLAGS_OF)
@pytest.mark.parametrize("linker", ["bfd", "lld"])
def test_vmlinux_gets_stubs_and_the_inputs_stay_as_they_are(
    tmp_path: Path, linker: str, order: str
) -> None:
    tree = make_tree(tmp_path / "tree", order)
    before = snapshot(tree)
    done = link(tree, image_arguments(linker=linker, order=order), linker=LINKERS[linker])
    assert done.stdout == "  SCPATCH vmlinux.a\n  SCPATCH lib/lib.a\n"
    assert "scpatch: " not in done.stderr
    after = snapshot(tree)
    assert {name: after[name] for name in before} == before
    assert len(stubs(tree / "vmlinux")) == 3
    code = run(CROSS + "objdump", "-d", tree / "vmlinux").stdout
    assert code.count("ld      r2,24(r1)") == 3
    assert code.count("std     r2,24(r1)") == 3
    header = run(CROSS + "readelf", "-h", tree / "vmlinux").stdout
    assert f"{order} endian" in header
    for command, path in (("scan", "vmlinux.a"), ("scan", "vmlinux"), ("check", "vmlinux")):
        words = [sys.executable, "-m", "scpatch", command, "--format", "plain", str(tree / path)]
        assert run(*words, check=False).stdout.count("__SCT__work") >= 3


def test_the_linker_gets_the_same_command_except_for_the_copies(tree: Path) -> None:
    """And in the same order, so the layout of the image is that without scpatch."""
    fake = tree / "fake-ld"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nexit 3\n')
    fake.chmod(0o755)
    done = call(tree, image_arguments(), linker="./fake-ld")
    assert done.returncode == 3
    words = [word for word in done.stdout.splitlines() if not word.startswith("  SCPATCH")]
    vmlinux, lib = (word for word in words if word.startswith(COPIES))
    expected = [{"vmlinux.a": vmlinux, "lib/lib.a": lib}.get(w, w) for w in image_arguments()]
    assert words == expected
    listed = [os.path.basename(name) for name in archives.names(tree / vmlinux)]
    assert [name.split(".")[0] for name in listed] == ["one", "two", "three"]
    assert listed[2] == "three.o"


def test_later_passes_use_the_copies_of_the_first(tree: Path) -> None:
    link(tree, image_arguments(".tmp_vmlinux.kallsyms1"))
    before = _copies(tree)
    for output in (".tmp_vmlinux.kallsyms2", "vmlinux"):
        assert link(tree, image_arguments(output)).stdout == ""
    assert _copies(tree) == before
    names = stubs(tree / "vmlinux")
    assert names == stubs(tree / ".tmp_vmlinux.kallsyms1") != []


def _touch_member(tree: Path) -> None:
    path = tree / "init/one.o"
    os.utime(path, ns=(1, 1))


def _replace_member(tree: Path) -> None:
    """With an object that has no call sites."""
    assemble(tree / "init", PLAIN.format(name="one"), "one.o")
    (tree / "vmlinux.a").unlink()
    names = "init/one.o", "init/two.o", "init/three.o"
    archives.make(tree / "vmlinux.a", *names, options="cDPrST")


def _remove_copy(tree: Path) -> None:
    next((tree / COPIES).rglob("one.*.o")).unlink()


def _damage_copy(tree: Path) -> None:
    path = next((tree / COPIES).rglob("two.*.o"))
    path.write_bytes(path.read_bytes()[:100])


def _remove_archive_copy(tree: Path) -> None:
    next((tree / COPIES).glob("vmlinux.*.a")).unlink()


def _damage_record(tree: Path) -> None:
    next((tree / COPIES).glob(".tmp_vmlinux.*.json")).write_text('{"key": [')


def _odd_record(tree: Path) -> None:
    next((tree / COPIES).glob(".tmp_vmlinux.*.json")).write_text("[1]")


@pytest.mark.parametrize(
    "change",
    [
        _touch_member,
        _replace_member,
        _remove_copy,
        _damage_copy,
        _remove_archive_copy,
        _damage_record,
        _odd_record,
    ],
)
def test_copies_are_made_again_after_a_change(tree: Path, change: Callable[[Path], None]) -> None:
    link(tree)
    change(tree)
    assert link(tree).stdout == "  SCPATCH vmlinux.a\n"
    copied = {path.name.split(".")[0] for path in (tree / COPIES).rglob("*.members/*.o")}
    assert copied == {"one", "two", "helper"} - ({"one"} if change is _replace_member else set())
    assert len(stubs(tree / "vmlinux")) == len(copied)
    fresh = tree / "fresh"
    shutil.rmtree(tree / COPIES)
    link(tree, image_arguments("fresh"))
    assert fresh.read_bytes() == (tree / "vmlinux").read_bytes()


def test_copies_are_made_again_for_other_options(tree: Path) -> None:
    link(tree)
    for how in ({"options": ["--trampoline=none*"]}, {"env": {"SCPATCH_FLAGS": "--trampoline=no"}}):
        link(tree, **how)
        assert stubs(tree / "vmlinux") == []
        assert link(tree).stdout == "  SCPATCH vmlinux.a\n  SCPATCH lib/lib.a\n"
        assert len(stubs(tree / "vmlinux")) == 3


def test_copies_are_made_again_by_other_code(tree: Path, tmp_path: Path) -> None:
    """As in a checkout, where the version stays while the code changes."""
    checkout = tmp_path / "checkout"
    _copy_package(checkout / "scpatch")
    script = checkout / "scpatch/kbuild/scpatch-ld"
    command = [str(script), LD, *image_arguments()]

    def linked() -> str:
        return run("env", f"SCPATCH_PYTHON={sys.executable}", *command, cwd=tree).stdout

    assert linked() != ""
    assert linked() == ""
    with (checkout / "scpatch/saved/analysis.py").open("a") as file:
        file.write("#\n")
    assert linked() != ""


def _copy_package(target: Path) -> None:
    shutil.copytree(ROOT / "scpatch", target, ignore=shutil.ignore_patterns("__pycache__"))


def test_the_key_of_the_copies_covers_each_file_of_the_package(tmp_path: Path) -> None:
    """By its content: an installation can keep the times of files, and their sizes."""
    package = tmp_path / "scpatch"
    _copy_package(package)
    keys = {package_digest(str(package))}
    files = [path for path in package.rglob("*") if path.is_file()]
    assert {".py", ".s", ".json", ".scpatch"} <= {path.suffix for path in files}
    for path in files:
        status = path.stat()
        path.write_bytes(bytes(status.st_size - 1) + b"x" if status.st_size else b"x")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        keys.add(package_digest(str(package)))
    assert len(keys) == len(files) + 1
    path.rename(path.with_name("other"))
    assert package_digest(str(package)) not in keys


def test_the_key_of_the_copies_is_that_of_the_content_alone(tmp_path: Path) -> None:
    """Another checkout, compiled or not, has the same."""
    package = tmp_path / "scpatch"
    _copy_package(package)
    assert package_digest(str(package)) == package_digest(str(ROOT / "scpatch"))


def test_verbose_shows_the_command_and_what_was_done(tree: Path) -> None:
    done = link(tree, env={"KBUILD_VERBOSE": "1"})
    assert "vmlinux.a: 2 call sites rewritten (by 2 stubs) in 2 of 3 members" in done.stdout
    assert f"+ {LD} -EL -m elf64lppc" in done.stderr
    assert COPIES in done.stderr


@pytest.mark.parametrize("strategy", ["callsite", "localentry", "livepatch-stack", "paca"])
def test_calls_that_need_no_r2_are_told_of(tree: Path, strategy: str) -> None:
    """In a kernel of pc-relative code all are such, and none of the offsets is needed."""
    call = "FUNC {}\n bl __SCT__work@notoc\n blr\nEND {}\n"
    for folder, name in (("init", "one"), ("init", "two"), ("lib", "helper")):
        more = "FUNC __SCT__work\n b one@notoc\nEND __SCT__work\n" + USES_LIB
        source = call.format(name, name) + (more if name == "two" else "")
        assemble(tree / folder, source, f"{name}.o")
    members = [f"init/{name}.o" for name in ("one", "two", "three")]
    archives.make(tree / "vmlinux.a", *members, options="cDPrST")
    archives.make(tree / "lib/lib.a", "helper.o", options="rcsT")
    done = link(tree, env={"SCPATCH_FLAGS": f"--strategy={strategy}", "KBUILD_VERBOSE": "1"})
    assert "vmlinux.a: nothing to do: 2 not in need of r2\n" in done.stdout
    assert "SCPATCH" not in done.stdout
    assert COPIES not in done.stderr


def test_objects_and_regular_archives_are_copied_too(tree: Path) -> None:
    (tree / "lib/lib.a").unlink()
    archives.make(tree / "lib/lib.a", "helper.o")
    words = [word.replace("vmlinux.a", "init/one.o") for word in image_arguments()]
    words[words.index("--start-group")] = "init/two.o"
    words.remove("--end-group")
    done = link(tree, words)
    named = [line.split()[1] for line in done.stdout.splitlines()]
    assert named == ["init/one.o", "init/two.o", "lib/lib.a"]


def test_inputs_of_the_same_name_have_separate_copies(tree: Path) -> None:
    (tree / "arch/lib").mkdir()
    source = CALLER.format(name="other")
    assemble(tree / "arch/lib", source, "helper.o")
    archives.make(tree / "arch/lib/lib.a", "helper.o", options="rcsT")
    words = image_arguments()
    words.insert(words.index("lib/lib.a"), "arch/lib/lib.a")
    words.insert(0, "--undefined=other")
    words.insert(0, "--undefined=helper")
    link(tree, words)
    assert len(stubs(tree / "vmlinux")) == 4


def _refuse(tree: Path) -> None:
    """Gives the tree an object with a sibling call, with line numbers."""
    path = tree / "init/three.o"
    run(CROSS + "as", "-g", "-o", path, "-", stdin=".text\ntail: b __SCT__work\n")
    (tree / "vmlinux.a").unlink()
    names = "init/one.o", "init/two.o", "init/three.o"
    archives.make(tree / "vmlinux.a", *names, options="cDPrST")


def test_a_refused_site_ends_the_build(tree: Path) -> None:
    """The message names the place, and nothing is linked, whatever an earlier build left."""
    _refuse(tree)
    for _ in range(2):
        (tree / "vmlinux").write_bytes(b"of an earlier build")
        done = call(tree, image_arguments())
        assert done.returncode == 3
        assert done.stdout == ""
        first, *_ = done.stderr.splitlines()
        assert first.startswith("scpatch: error: vmlinux.a(init/three.o): .text+0x0 in tail+0x0 (")
        assert ":2): " in first
        assert "[SCP203]" in first
        assert "hint: " in done.stderr
        assert "--warn-only" in done.stderr
        assert not (tree / "vmlinux").exists()


def test_a_wrong_command_line_leaves_the_image_as_it_was(tree: Path) -> None:
    (tree / "vmlinux").write_bytes(b"of an earlier build")
    before = snapshot(tree)
    for words in (["--asm-offsets=missing.h"], ["--no-such-option"]):
        assert call(tree, image_arguments(), options=words).returncode in (1, 2)
    assert call(tree, [*image_arguments(), "vmlinux"]).returncode == 2
    assert snapshot(tree) == before


def test_warn_only_leaves_refused_sites_and_rewrites_the_others(tree: Path) -> None:
    _refuse(tree)
    done = link(tree, options=["--warn-only"])
    assert "[SCP203]" in done.stderr
    assert len(stubs(tree / "vmlinux")) == 3
    assert call(tree, image_arguments()).returncode == 3


@pytest.mark.parametrize("linker", ["bfd", "lld"])
def test_the_linker_joins_the_tables_of_all_inputs(tree: Path, linker: str) -> None:
    """There is an entry for each call, even in an object with nothing else to change."""
    members = ("init/one.o", "init/two.o", "lib/helper.o")
    for name in members:
        body = CALLER.format(name=Path(name).stem) + (TRAMPOLINE + key("work")) * ("two" in name)
        body += USES_LIB * ("two" in name) + ".reloc 0, R_PPC64_NONE, __SCK__work\n"
        assemble(tree, body, name)
    rewrite(tree / members[0])
    archives.make(tree / "vmlinux.a", *members[:2], "init/three.o", options="cDPrST")
    archives.make(tree / "lib/lib.a", "helper.o", options="rcsT")
    script = tree / "arch/powerpc/kernel/vmlinux.lds"
    script.write_text(script.read_text().replace("*(.data ", "*(.static_call_sites .data "))
    words = image_arguments(linker=linker)
    assert "call" not in link(tree, words, linker=LINKERS[linker]).stderr
    assert _listed(tree) == []
    link(tree, words, linker=LINKERS[linker], options=["--emit-sites"])
    assert _listed(tree) == ["__SCK__work"] * 3


def _listed(tree: Path) -> list[str]:
    """The keys in the copies' tables."""
    copies = [tree / COPIES / name for name in _copies(tree) if name.endswith(".o")]
    tables = [path for path in copies if any(section.name == TABLE for section in sections(path))]
    return [name for path in tables for _, _, name in entries(path)]


@pytest.mark.parametrize("symbols", [".tmp_vmlinux.kallsyms1.o", ".btf.vmlinux.bin.o"])
def test_each_build_reports_refused_sites_once(tree: Path, symbols: str) -> None:
    """Its first link does, whatever an earlier build reported; later links have its symbols."""
    _refuse(tree)
    assemble(tree, PLAIN.format(name="symbols"), symbols)
    for _ in range(2):
        done = link(tree, options=["--warn-only"])
        assert done.stderr.count("[SCP203]") == 1
        copies = _copies(tree)
        done = link(tree, [*image_arguments(), symbols], options=["--warn-only"])
        assert "scpatch: " not in done.stderr
        assert done.stdout == ""
        assert _copies(tree) == copies


def test_the_messages_of_a_failing_linker_are_shown(tree: Path) -> None:
    words = [*image_arguments(), "missing.o"]
    done = call(tree, words)
    assert done.returncode == 1
    assert "missing.o" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_member_is_named(tree: Path) -> None:
    (tree / "init/one.o").unlink()
    done = call(tree, image_arguments())
    assert done.returncode == 1
    assert "vmlinux.a(init/one.o)" in done.stderr
    assert "hint: " in done.stderr
    assert not (tree / "vmlinux").exists()


def test_a_response_file_is_an_error(tree: Path) -> None:
    done = call(tree, [*image_arguments(), "@more"])
    assert done.returncode == 1
    assert "response file" in done.stderr


@pytest.mark.parametrize(
    ("options", "linker", "status", "text"),
    [
        (["--no-such"], LD, 2, "unknown option --no-such"),
        ([], "no-such-ld", 1, "no-such-ld: cannot run the linker"),
    ],
)
def test_a_wrong_ld_variable(
    tree: Path, options: list[str], linker: str, status: int, text: str
) -> None:
    done = call(tree, image_arguments(), options=options, linker=linker)
    assert done.returncode == status
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_no_run_trusts_what_a_killed_run_left(tree: Path) -> None:
    """A run is killed between the copies and their record: the next makes them again."""
    link(tree)
    expected = (tree / "vmlinux").read_bytes()
    record = next((tree / COPIES).glob(".tmp_vmlinux.*.json"))
    record.unlink()
    for path in (tree / COPIES).rglob("*.o"):
        path.write_bytes(b"")
    link(tree)
    # lib.a still has its record, whose copies are no longer what it says.
    assert (tree / "vmlinux").read_bytes() == expected


def test_parallel_calls_do_not_disturb_each_other(tree: Path) -> None:
    outputs = [f"image{number}" for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda output: link(tree, image_arguments(output)), outputs))
    images = {(tree / output).read_bytes() for output in outputs}
    assert len(images) == 1
    assert len(stubs(tree / outputs[0])) == 3
    left = [path.name for path in (tree / COPIES).rglob("*") if path.name.endswith(".scpatch")]
    assert left == []


def test_make_clean_removes_every_file(tree: Path) -> None:
    """The top Makefile of Linux 6.1 passes these names to find."""
    link(tree)
    names = ["*.[aios]", ".*.cmd", ".tmp_*"]
    words = " -o ".join(f"-name '{name}'" for name in names)
    find = f"find {COPIES} \\( {words} \\) -type f -print | xargs rm -f"
    subprocess.run(find, shell=True, check=True, cwd=tree)
    assert snapshot(tree / COPIES) == {}
    assert link(tree).stdout != ""


def test_an_image_without_call_sites_is_linked_from_the_originals(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    for name in ("one", "two"):
        assemble(tree / "init", PLAIN.format(name=name) + TRAMPOLINE * (name == "two"), f"{name}.o")
    assemble(tree / "lib", PLAIN.format(name="helper"), "helper.o")
    (tree / "vmlinux.a").unlink()
    (tree / "lib/lib.a").unlink()
    archives.make(tree / "vmlinux.a", "init/one.o", "init/two.o", options="cDPrST")
    archives.make(tree / "lib/lib.a", "helper.o", options="rcsT")
    assert link(tree).stdout == ""
    hooked = (tree / "vmlinux").read_bytes()
    run(LD, *image_arguments(), cwd=tree)
    assert (tree / "vmlinux").read_bytes() == hooked


def test_prelink_makes_one_object_of_the_archive_once(tree: Path) -> None:
    """vmlinux.o in the folder, whose text has the feature sections beside the code."""
    feature = 'FUNC three\n blr\n END three\n .section __ftr_alt_1,"ax"\n 1: bdnz three\n'
    assemble(tree / "init", feature, "three.o")
    (tree / "vmlinux.a").unlink()
    names = "init/one.o", "init/two.o", "init/three.o"
    archives.make(tree / "vmlinux.a", *names, options="cDPrST")
    done = link(tree, options=["--prelink"])
    assert done.stdout == f"  SCPATCH {COPIES}/vmlinux.o\n  SCPATCH lib/lib.a\n"
    prelinked = tree / COPIES / "vmlinux.o"
    assert not [part.name for part in sections(prelinked) if part.name.startswith("__ftr")]
    assert stubs(prelinked) == []
    # All callers are in one section of the object now, so they share a stub.
    assert len(stubs(tree / "vmlinux")) == 2
    time = prelinked.stat().st_mtime_ns
    assert link(tree, options=["--prelink"]).stdout == ""
    assert prelinked.stat().st_mtime_ns == time
    os.utime(tree / "init/two.o", ns=(1, 1))
    link(tree, options=["--prelink"])
    assert prelinked.stat().st_mtime_ns != time
    assert link(tree).stdout == "  SCPATCH vmlinux.a\n"
    assert len(stubs(tree / "vmlinux")) == 3


def test_prelink_fails_as_the_linker_does(tree: Path) -> None:
    (tree / "init/two.o").write_bytes(b"\x7fELF" + bytes(60))
    done = call(tree, image_arguments(), options=["--prelink"])
    assert done.returncode == 1
    assert "two.o" in done.stderr
    assert not (tree / "vmlinux").exists()


def test_the_message_names_the_function_of_the_refused_call(tree: Path) -> None:
    """Even if the object has no line numbers."""
    assemble(tree / "init", SIBLING, "three.o")
    (tree / "vmlinux.a").unlink()
    archives.make(tree / "vmlinux.a", "init/two.o", "init/three.o", options="cDPrST")
    assert "in tail+0x0: " in call(tree, image_arguments()).stderr
