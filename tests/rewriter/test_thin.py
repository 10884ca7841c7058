"""Rewriting thin archives: members where they lie, or copies beside a new archive."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from scpatch.rewriter import Options, write
from tests import archives, tools
from tests.archives import AR, make, objects, tree
from tests.tools import CROSS, plan_all, rewrite, run


def test_thin_members_are_rewritten_where_they_lie(tmp_path: Path) -> None:
    """By paths down, up and from the root; the archive changes in its sizes only."""
    (down,) = objects(tmp_path / "lib" / "down", "sites.o")
    up, root = objects(tmp_path, "calls-gcc.o", "sites.o")
    (tmp_path / "a-text").write_bytes(b"no object")
    path = archives.thin(tmp_path / "lib", "down/sites.o", f"../{up.name}", str(root), "../a-text")
    old = path.read_bytes()
    expected = {entry: archives.alone(entry) for entry in (down, up, root)}
    os.chmod(down, 0o640)
    plan = rewrite(path)
    assert len(plan.outputs) == 4
    for file, data in expected.items():
        assert file.read_bytes() == data
    assert down.stat().st_mode & 0o777 == 0o640
    listed = run(AR, "tv", path).stdout.split()[2::8]
    assert listed == [str(len(data)) for data in expected.values()] + ["9"]
    _same_but_sizes(old, path.read_bytes())
    assert not [name for name in tree(tmp_path) if name.endswith(".scpatch")]


def _same_but_sizes(old: bytes, new: bytes) -> None:
    assert len(old) == len(new)
    differing = [at for at in range(len(old)) if old[at] != new[at]]
    headers = [at for at in range(len(old)) if old[at + 58 : at + 60] == b"`\n"]
    assert differing
    assert all(any(head + 48 <= at < head + 58 for head in headers) for at in differing)


def twice(folder: Path) -> Path:
    """A thin archive that names one file in five ways, also by way of links."""
    objects(folder, "sites.o")
    (folder / "link.o").symlink_to("sites.o")
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "linked").symlink_to("deep/er")
    (folder / "deep" / "sites.o").symlink_to("../sites.o")
    names = ("sites.o", "sites.o", "./sites.o", "link.o", "linked/../sites.o")
    return archives.thin_by_hand(folder / "x.a", *names)


def test_a_file_that_is_a_member_twice_is_rewritten_once(tmp_path: Path) -> None:
    path, file = twice(tmp_path), tmp_path / "sites.o"
    expected = archives.alone(file)
    plan = rewrite(path)
    assert len(plan.objects) == 1
    assert [entry.target.name for entry in plan.outputs] == ["sites.o", "x.a"]
    assert file.read_bytes() == expected
    assert (tmp_path / "link.o").is_symlink()
    assert path.read_bytes().count(b"%-10d`\n" % len(expected)) == 5
    assert not rewrite(path).outputs


def test_a_file_that_is_a_member_twice_has_one_copy(tmp_path: Path) -> None:
    path = twice(tmp_path)
    expected = archives.alone(tmp_path / "sites.o")
    rewrite(path, tmp_path / "new.a")
    (copy,) = (tmp_path / "new.a.members").iterdir()
    assert copy.read_bytes() == expected
    names = archives.names(tmp_path / "new.a")
    assert names == [f"new.a.members/{copy.name}"] * 5


def test_a_member_behind_a_linked_directory_is_named_where_it_lies(tmp_path: Path) -> None:
    """`linked/../note` is deep/note: the two dots go up from where the link leads."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "linked").symlink_to("deep/er")
    (tmp_path / "deep" / "note").write_text("deep")
    (tmp_path / "note").write_text("not")
    path = archives.thin_by_hand(tmp_path / "x.a", "linked/../note")
    (tmp_path / "out").mkdir()
    rewrite(path, tmp_path / "out" / "new.a")
    assert archives.names(tmp_path / "out" / "new.a") == ["../deep/note"]


def test_copies_keep_their_names_when_members_come(tmp_path: Path) -> None:
    objects(tmp_path, "sites.o", "calls-gcc.o")
    for names in (("sites.o",), ("calls-gcc.o", "sites.o")):
        path = archives.thin_by_hand(tmp_path / "x.a", *names)
        rewrite(path, tmp_path / "new.a")
    name = archives.names(tmp_path / "new.a")[1]
    assert len(list((tmp_path / "new.a.members").iterdir())) == 2
    assert (tmp_path / name).read_bytes() == archives.alone(tmp_path / "sites.o")


@pytest.mark.parametrize("place", [".", "out", "../out", "linked"])
def test_a_thin_archive_with_an_output(tmp_path: Path, place: str) -> None:
    """Copies beside the new archive; what does not change is named where it lies."""
    home = tmp_path / "home"
    entry, other = *objects(home / "a", "sites.o"), home / "b" / "sites.o"
    objects(home / "b", "calls-gcc.o")[0].rename(other)
    (home / "b" / "note").write_text("note")
    path = archives.thin(home, "a/sites.o", "b/sites.o", "b/note", str(home / "b" / "note"))
    (tmp_path / "out").mkdir()
    (home / "out").mkdir()
    (home / "linked").symlink_to("../out/..")
    before, expected = tree(tmp_path), [archives.alone(entry), archives.alone(other)]
    new = home / place / "new.a"
    rewrite(path, new)
    after = tree(tmp_path)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 3
    listed = archives.names(new)
    assert all(name.startswith("new.a.members/sites.") for name in listed[:2])
    assert [(new.parent / name).read_bytes() for name in listed[:2]] == expected
    assert os.path.samefile(new.parent / listed[2], home / "b" / "note")
    assert listed[3] == str(home / "b" / "note")
    assert not rewrite(new).outputs


def test_an_output_in_the_same_directory_keeps_the_names(tmp_path: Path) -> None:
    objects(tmp_path / "a", "sites.o", "unmarked.o")
    (tmp_path / "a" / "note").write_text("note")
    path = archives.thin(tmp_path, "a/../a/sites.o", "a//note")
    rewrite(path, tmp_path / "new.a")
    assert archives.names(tmp_path / "new.a")[1] == archives.names(path)[1]


def test_an_output_in_place_is_no_output(tmp_path: Path) -> None:
    """`-o` with the archive itself, by whatever name, rewrites the members where they lie."""
    (file,) = objects(tmp_path, "sites.o")
    path = archives.thin(tmp_path, "sites.o")
    expected = archives.alone(file)
    (tmp_path / "link.a").symlink_to("x.a")
    rewrite(path, tmp_path / "link.a")
    assert file.read_bytes() == expected
    assert not (tmp_path / "x.a.members").exists()


@pytest.mark.parametrize("linker", archives.LINKERS)
def test_linkers_take_members_that_were_rewritten_in_place(tmp_path: Path, linker: str) -> None:
    main, path = archives.program_archive(tmp_path, "thin")
    assert len(rewrite(path).outputs) == 2
    assert archives.output_of(tmp_path, main, path, linker) == "41\n"


def _whole_archive(folder: Path, archive: Path) -> list[str]:
    """The symbols of all members linked into one object."""
    run(CROSS + "ld", "-r", "--whole-archive", archive, "-z", "muldefs", "-o", folder / "all.o")
    symbols = run(CROSS + "nm", folder / "all.o").stdout.splitlines()
    (folder / "all.o").unlink()
    return sorted(line.split()[-1] for line in symbols)


def test_members_of_a_regular_archive_in_a_thin_one(tmp_path: Path) -> None:
    """The regular archive is rewritten, and the thin one names its members' new offsets."""
    path, inner = archives.nested(tmp_path)
    old, symbols = inner.read_bytes(), archives.gnu_armap(path)
    plan = rewrite(path)
    assert [entry.target.name for entry in plan.outputs] == ["sites.o", "inner.a", "x.a"]
    in_place = inner.read_bytes()
    inner.write_bytes(old)
    rewrite(inner)
    assert inner.read_bytes() == in_place
    assert archives.gnu_armap(path) == symbols
    assert any(name.startswith("r2save.") for name in _whole_archive(tmp_path, path))
    for name in ("calls-gcc.o", "marked.o", "sites.o"):
        assert archives.content(path, name) == archives.content(inner, name)
    assert not rewrite(path).outputs


def test_members_of_a_regular_archive_with_an_output(tmp_path: Path) -> None:
    path, inner = archives.nested(tmp_path)
    before = tree(tmp_path)
    (tmp_path / "out").mkdir()
    new = tmp_path / "out" / "new.a"
    rewrite(path, new)
    assert {name: tree(tmp_path)[name] for name in before} == before
    names = archives.names(new)
    assert [name.split(".")[0] for name in names if "members/" in name] == ["new"] * 3
    # marked.o has nothing to rewrite, so it still lies in the regular archive.
    assert archives.content(new, "marked.o") == archives.content(inner, "marked.o")
    members = _whole_archive(tmp_path, new)
    rewrite(path)
    assert members == _whole_archive(tmp_path, path)


def test_two_thin_archives_may_share_a_member(tmp_path: Path) -> None:
    (file,) = objects(tmp_path, "sites.o")
    expected = archives.alone(file)
    paths = [make(tmp_path / name, "sites.o", options="rcsT") for name in ("a.a", "b.a")]
    plans, errors = plan_all([*paths, file], Options(), None)
    assert not errors
    assert [[entry.target.name for entry in plan.outputs] for plan in plans] == [
        ["sites.o", "a.a"],
        ["b.a"],
        [],
    ]
    write(plans)
    assert file.read_bytes() == expected
    plans, errors = plan_all(paths, Options(), None)
    assert (errors, [plan.outputs for plan in plans]) == ([], [(), ()])


def test_two_results_for_one_file_are_an_error(tmp_path: Path) -> None:
    path, inner = archives.nested(tmp_path)
    outer = tmp_path / "outer.a"
    make(outer, "lib/inner.a", options="rcsT")
    run(AR, "dT", outer.name, "sites.o", cwd=tmp_path)
    assert len(archives.names(outer)) == 2
    plans, errors = plan_all([path, outer], Options(), None)
    assert (len(plans), [error.code for error in errors]) == (1, ["SCP110"])
    assert os.path.samefile(errors[0].file, inner)


def test_members_are_not_all_open_at_once(tmp_path: Path) -> None:
    """A thin archive of 400 members with 96 descriptors to be had."""
    (first,) = objects(tmp_path, "sites.o")
    names = [f"{number}.o" for number in range(400)]
    for name in names:
        os.link(first, tmp_path / name)
    path = archives.thin(tmp_path, *names)
    program = """
import resource, sys
from pathlib import Path
from scpatch.rewriter import Options, plan_file
resource.setrlimit(resource.RLIMIT_NOFILE, (96, 96))
plan = plan_file(Path(sys.argv[1]), Options())
print(len(plan.objects), len(plan.outputs))
"""
    done = run(sys.executable, "-c", program, path, cwd=tools.ROOT)
    assert done.stdout == "400 401\n"
