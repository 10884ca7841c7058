"""The container alone: headers, names, symbol tables, against GNU ar and the LLVM tools."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scpatch.ar.headers import Archive, EntryKind, Member, read_archive
from scpatch.ar.layout import ThinMember, lay_out_members, lay_out_thin
from scpatch.elf.layout import CopiedRange, Layout
from scpatch.errors import ScpatchError
from scpatch.files import output
from scpatch.files.inputs import open_input
from tests import archives
from tests.archives import AR, header, make, make_bsd, make_sym64
from tests.tools import run

ARCH, THIN = b"!<arch>\n", b"!<thin>\n"
LONG = "a_name_that_does_not_fit_into_a_header.o"


def read(path: Path) -> Archive:
    return read_archive(memoryview(path.read_bytes()), str(path))


def members(path: Path) -> list[Member]:
    return list(read(path).members)


def apply(path: Path, layout: Layout, target: Path) -> Path:
    with open_input(path) as source:
        output.commit([output.stage(target, source.descriptor, layout)])
    return target


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Three objects of odd and even sizes, one with a long name, and a text."""
    first, second, third = archives.objects(tmp_path, "calls-gcc.o", "sites.o", "marked.o")
    third.rename(tmp_path / LONG)
    (tmp_path / "odd.txt").write_bytes(b"seven b")
    assert {len((tmp_path / name).read_bytes()) % 2 for name in (first.name, "odd.txt")} == {0, 1}
    return [first.name, "odd.txt", LONG, second.name]


@pytest.mark.parametrize("maker", [make, make_bsd, make_sym64])
def test_members_are_those_of_ar(
    tmp_path: Path, files: list[str], maker: Callable[..., Path]
) -> None:
    path = maker(tmp_path / "x.a", *files)
    archive = read(path)
    assert [member.name for member in archive.members] == files
    for member in archive.members:
        assert bytes(archive.content(member)) == (tmp_path / member.name).read_bytes()
    tables = {entry.kind for entry in archive.entries} - {EntryKind.MEMBER, EntryKind.NAMES}
    assert tables == {
        {make: EntryKind.SYMBOLS, make_bsd: EntryKind.RANLIB, make_sym64: EntryKind.SYMBOLS64}[
            maker
        ]
    }


@pytest.mark.parametrize("ar", [archives.AR, archives.LLVM_AR])
def test_thin_members_are_those_of_ar(tmp_path: Path, files: list[str], ar: str) -> None:
    inside = tmp_path / "in" / "side"
    path = make(inside / "x.a", *(f"../../{name}" for name in files), options="rcsT", ar=(ar,))
    entries = members(path)
    assert [member.name for member in entries] == [f"../../{name}" for name in files]
    assert [member.size for member in entries] == [
        (tmp_path / name).stat().st_size for name in files
    ]


def test_a_thin_archive_may_name_members_of_a_regular_one(tmp_path: Path, files: list[str]) -> None:
    inner = make(tmp_path / "inner.a", *files)
    outer = make(tmp_path / "outer.a", "inner.a", options="rcsT")
    origins = [member.header for member in members(inner)]
    assert [(member.name, member.origin) for member in members(outer)] == [
        ("inner.a", origin) for origin in origins
    ]


def test_a_slash_that_ar_leaves_behind_a_long_name_is_no_part_of_it(tmp_path: Path) -> None:
    """Of a name with 15 characters, GNU ar keeps the slash in column 16 of the field."""
    (tmp_path / "fifteen-chars.o").write_bytes(b"")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "fifteen-chars.o").write_bytes(b"text")
    path = make(tmp_path / "x.a", "m/fifteen-chars.o", options="rcT")
    assert re.search(rb"\n/0 {13}/", path.read_bytes())
    assert [member.name for member in members(path)] == ["m/fifteen-chars.o"]


def test_members_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for folder in "abc":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x").write_text(folder)
    path = make(tmp_path / "x.a", "a/x", "b/x", "c/x", options="qc")
    assert [member.label for member in members(path)] == ["x", "x@2", "x@3"]


def test_names_need_not_be_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.o")
    (tmp_path / name).write_bytes(b"text")
    path = make(tmp_path / "x.a", name)
    assert [member.name for member in members(path)] == [name]


def grown(content: bytes, count: int) -> Layout:
    """A content with `count` bytes more behind it."""
    size = len(content)
    return Layout(size + count, (CopiedRange(0, 0, size),), ((size, b"+" * count),))


@pytest.mark.parametrize("maker", [make, make_bsd, make_sym64])
@pytest.mark.parametrize("count", [1, 2, 1001])
def test_grown_members_move_the_others(
    tmp_path: Path, files: list[str], maker: Callable[..., Path], count: int
) -> None:
    path = maker(tmp_path / "x.a", *files)
    archive = read(path)
    changed = [member for member in archive.members if member.name != files[0]][:2]
    layouts = {item.header: grown(bytes(archive.content(item)), count) for item in changed}
    new = apply(path, lay_out_members(archive, layouts), tmp_path / "new.a")
    listing = [line for line in archives.names(new) if not line.startswith("__.SYMDEF")]
    assert listing == files
    for name in files:
        tail = b"+" * count if name in [item.name for item in changed] else b""
        assert archives.content(new, name) == (tmp_path / name).read_bytes() + tail
    assert archives.armap(new) == archives.armap(path)
    assert len(archives.armap(new)) > 20
    old_headers = [_header_without_size(path, member) for member in members(path)]
    assert [_header_without_size(new, member) for member in members(new)] == old_headers


@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_result_is_what_ar_makes_of_grown_files(
    tmp_path: Path, files: list[str], count: int
) -> None:
    """Byte for byte, but for a symbol table, which knows nothing of what was added."""
    path = make(tmp_path / "x.a", *files, options="rcS")
    archive = read(path)
    layouts = {item.header: grown(bytes(archive.content(item)), count) for item in archive.members}
    layout = lay_out_members(archive, layouts)
    assert all(copy.size >= 0 for copy in layout.copies)
    new = apply(path, layout, tmp_path / "new.a")
    for name in files:
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes() + b"+" * count)
    again = make(tmp_path / "again.a", *files, options="rcS")
    assert new.read_bytes() == again.read_bytes()


def _header_without_size(path: Path, member: Member) -> bytes:
    data = path.read_bytes()[member.header : member.header + 60]
    return data[:48] + data[58:]


def test_the_last_member_need_not_be_padded(tmp_path: Path) -> None:
    path = tmp_path / "x.a"
    path.write_bytes(ARCH + header(b"a/", 3) + b"abc\n" + header(b"b/", 3) + b"xyz")
    archive = read(path)
    last = [member.header for member in archive.members][-1]
    same = apply(path, lay_out_members(archive, {}), tmp_path / "same.a")
    assert same.read_bytes() == path.read_bytes()
    layout = lay_out_members(archive, {last: grown(b"xyz", 2)})
    assert all(copy.size >= 0 for copy in layout.copies)
    new = apply(path, layout, tmp_path / "new.a")
    assert new.stat().st_size % 2 == 0
    assert archives.content(new, "b") == b"xyz++"
    first = next(archive.members).header
    new = apply(path, lay_out_members(archive, {first: grown(b"abc", 2)}), tmp_path / "new.a")
    assert (archives.content(new, "a"), archives.content(new, "b")) == (b"abc++", b"xyz")


def test_an_offset_past_4_gib_does_not_fit_the_symbol_table(tmp_path: Path) -> None:
    """The same archive is laid out as long as all members start below 4 GiB."""
    symbols = (1).to_bytes(4, "big") + (0xFFFFFFF0).to_bytes(4, "big") + b"symbol\0\0"
    first, fill = 8 + 60 + len(symbols), 0xFFFFFFF0 - (8 + 60 + len(symbols)) - 60 - 64 - 60
    path = tmp_path / "huge.a"
    with path.open("wb") as file:
        file.write(ARCH + header(b"/", len(symbols)) + symbols)
        file.write(header(b"grows/", 64) + b"g" * 64 + header(b"hole/", fill))
        file.seek(0xFFFFFFF0)
        file.write(header(b"last/", 4) + b"text")
    with open_input(path) as source:
        archive = read_archive(source.data, "huge.a")
        lay_out_members(archive, {first: grown(b"g" * 64, 14)})
        with pytest.raises(ScpatchError, match="does not fit its field") as caught:
            lay_out_members(archive, {first: grown(b"g" * 64, 16)})
    assert (caught.value.code, caught.value.file) == ("SCP110", "huge.a")


def test_a_size_of_eleven_digits_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "x.a"
    path.write_bytes(ARCH + header(b"a/", 0))
    for size, fits in ((9_999_999_999, True), (10_000_000_000, False)):
        if fits:
            lay_out_members(read(path), {8: Layout(size, (), ())})
        else:
            with pytest.raises(ScpatchError, match="the size of a does not fit"):
                lay_out_members(read(path), {8: Layout(size, (), ())})


def test_a_thin_archive_with_new_names(tmp_path: Path, files: list[str]) -> None:
    path = make(tmp_path / "x.a", *files, options="rcsT")
    symbols = archives.armap(path)
    (tmp_path / "odd.txt").rename(tmp_path / "moved.txt")
    archive = read(path)
    places = {
        item.header: ThinMember(
            "moved.txt" if item.name == "odd.txt" else item.name, None, item.size
        )
        for item in archive.members
    }
    layout = lay_out_thin(archive, places)
    assert layout is not None
    new = apply(path, layout, tmp_path / "new.a")
    assert archives.names(new) == [name.replace("odd", "moved") for name in files]
    assert archives.armap(new) == symbols
    assert archives.content(new, "moved.txt") == b"seven b"


def test_a_thin_archive_whose_places_are_the_old_ones_stays(
    tmp_path: Path, files: list[str]
) -> None:
    archive = read(make(tmp_path / "x.a", *files, options="rcsT"))
    places = {item.header: ThinMember(item.name, None, item.size) for item in archive.members}
    assert lay_out_thin(archive, places) is None


def test_a_line_break_cannot_stand_in_a_thin_archive(tmp_path: Path, files: list[str]) -> None:
    archive = read(make(tmp_path / "x.a", *files, options="rcsT"))
    places = {item.header: ThinMember("a\nb", None, item.size) for item in archive.members}
    with pytest.raises(ScpatchError, match="line break"):
        lay_out_thin(archive, places)


NAMES = header(b"//", 8) + b"long.o/\n"
DAMAGED = {
    "half a header": (
        ARCH + header(b"a/", 4)[:59],
        "the file ends inside the member header at 0x8",
    ),
    "half a second header": (
        ARCH + header(b"a/", 4) + b"text" + b"b/",
        "the file ends inside the member header at 0x48",
    ),
    "no terminator": (ARCH + header(b"a/", 4, b"xx") + b"text", "at 0x8 lacks its terminator"),
    "letters in the size": (ARCH + header(b"a/", b"4x") + b"text", "at 0x8 has the size '4x'"),
    "no size": (ARCH + header(b"a/", b"") + b"text", "at 0x8 has the size ''"),
    "a negative size": (ARCH + header(b"a/", b"-4") + b"text", "at 0x8 has the size '-4'"),
    "a size with an underscore": (ARCH + header(b"a/", b"1_0"), "at 0x8 has the size '1_0'"),
    "past the end": (
        ARCH + header(b"a/", 5) + b"text",
        "the member at 0x8 reaches to 0x49, the file ends at 0x48",
    ),
    "far past the end": (ARCH + header(b"a/", 9999999999), "reaches to 0x2540be443"),
    "names past the end of a thin archive": (THIN + header(b"//", 5), "reaches to 0x49"),
    "a long name without a table": (ARCH + header(b"/0", 0), "its name at 0x0 of the long names"),
    "a long name past the table": (
        ARCH + NAMES + header(b"/8", 0),
        "at 0x4c has its name at 0x8 of the long names, which end at 0x8",
    ),
    "a long name without an end": (
        ARCH + header(b"//", 8) + b"long.o//" + header(b"/2", 0),
        "the long name at 0x2 has no end",
    ),
    "a NUL in the path of a thin archive's member": (
        THIN + header(b"//", 6) + b"a\0b/c\n" + header(b"/0", 0),
        r"the member header at 0x4a names the file 'a\x00b/c'",
    ),
    "a thin archive's member without a path": (THIN + header(b"", 0), "names the file ''"),
    "a name that is a table of another system": (ARCH + header(b"/<ECSYMBOLS>/", 0), "the name"),
    "a nested name in a regular archive": (ARCH + NAMES + header(b"/0:8", 0), "the name '/0:8'"),
    "two symbol tables": (
        ARCH + 2 * (header(b"/", 4) + bytes(4)),
        "there is a second member '/' at 0x48",
    ),
    "a BSD name longer than the member": (ARCH + header(b"#1/5", 4) + b"text", "the name '#1/5'"),
    "a BSD name without a length": (ARCH + header(b"#1/x", 4) + b"text", "the name '#1/x'"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_headers(case: str) -> None:
    data, message = DAMAGED[case]
    with pytest.raises(ScpatchError) as caught:
        read_archive(memoryview(data), "x.a")
    assert caught.value.code == "SCP108"
    assert caught.value.file == "x.a"
    assert message in caught.value.message


def word(value: int) -> bytes:
    return value.to_bytes(4, "big")


SYMBOLS = {
    "no room for the count": (b"/", b"\0\0\0", "has no room for its count"),
    "more entries than bytes": (b"/", word(2) + word(8), "has 2 entries in 8 bytes"),
    "very many entries": (b"/", word(0xFFFFFFFF) + word(8), "has 4294967295 entries in 8 bytes"),
    "no member there": (b"/", word(1) + word(9), "names the offset 0x9, where no member starts"),
    "64 bits": (b"/SYM64/", b"\xff" * 8, "has 18446744073709551615 entries in 8 bytes"),
    "BSD": (b"__.SYMDEF", b"\x10\0\0\0" + bytes(8), "has 2 entries in 12 bytes"),
}


@pytest.mark.parametrize("case", SYMBOLS)
def test_damaged_symbol_tables(case: str) -> None:
    name, table, message = SYMBOLS[case]
    padding = b"\n" * (len(table) % 2)
    data = ARCH + header(name, len(table)) + table + padding + header(b"a/", 4) + b"text"
    archive = read_archive(memoryview(data), "x.a")
    (member,) = archive.members
    with pytest.raises(ScpatchError, match=message) as caught:
        lay_out_members(archive, {member.header: grown(b"text", 2)})
    assert caught.value.code == "SCP108"


def test_truncated_anywhere_it_is_read_whole_or_refused(tmp_path: Path, files: list[str]) -> None:
    """What is left at the end of a member is an archive; everything else is not."""
    (tmp_path / "tiny").write_bytes(b"x")
    data = make(tmp_path / "x.a", "odd.txt", LONG, "tiny").read_bytes()
    whole = read_archive(memoryview(data), "x.a")
    ends = {entry.content + entry.size for entry in whole.entries} | {8}
    ends |= {end + end % 2 for end in ends}
    for size in range(8, len(data)):
        if size in ends:
            read_archive(memoryview(data[:size]), "x.a")
        else:
            with pytest.raises(ScpatchError, match="ends"):
                read_archive(memoryview(data[:size]), "x.a")


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_damaged_archive_gives_an_archive_or_an_error(data: st.DataObject) -> None:
    """Never another exception, and nothing outside the file."""
    magic = data.draw(st.sampled_from([ARCH, THIN]))
    whole = bytearray(
        magic
        + header(b"/", 12)
        + word(1)
        + word(88)
        + b"sym\0"
        + header(b"//", 8)
        + b"long.o/\n"
        + header(b"/0", 4)
        + b"text"
        + header(b"#1/4", 6)
        + b"bsd\0xy"
    )
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(8, len(whole) - 1))
        whole[at] = data.draw(st.sampled_from(b"/:#1 0123456789\n\0\xff`"))
    view = memoryview(bytes(whole[: data.draw(st.integers(8, len(whole)))]))
    with contextlib.suppress(ScpatchError):
        archive = read_archive(view, "x.a")
        for entry in archive.entries:
            if entry.kind is not EntryKind.MEMBER or not archive.thin:
                assert entry.content + entry.size <= len(view)
        first = next(archive.members, None)
        if first is not None and not archive.thin:
            lay_out_members(archive, {first.header: grown(b"x" * first.size, 3)})


def test_ar_makes_the_symbol_table_again(tmp_path: Path, files: list[str]) -> None:
    """`ar s` on a laid-out archive changes nothing but what it always writes anew."""
    path = make(tmp_path / "x.a", *files)
    archive = read(path)
    first = next(archive.members)
    layout = lay_out_members(archive, {first.header: grown(bytes(archive.content(first)), 6)})
    new = apply(path, layout, tmp_path / "new.a")
    again = tmp_path / "again.a"
    again.write_bytes(new.read_bytes())
    run(AR, "sD", again)
    assert again.read_bytes() == new.read_bytes()
