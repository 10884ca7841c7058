"""The files that a command line names."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from scpatch.errors import ScpatchError
from scpatch.files.selection import Selection, expand_response_files, pair, select


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _relative(selection: Selection) -> list[str]:
    return [str(file.relative) for file in selection.files]


def test_a_folder_stands_for_the_objects_in_it(tmp_path: Path) -> None:
    objects = ["a/z.ko", "a/b/y.ko.xz", "b.o", "c.ko.zst", "d.a", "e.ko.gz", "f.ko.bz2", "vmlinux"]
    objects += ["g.mod.o", "boot/vmlinux-6.1.0-50-powerpc64le", ".hidden.o", "x\ny.ko"]
    objects += ["lib/modules/7.3.4/vmlinuz", "boot/vmlinuz-6.19.8-200.fc44.ppc64le"]
    others = ["a.c", "b.o.cmd", "modules.dep", "vmlinux.lds", "vmlinux-gdb.py", "x.ko.debug", "ko"]
    _touch(tmp_path, *objects, *others)
    selection = select([tmp_path])
    assert sorted(_relative(selection)) == sorted(objects)
    assert selection.many
    assert all(file.found and file.source == tmp_path / file.relative for file in selection.files)


def test_the_order_is_that_of_the_names(tmp_path: Path) -> None:
    _touch(tmp_path, "b/1.o", "a/2.o", "c.o", "a.o", "a/b/0.o")
    assert _relative(select([tmp_path])) == ["a.o", "c.o", "a/2.o", "a/b/0.o", "b/1.o"]


def test_a_file_named_twice_is_selected_once(tmp_path: Path) -> None:
    _touch(tmp_path, "a.o", "x/b.o")
    (tmp_path / "link.o").symlink_to("a.o")
    selection = select([tmp_path / "x/b.o", tmp_path, tmp_path / "link.o", tmp_path / "x"])
    assert _relative(selection) == ["b.o", "a.o"]


def test_links_to_folders_are_not_followed_but_told(tmp_path: Path) -> None:
    _touch(tmp_path, "tree/a.o", "else/b.o")
    (tmp_path / "tree/loop").symlink_to(".")
    (tmp_path / "tree/build").symlink_to("../else")
    (tmp_path / "tree/c.o").symlink_to("../else/b.o")
    selection = select([tmp_path / "tree"])
    assert _relative(selection) == ["a.o", "c.o"]
    assert selection.links == (tmp_path / "tree/build", tmp_path / "tree/loop")
    assert _relative(select([tmp_path / "tree/build"])) == ["b.o"]


def test_a_folder_without_objects_is_an_error(tmp_path: Path) -> None:
    _touch(tmp_path, "a.c")
    with pytest.raises(ScpatchError, match=r"the folder has no objects.*\[SCP109\]") as error:
        select([tmp_path])
    assert error.value.file == str(tmp_path)


@pytest.mark.parametrize(("null", "end"), [(False, "\n"), (True, "\0")])
def test_lists_of_files(
    tmp_path: Path, null: bool, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _touch(tmp_path, "a b.o", "tree/c.o")
    names = [str(tmp_path / name) for name in ("a b.o", "tree", "missing.o")]
    names.insert(1, "")
    content = end.join(names).encode() + b"\xff" + end.encode()
    (tmp_path / "list").write_bytes(content)
    expected = ["a b.o", "c.o", "missing.o\udcff"]
    selected = _relative(select([], [tmp_path / "list"], null=null))
    assert selected == expected
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    assert _relative(select([], [Path("-")], null=null)) == expected


def test_a_list_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ScpatchError, match=r"cannot read: No such file.*\[SCP109\]"):
        select([], [tmp_path / "list"])


def test_a_list_of_find_print0_without_its_option(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"a.o\0b.o\0")
    with pytest.raises(ScpatchError, match=r"there is a NUL in it \[SCP109\]") as error:
        select([], [tmp_path / "list"])
    assert error.value.hint == "add -0: a NUL ends each name in it, not a line end"
    with pytest.raises(ScpatchError, match=r"there is a NUL in it \[SCP109\]") as error:
        expand_response_files([f"@{tmp_path}/list"])
    assert error.value.hint == f"give it as a list: --files-from {tmp_path}/list -0"


def test_a_folder_that_new_files_go_to_is_not_searched(tmp_path: Path) -> None:
    _touch(tmp_path, "a.o", "out/a.o", "sub/out/b.o")
    selection = select([tmp_path], copies=True, but=tmp_path / "sub/../out")
    assert _relative(selection) == ["a.o", "sub/out/b.o"]
    assert selection.outputs == (tmp_path / "out",)
    for other in (tmp_path, tmp_path / "none", tmp_path.parent):
        assert len(select([tmp_path], but=other).files) == 3
    assert _relative(select([tmp_path / "out"], but=tmp_path / "out")) == ["a.o"]
    pairs = pair(tmp_path, tmp_path / "out")
    assert [str(file.relative) for file in pairs.pairs.files] == ["a.o"]
    assert pairs.alone == ((tmp_path / "sub/out/b.o", tmp_path / "out"),)


def test_response_files(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("-q 'a b.o'\n")
    (tmp_path / "args").write_text(f'x.o "y z.o"\n@{tmp_path}/in w\\ v.o\n')
    arguments = ["scan", f"@{tmp_path}/args", "@nowhere", "-n"]
    assert expand_response_files(arguments) == [
        *("scan", "x.o", "y z.o", "-q", "a b.o", "w v.o", "@nowhere", "-n"),
    ]


def test_a_response_file_that_names_itself(tmp_path: Path) -> None:
    (tmp_path / "args").write_text(f"x.o @{tmp_path}/args")
    with pytest.raises(ScpatchError, match="the response file names itself"):
        expand_response_files([f"@{tmp_path}/args"])
