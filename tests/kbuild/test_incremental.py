"""If members of vmlinux.a change, only they are planned again, and the result is the same."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests import archives
from tests.kbuild.support import (
    CALLER,
    COPIES,
    PLAIN,
    SIBLING,
    call,
    image_arguments,
    link,
    make_tree,
    snapshot,
    stubs,
)
from tests.tools import assemble

ALL = ("one", "two", "three")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = make_tree(tmp_path / "tree")
    link(root)
    return root


def archive(tree: Path, names: Sequence[str] = ALL) -> None:
    """Makes vmlinux.a again, as Kbuild does after each change."""
    (tree / "vmlinux.a").unlink()
    archives.make(tree / "vmlinux.a", *(f"init/{name}.o" for name in names), options="cDPrST")


def write(tree: Path, name: str, source: str, names: Sequence[str] = ALL) -> None:
    assemble(tree / "init", source.format(name=name), f"{name}.o")
    archive(tree, names)


def copies(tree: Path) -> dict[str, tuple[bytes, int]]:
    """The copies of members of vmlinux.a, by the first part of their names."""
    (folder,) = (tree / COPIES).glob("vmlinux.*.members")
    return {name.partition(".")[0]: copy for name, copy in snapshot(folder).items()}


def record(tree: Path) -> Path:
    (path,) = (tree / COPIES).glob(".tmp_vmlinux.*.json")
    return path


def linked_alike(tree: Path) -> bool:
    """Whether vmlinux is what a build without copies links from the same objects."""
    shutil.move(tree / COPIES, tree / "aside")
    link(tree, image_arguments("fresh"))
    shutil.rmtree(tree / COPIES)
    shutil.move(tree / "aside", tree / COPIES)
    return (tree / "fresh").read_bytes() == (tree / "vmlinux").read_bytes()


def summary(tree: Path) -> str:
    """What a build says about vmlinux.a with V=1."""
    lines = link(tree, env={"KBUILD_VERBOSE": "1"}).stdout.splitlines()
    return next((line for line in lines if line.startswith("vmlinux.a: ")), "")


def test_only_the_changed_member_is_copied_again(tree: Path) -> None:
    before = copies(tree)
    write(tree, "one", CALLER + "nop\n")
    assert summary(tree).endswith("; 2 other members are as before")
    after = copies(tree)
    assert after["one"] != before["one"]
    assert after["two"] == before["two"]
    assert linked_alike(tree)


def test_a_member_that_has_not_changed_is_not_read(tree: Path) -> None:
    """It could not be read: the file is not an object now."""
    path = tree / "init/two.o"
    status = path.stat()
    with path.open("r+b") as file:
        file.write(b"x" * status.st_size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    write(tree, "one", CALLER + "nop\n")
    link(tree)
    assert len(stubs(tree / "vmlinux")) == 3


def test_a_touched_archive_has_all_members_as_before(tree: Path) -> None:
    before = copies(tree)
    archive(tree)
    assert summary(tree) == "vmlinux.a: nothing to do: no call sites; 3 other members are as before"
    assert copies(tree) == before
    assert linked_alike(tree)


def test_a_new_member(tree: Path) -> None:
    before = copies(tree)
    write(tree, "four", CALLER, ("four", *ALL))
    link(tree)
    assert {**copies(tree), **before} == copies(tree)
    assert set(copies(tree)) == {"one", "two", "four"}
    assert linked_alike(tree)


def test_a_member_is_gone(tree: Path) -> None:
    archive(tree, ("two", "three"))
    link(tree)
    assert set(copies(tree)) == {"two"}
    assert linked_alike(tree)


def test_a_member_gains_its_call_sites_and_loses_them(tree: Path) -> None:
    for source, expected in ((CALLER, {"one", "two", "three"}), (PLAIN, {"one", "two"})):
        write(tree, "three", source)
        link(tree)
        assert set(copies(tree)) == expected
        assert linked_alike(tree)


def test_the_last_call_site_goes_and_comes_back(tree: Path) -> None:
    """Without any, the archive itself is linked."""
    write(tree, "one", PLAIN)
    target = PLAIN.format(name="__SCT__work") + PLAIN.format(name="helper")
    for source, expected in ((target, False), (CALLER + target, True), (target, False)):
        write(tree, "two", source)
        verbose = link(tree, env={"KBUILD_VERBOSE": "1"})
        assert ("SCPATCH vmlinux.a" in verbose.stdout) == expected
        assert (f"{COPIES}/vmlinux" in verbose.stderr) == expected
        assert linked_alike(tree)


def test_other_offsets_of_the_kernel_make_all_copies_again(tree: Path) -> None:
    """Some strategies write them into the code, and Kbuild may compile nothing for them."""
    header = tree / "include/generated/asm-offsets.h"
    header.parent.mkdir()
    for name, flags in (
        ("asm-offsets.h", ""),
        ("other.h", "--asm-offsets=include/generated/other.h"),
    ):
        for number in (16, 24):
            header.with_name(name).write_text(f"#define PACATOC {number} /* */\n")
            done = link(tree, env={"KBUILD_VERBOSE": "1", "SCPATCH_FLAGS": flags})
            assert "vmlinux.a: 2 call sites rewritten" in done.stdout
            assert "as before" not in done.stdout
        assert "SCPATCH" not in link(tree, env={"SCPATCH_FLAGS": flags}).stdout


def test_members_in_another_order(tree: Path) -> None:
    archive(tree, tuple(reversed(ALL)))
    assert "3 other members" in summary(tree)
    assert linked_alike(tree)


def test_only_the_damaged_copy_is_made_again(tree: Path) -> None:
    before = copies(tree)
    path = next((tree / COPIES).rglob("two.*.o"))
    path.write_bytes(path.read_bytes()[:100])
    assert summary(tree).endswith("; 2 other members are as before")
    assert copies(tree)["one"] == before["one"]
    assert linked_alike(tree)


def _no_copies(known: dict[str, object]) -> None:
    known["copies"] = {}


def _no_members(known: dict[str, object]) -> None:
    known["members"] = []


def _odd_members(known: dict[str, object]) -> None:
    known["members"] = dict.fromkeys(known["members"], 5)  # type: ignore[call-overload]


def _other_key(known: dict[str, object]) -> None:
    known["key"] = "of another version"


def _not_there(known: dict[str, object]) -> None:
    del known["refused"]


@pytest.mark.parametrize(
    "change", [_no_copies, _no_members, _odd_members, _other_key, _not_there, None]
)
def test_a_record_that_is_useless(tree: Path, change: object) -> None:
    path = record(tree)
    known = json.loads(path.read_bytes())
    if callable(change):
        change(known)
        path.write_text(json.dumps(known))
    else:
        path.write_bytes(path.read_bytes()[:-20])
    write(tree, "one", CALLER + "nop\n")
    before = copies(tree)["two"]
    assert summary(tree).startswith("vmlinux.a: 2 call sites rewritten (by 2 stubs)")
    assert copies(tree)["two"] != before
    assert linked_alike(tree)


def test_a_refused_member_is_reported_each_time_another_changes(tree: Path) -> None:
    write(tree, "three", SIBLING)
    for number in range(2):
        write(tree, "one", CALLER + "nop\n" * number)
        done = call(tree, image_arguments())
        assert done.returncode == 3
        assert done.stderr.count("[SCP203]") == 1
        assert call(tree, image_arguments(), options=["--warn-only"]).returncode == 0
        done = link(tree, options=["--warn-only"])
        assert done.stderr.count("[SCP203]") == 1
    write(tree, "three", PLAIN)
    assert "SCP203" not in link(tree).stderr


def test_one_file_that_is_two_members(tree: Path) -> None:
    (tree / "init/link.o").symlink_to("three.o")
    write(tree, "three", CALLER)
    words = [*image_arguments(), "-z", "muldefs"]
    archive(tree, (*ALL, "link"))
    link(tree, words)
    before = copies(tree)
    write(tree, "one", CALLER + "nop\n", (*ALL, "link"))
    link(tree, words)
    assert copies(tree)["three"] == before["three"]
    write(tree, "three", PLAIN, (*ALL, "link"))
    link(tree, words)
    assert set(copies(tree)) == {"one", "two"}


@pytest.mark.parametrize("seed", range(3))
def test_any_sequence_of_changes(tree: Path, seed: int) -> None:
    """After any changes, the result is that of a clean build."""
    rng = random.Random(seed)
    names = [*ALL, "four", "five"]
    for name in names[3:]:
        assemble(tree / "init", PLAIN.format(name=name), f"{name}.o")
    for _ in range(6):
        for name in rng.sample([name for name in names if name != "two"], rng.randint(0, 2)):
            source = rng.choice((CALLER, CALLER + "nop\n", PLAIN))
            assemble(tree / "init", source.format(name=name), f"{name}.o")
        if rng.random() < 0.3:
            rng.choice(sorted((tree / COPIES).rglob("*.o"))).unlink()
        members = [name for name in names if name == "two" or rng.random() < 0.8]
        rng.shuffle(members)
        archive(tree, members)
        link(tree)
        assert linked_alike(tree), members
