"""The proof on linked images: each thing that may not differ, changed by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from scpatch.verifier.files import verify_files
from scpatch.verifier.linked import prove_images
from scpatch.verifier.types import Proof
from tests.images import LINKS, LOAD, SOURCE, calls, link, patched, with_words
from tests.tools import CROSS, NOP, assemble, rewritten, run, section, symbol

GLOBS = ("__SCT__*",)


def prove(before: Path, after: Path, offset: int | None = None) -> Proof:
    return prove_images(before, after, GLOBS, offset)


def changed(path: Path, **words: int) -> Proof:
    """The proof of a copy with other words, `SYMBOL_OFFSET=word`."""
    places = {}
    for name, word in words.items():
        label, _, offset = name.rpartition("_")
        places[symbol(path, label).value + int(offset)] = word
    return prove(path, with_words(path, places))


@pytest.mark.parametrize("how", LINKS)
def test_right_words(tmp_path: Path, how: str) -> None:
    path = link(tmp_path, SOURCE, how)
    after = with_words(path, {at + 4: LOAD for at in calls(path)})
    found = prove(path, after)
    assert found.errors == ()
    assert [(one.state, one.right, one.was_right) for one in found.sites] == [
        ("paca", True, False)
    ] * 3
    assert found.paca_toc == 16
    assert len(prove(path, after, 8).errors) == 3
    again = prove(after, after)
    assert [one.state for one in again.sites] == ["done"] * 3


def test_a_site_left_out(tmp_path: Path) -> None:
    path = link(tmp_path)
    first, *_ = calls(path)
    after = with_words(path, {first + 4: LOAD})
    found = prove(path, after)
    assert found.errors == ()
    assert sorted(one.state for one in found.sites) == ["left", "left", "paca"]
    (verdict,) = verify_files(path, after)
    assert not verdict.proven


def test_a_sibling_call_is_never_right(tmp_path: Path) -> None:
    source = SOURCE.replace("CALL target", "b __SCT__x\n ld 2, 16(13)")
    path = link(tmp_path, source)
    found = prove(path, patched(path))
    assert sorted(one.state for one in found.sites) == ["left", "paca", "paca", "paca"]


def test_two_offsets(tmp_path: Path) -> None:
    path = link(tmp_path)
    first, second, *_ = calls(path)
    (error,) = prove(path, with_words(path, {first + 4: LOAD, second + 4: LOAD + 8})).errors
    assert "r2 is loaded from 24(r13), not 16(r13)" in error or "16(r13), not 24(r13)" in error


def test_a_nop_behind_another_call(tmp_path: Path) -> None:
    """`bl target; nop`: no trampoline is called there."""
    path = link(tmp_path)
    (at,) = calls(path, "target")
    (error,) = prove(path, with_words(path, {at + 4: LOAD})).errors
    assert "bytes were changed that have nothing to do with a static call" in error


def test_a_word_that_was_no_nop(tmp_path: Path) -> None:
    path = link(tmp_path, SOURCE.replace("CALL target", "bl __SCT__x\n mr 3, 4"))
    (at,) = (at for at, after in calls(path).items() if after == "mr      r3,r4")
    errors = prove(path, with_words(path, {at + 4: LOAD})).errors
    assert any("no nop was overwritten" in error for error in errors)


@pytest.mark.parametrize("word", [0xE86D0010, 0xE84C0010, 0xE84D0012, 0xE8410018, 0x38400000])
def test_another_word(tmp_path: Path, word: int) -> None:
    path = link(tmp_path)
    at = min(calls(path))
    found = prove(path, with_words(path, {at + 4: word}))
    assert found.errors
    assert "wrong" in {one.state for one in found.sites}


def test_another_call(tmp_path: Path) -> None:
    path = link(tmp_path)
    at = min(calls(path))
    target = symbol(path, "target").value
    word = 0x48000001 | (target - at & 0x3FFFFFC)
    assert any(
        "another call than before" in one
        for one in prove(path, with_words(path, {at: word})).errors
    )


def test_a_call_of_another_trampoline(tmp_path: Path) -> None:
    path = link(tmp_path)
    at = symbol(path, "_start").value + 20
    word = 0x48000001 | (symbol(path, "__SCT__y").value - at & 0x3FFFFFC)
    errors = prove(path, with_words(path, {at: word})).errors
    assert errors[0] == ".text+0x14 in _start: another call than before."


@pytest.mark.parametrize("field", [16, 24, 48], ids=["e_type", "e_entry", "e_flags"])
def test_the_file_header(tmp_path: Path, field: int) -> None:
    path = link(tmp_path)
    data = bytearray(patched(path).read_bytes())
    data[field] ^= {16: 1, 24: 4, 48: 0x10}[field]
    after = tmp_path / "after"
    after.write_bytes(data)
    assert f"the file header was changed (at byte {field:#x})." in prove(path, after).errors


def test_a_restore_that_was_right(tmp_path: Path) -> None:
    """A stub saves r2 there, and the linker or scpatch has put the restore in."""
    source = rewritten(assemble(tmp_path, SOURCE))
    path = tmp_path / "vmlinux"
    run(*LINKS["exec"], "-o", path, source)
    places = calls(path, r"r2save\.__SCT__x\.\w+")
    assert len(places) == 2
    found = prove(path, path)
    assert [one.state for one in found.sites if "r2save." in one.why] == ["done"] * 2
    errors = prove(path, with_words(path, {min(places) + 4: LOAD})).errors
    assert any("r2 was right already was changed" in error for error in errors)
    lost = prove(path, with_words(path, {min(places) + 4: NOP}))
    assert any("changed to none that may be" in error for error in lost.errors)


def test_words_elsewhere(tmp_path: Path) -> None:
    path = link(tmp_path)
    for name in ("_start_0", "target_0", "__SCT__x_4"):
        assert changed(path, **{name: LOAD}).errors, name


def test_data(tmp_path: Path) -> None:
    path = link(tmp_path)
    data = bytearray(patched(path).read_bytes())
    data[section(path, ".data").offset] ^= 1
    after = tmp_path / "after"
    after.write_bytes(data)
    (error,) = prove(path, after).errors
    assert error.startswith(".data+0x0")


@pytest.mark.parametrize("field", [0, 4, 8, 16, 24, 32, 40, 48])
def test_the_program_headers(tmp_path: Path, field: int) -> None:
    path = link(tmp_path)
    data = bytearray(patched(path).read_bytes())
    data[int.from_bytes(data[32:40], "little") + field] ^= 1
    after = tmp_path / "after"
    after.write_bytes(data)
    assert "the program headers were changed." in prove(path, after).errors


def grown(path: Path, name: str, extra: bytes) -> Path:
    """A copy in which objcopy has made a section longer."""
    content = path.with_name("content")
    run(
        CROSS + "objcopy",
        "-O",
        "binary",
        "-j",
        name,
        "--set-section-flags",
        f"{name}=alloc",
        path,
        content,
    )
    content.write_bytes(content.read_bytes() + extra)
    after = path.with_name("grown")
    run(CROSS + "objcopy", "--update-section", f"{name}={content}", path, after)
    return after


def test_bytes_in_comment_that_are_no_note(tmp_path: Path) -> None:
    path = link(tmp_path)
    run(CROSS + "objcopy", path, tmp_path / "same")
    note = b"scpatch strategy paca\0"
    for extra in (b"something\0", note + b"x\0", b"scpatch strategy callsite\0", note):
        errors = prove(tmp_path / "same", grown(tmp_path / "same", ".comment", extra)).errors
        # The note alone, without a change that it tells of, is wrong too.
        assert any(".comment" in error for error in errors), extra


def test_a_section_that_grows_and_one_that_is_loaded_and_moves(tmp_path: Path) -> None:
    path = link(tmp_path)
    data = bytearray(patched(path).read_bytes())
    start = int.from_bytes(data[40:48], "little")
    index = section(path, ".data").index
    for field, text in ((32, "has another size"), (24, "lies elsewhere in the file")):
        other = bytearray(data)
        other[start + 64 * index + field] += 8
        after = tmp_path / "after"
        after.write_bytes(other)
        assert any(text in error for error in prove(path, after).errors), text


def test_an_object_and_an_image(tmp_path: Path) -> None:
    path = link(tmp_path)
    for pair in ((path, tmp_path / "x.o"), (tmp_path / "x.o", path)):
        (verdict,) = verify_files(*pair)
        assert verdict.proof.errors == ("not a ppc64le ELFv2 linked image.",)
        assert not verdict.proven
