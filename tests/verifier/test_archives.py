"""The comparison of two archives: each member, and what the archive says of it."""

import shutil
import struct
from pathlib import Path

import pytest

from scpatch.errors import ScpatchError
from scpatch.verifier.archives import MemberPairs, is_archive, open_archives
from scpatch.verifier.thin import member_files
from tests.archives import header, make, make_bsd, objects
from tests.tools import rewrite

MEMBERS = ("sites.o", "refused.o")


def pairs(before: Path, after: Path) -> tuple[list[str], tuple[str, ...]]:
    """The labels of the pairs whose members are the same, and the errors."""
    with open_archives(before, after, str(after)) as members:
        same = [p.label for p in members.pairs if p.before.read_bytes() == p.after.read_bytes()]
        return same, members.errors


def archive(folder: Path, *, options: str = "rcs", note: bytes = b"hello\n") -> Path:
    """Two objects and a text."""
    files = objects(folder, *MEMBERS)
    (folder / "note.txt").write_bytes(note)
    names = [file.name for file in files]
    return make(folder / "x.a", *names, "note.txt", options=options)


@pytest.mark.parametrize("options", ["rcs", "rcsT"])
def test_members_are_paired_in_order(tmp_path: Path, options: str) -> None:
    before, after = (archive(tmp_path / name, options=options) for name in ("old", "new"))
    assert is_archive(before)
    with open_archives(before, after, str(after)) as members:
        assert [p.label for p in members.pairs] == [
            f"{after}(sites.o)",
            f"{after}(refused.o)",
            f"{after}(note.txt)",
        ]
        assert [p.is_object for p in members.pairs] == [True, True, False]
        assert [p.after.read_bytes() for p in members.pairs[:2]] == [
            (tmp_path / "new" / name).read_bytes() for name in MEMBERS
        ]
        assert members.errors == ()


def test_members_of_one_name(tmp_path: Path) -> None:
    for name in ("old", "new"):
        objects(tmp_path / name / "a", "sites.o")
        objects(tmp_path / name / "b", "sites.o")
        (tmp_path / name / "b" / "sites.o").write_bytes(b"\x7fELF " + name.encode())
        make(tmp_path / name / "x.a", "a/sites.o", "b/sites.o", options="qcs")
        make(tmp_path / name / "t.a", "a/sites.o", "b/sites.o", options="qcsT")
    for archive_name in ("x.a", "t.a"):
        after = tmp_path / "new" / archive_name
        with open_archives(tmp_path / "old" / archive_name, after, str(after)) as members:
            assert [p.label for p in members.pairs] == [f"{after}(sites.o)", f"{after}(sites.o@2)"]
            contents = [(p.before.read_bytes(), p.after.read_bytes()) for p in members.pairs]
        assert contents[0][0] == contents[0][1]
        assert contents[1] == (b"\x7fELF old", b"\x7fELF new")


def test_bsd_archives(tmp_path: Path) -> None:
    files = objects(tmp_path, *MEMBERS)
    before = make_bsd(tmp_path / "before.a", *files)
    after = make_bsd(tmp_path / "after.a", *files)
    assert pairs(before, after) == ([f"{after}({name})" for name in MEMBERS], ())


def test_an_empty_archive(tmp_path: Path) -> None:
    (tmp_path / "x.a").write_bytes(b"!<arch>\n")
    with open_archives(tmp_path / "x.a", tmp_path / "x.a", str(tmp_path / "x.a")) as members:
        assert members == MemberPairs((), ())


def test_other_members_are_errors(tmp_path: Path) -> None:
    before = archive(tmp_path / "old")
    fewer = make(tmp_path / "fewer" / "x.a", *objects(tmp_path / "fewer", *MEMBERS))
    moved = make(tmp_path / "moved" / "x.a", *objects(tmp_path / "moved", *reversed(MEMBERS)))
    for after in (fewer, moved):
        assert pairs(before, after) == ([], (f"{after} has other members, or in another order.",))


def test_a_changed_text_is_an_error(tmp_path: Path) -> None:
    before, after = archive(tmp_path / "old"), archive(tmp_path / "new", note=b"other\n")
    assert pairs(before, after)[1] == (
        f"{after}(note.txt): a member that is no object was changed.",
    )


def test_a_changed_mode_or_date_is_an_error(tmp_path: Path) -> None:
    before, after = archive(tmp_path / "old"), archive(tmp_path / "new")
    data = after.read_bytes()
    header = data.index(b"sites.o/")
    for at, text in ((16, b"1700000000"), (28, b"5"), (34, b"5"), (40, b"755    ")):
        changed = bytearray(data)
        changed[header + at : header + at + len(text)] = text
        after.write_bytes(changed)
        assert pairs(before, after)[1] == (
            f"{after}(sites.o): mode, owner or date of the member was changed.",
        )


def test_a_changed_symbol_index_is_an_error(tmp_path: Path) -> None:
    before, after = archive(tmp_path / "old"), archive(tmp_path / "new")
    data = bytearray(after.read_bytes())
    (count,) = struct.unpack_from(">I", data, 68)
    offsets = list(struct.unpack_from(f">{count}I", data, 72))
    assert len(set(offsets)) == 2
    struct.pack_into(">I", data, 72, offsets[-1])
    after.write_bytes(data)
    assert pairs(before, after)[1] == (f"{after}: the archive's symbol index was changed.",)


def test_what_ar_cannot_read(tmp_path: Path) -> None:
    good = archive(tmp_path / "old")
    bad = tmp_path / "bad.a"
    bad.write_bytes(good.read_bytes()[:2000])
    assert is_archive(bad)
    with pytest.raises(ScpatchError) as caught, open_archives(good, bad, str(bad)):
        pass
    assert (caught.value.code, caught.value.file) == ("SCP302", str(bad))
    assert caught.value.message.endswith("bad.a is not a valid archive")


def test_the_copies_of_a_thin_archive(tmp_path: Path) -> None:
    """As `rewrite -o` makes them; a copy by any other name is another member."""
    before = archive(tmp_path / "old", options="rcsT")
    after = tmp_path / "new" / "new.a"
    after.parent.mkdir()
    rewrite(before, after, no_nop="thunk")
    with open_archives(before, after, str(after)) as members:
        assert members.errors == ()
        assert [p.label for p in members.pairs] == [
            f"{after}({p.before.name})" for p in members.pairs
        ]
        assert [p.before.name for p in members.pairs] == [*MEMBERS, "note.txt"]
        assert [p.after.parent.name for p in members.pairs[:2]] == ["new.a.members"] * 2


@pytest.mark.parametrize(
    "name",
    [
        "new.a.members/other.0123456789ab.o",
        "new.a.members/sites.0123.o",
        "new.a.members/sites.0123456789ab.a",
        "elsewhere/sites.0123456789ab.o",
    ],
)
def test_no_copy_of_a_thin_archives_member(tmp_path: Path, name: str) -> None:
    (file,) = objects(tmp_path / "old", "sites.o")
    before = make(tmp_path / "old" / "x.a", "sites.o", options="rcsT")
    copy = tmp_path / "new" / name
    copy.parent.mkdir(parents=True)
    shutil.copy(file, copy)
    after = make(tmp_path / "new" / "new.a", name, options="rcsT")
    assert pairs(before, after)[1] == (f"{after} has other members, or in another order.",)


def test_a_lost_member_of_a_thin_archive(tmp_path: Path) -> None:
    before, after = (archive(tmp_path / name, options="rcsT") for name in ("old", "new"))
    (tmp_path / "new" / "sites.o").unlink()
    with pytest.raises(ScpatchError) as caught, open_archives(before, after, str(after)):
        pass
    assert (caught.value.code, caught.value.file) == ("SCP109", str(after))
    assert caught.value.message == f"its member {tmp_path}/new/sites.o is no file"


@pytest.mark.parametrize("length", range(12, 19))
def test_a_member_of_a_thin_archive_by_the_length_of_its_path(tmp_path: Path, length: int) -> None:
    """kernel/sysctl.o of Linux has 15 bytes, for which GNU ar writes another header."""
    (file,) = objects(tmp_path / "kernel", "sites.o")
    name = "kernel/" + "x" * (length - 9) + ".o"
    file.rename(tmp_path / name)
    path = make(tmp_path / "x.a", name, options="cDPrST")
    assert member_files(path, [name], tmp_path / "folder") == [tmp_path / name]


@pytest.mark.parametrize("name", ["a\0b/x.o", "x" * 300, "..", "d/x.o/y.o"])
def test_what_no_member_of_a_thin_archive_can_be(tmp_path: Path, name: str) -> None:
    """The operating system refuses some of these names with other errors."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x.o").write_bytes(b"text")
    table = name.encode() + b"/\n"
    data = b"!<thin>\n" + header(b"//", len(table)) + table + b"\n" * (len(table) % 2)
    path = tmp_path / "x.a"
    path.write_bytes(data + header(b"/0", 4))
    with pytest.raises(ScpatchError) as caught:
        member_files(path, ["x.o"], tmp_path / "folder")
    assert (caught.value.code, caught.value.file) == ("SCP109", str(path))
    assert caught.value.message == f"its member {tmp_path / name} is no file"


@pytest.mark.parametrize("tool", ["ar", "nm"])
def test_a_missing_program_is_named_with_its_package(
    tmp_path: Path, tool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = archive(tmp_path / "old")
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name.endswith(tool) else which(name))
    with pytest.raises(ScpatchError) as caught, open_archives(before, before, str(before)):
        pass
    assert caught.value.code == "SCP301"
    program = f"powerpc64le-linux-gnu-{tool}"
    assert caught.value.message == f"{program} is needed to compare archives, and is not installed"
    assert "binutils-powerpc64le-linux-gnu" in caught.value.hint


def test_an_object_is_no_archive(tmp_path: Path) -> None:
    (path,) = objects(tmp_path, "sites.o")
    assert not is_archive(path)


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = archive(tmp_path / "old")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    with open_archives(before, before, str(before)):
        assert list(scratch.iterdir())
    assert not list(scratch.iterdir())
    shutil.rmtree(scratch)


@pytest.mark.parametrize("inner", ["gnu", "bsd", "long"])
def test_members_of_a_regular_archive_in_a_thin_one(
    tmp_path: Path, inner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ar t` prints them like files of the present directory; they are none."""
    (tmp_path / "lib").mkdir()
    names = ["sites.o", "calls-gcc.o", "sites.o"]
    if inner == "long":
        names[1] = "a-name-that-is-longer-than-fifteen.o"
    files = objects(tmp_path / "of", "sites.o", "calls-gcc.o")
    files[1].rename(tmp_path / "of" / names[1])
    maker = make_bsd if inner == "bsd" else make
    maker(tmp_path / "lib" / "in.a", *(f"../of/{name}" for name in names), options="qcs")
    if inner == "bsd":
        before = by_hand(tmp_path / "x.a", tmp_path / "lib" / "in.a")
    else:
        before = make(tmp_path / "x.a", "of/sites.o", "lib/in.a", options="rcsT")
    here = tmp_path / "here"
    objects(here, "marked.o")
    for name in names:
        (here / name).write_bytes((here / "marked.o").read_bytes())
    monkeypatch.chdir(here)
    with open_archives(before, before, str(before)) as members:
        contents = [pair.before.read_bytes() for pair in members.pairs]
        labels = [pair.label for pair in members.pairs]
    first, other = files[0].read_bytes(), (tmp_path / "of" / names[1]).read_bytes()
    assert contents == [first, first, other, first]
    assert labels[-1] == f"{before}(sites.o@3)"
    after = tmp_path / "new.a"
    rewrite(before, after)
    with open_archives(before, after, str(after)) as members:
        assert members.errors == ()
        assert [pair.after.read_bytes() != pair.before.read_bytes() for pair in members.pairs] == [
            True
        ] * 4


def by_hand(archive: Path, inner: Path) -> Path:
    """The thin archive that `ar` makes of a file and a regular archive; it reads no BSD names."""
    from scpatch.ar.headers import read_archive

    names = b"of/sites.o/\nlib/in.a/\n"
    table = names + b"\n" * (len(names) % 2)
    data = b"!<thin>\n" + header(b"//", len(table)) + table
    data += header(b"/0", (archive.parent / "of" / "sites.o").stat().st_size)
    for member in read_archive(memoryview(inner.read_bytes()), str(inner)).members:
        data += header(b"/12:%d" % member.header, member.size)
    archive.write_bytes(data)
    return archive


@pytest.mark.parametrize(
    ("old", "new", "file", "what"),
    [
        (b":8 ", b":9 ", "in.a", "no member's header"),
        (b"/0:", b"/9:", "x.a", "not among the long names"),
        (b"5680 ", b"5681 ", "x.a", "another size"),
    ],
)
def test_a_member_that_is_not_in_the_regular_archive(
    tmp_path: Path, old: bytes, new: bytes, file: str, what: str
) -> None:
    objects(tmp_path, "sites.o")
    make(tmp_path / "in.a", "sites.o", options="rcS")
    path = make(tmp_path / "x.a", "in.a", options="rcST")
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    with pytest.raises(ScpatchError, match=what) as caught:
        member_files(path, ["sites.o"], tmp_path / "folder")
    assert (caught.value.code, caught.value.file) == ("SCP302", str(tmp_path / file))
