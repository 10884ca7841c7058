"""The proof on two linked images: each thing that must not differ, changed by hand."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from scpatch.verifier.files import verify_files
from scpatch.verifier.linked import prove_images
from scpatch.verifier.types import Proof
from tests.images import LINKS, LOAD, SOURCE, calls, link, patched, with_words
from tests.tools import CROSS, NOP, assemble, rewritten, run, section, symbol

GLOBS = ("__SCT__*",)
UNRELATED = "bytes were changed that do not belong to a static call."
OVERWRITTEN = "the restore overwrote an instruction that is not a nop."
RIGHT_BEFORE = "the call was changed although r2 was right after it."


def prove(before: Path, after: Path, offset: int | None = None) -> Proof:
    return prove_images(before, after, GLOBS, offset)


def states(proof: Proof) -> list[str]:
    return [site.state for site in proof.sites]


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
    proof = prove(path, after)
    assert proof.errors == ()
    assert [(site.state, site.right, site.was_right) for site in proof.sites] == [
        ("paca", True, False)
    ] * 3
    assert proof.paca_toc == 16
    assert prove(path, after, 8).errors == tuple(
        f"{where}: r2 is loaded from 16(r13), not 8(r13)."
        for where in (".text+0x14 in _start", ".text+0x1c in _start", ".init.text+0x14 in early")
    )
    assert states(prove(after, after)) == ["done"] * 3


def test_a_site_left_out(tmp_path: Path) -> None:
    path = link(tmp_path)
    first, *_ = calls(path)
    after = with_words(path, {first + 4: LOAD})
    proof = prove(path, after)
    assert proof.errors == ()
    assert sorted(states(proof)) == ["left", "left", "paca"]
    (verdict,) = verify_files(path, after)
    assert not verdict.proven


def test_a_sibling_call_is_never_right(tmp_path: Path) -> None:
    source = SOURCE.replace("CALL target", "b __SCT__x\n ld 2, 16(13)")
    path = link(tmp_path, source)
    assert sorted(states(prove(path, patched(path)))) == ["left", "paca", "paca", "paca"]


def test_two_offsets(tmp_path: Path) -> None:
    path = link(tmp_path)
    first, second, *_ = calls(path)
    (error,) = prove(path, with_words(path, {first + 4: LOAD, second + 4: LOAD + 8})).errors
    assert "r2 is loaded from 24(r13), not 16(r13)" in error or "16(r13), not 24(r13)" in error


def test_a_nop_after_another_call(tmp_path: Path) -> None:
    """`bl target; nop`: no trampoline is called there."""
    path = link(tmp_path)
    (at,) = calls(path, "target")
    (error,) = prove(path, with_words(path, {at + 4: LOAD})).errors
    assert error == f".text+0x28 in _start: {UNRELATED}"


def test_a_word_that_was_no_nop(tmp_path: Path) -> None:
    path = link(tmp_path, SOURCE.replace("CALL target", "bl __SCT__x\n mr 3, 4"))
    (at,) = (at for at, after in calls(path).items() if after == "mr      r3,r4")
    (error,) = prove(path, with_words(path, {at + 4: LOAD})).errors
    assert error == f".text+0x24 in _start: {OVERWRITTEN}"


OTHER_WORDS = {
    "ld r3,16(r13)": (0xE86D0010, "r2 is neither saved nor restored: no nop follows"),
    "ld r2,16(r12)": (0xE84C0010, "r2 is neither saved nor restored: no nop follows"),
    "lwa r2,16(r13)": (0xE84D0012, "r2 is neither saved nor restored: no nop follows"),
    "ld r2,24(r1)": (0xE8410018, "restored, no save was found: r1 changes at +0x10"),
    "li r2,0": (0x38400000, "r2 is neither saved nor restored: no nop follows"),
}


@pytest.mark.parametrize("name", OTHER_WORDS)
def test_another_word(tmp_path: Path, name: str) -> None:
    word, why = OTHER_WORDS[name]
    path = link(tmp_path)
    proof = prove(path, with_words(path, {min(calls(path)) + 4: word}))
    where = ".text+0x14 in _start"
    assert proof.errors == (f"{where}: the word after the call must not become this: {why}.",)
    assert states(proof) == ["wrong", "left", "left"]


def test_another_call(tmp_path: Path) -> None:
    path = link(tmp_path)
    at = min(calls(path))
    target = symbol(path, "target").value
    word = 0x48000001 | (target - at & 0x3FFFFFC)
    assert prove(path, with_words(path, {at: word})).errors == (
        ".text+0x14 in _start: another call than before.",
        f".text+0x14 in _start: {UNRELATED}",
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
    sites = prove(path, path).sites
    assert [site.state for site in sites if "r2save." in site.why] == ["done"] * 2
    where = ".text+0x14 in _start"
    faults = (f"{where}: {OVERWRITTEN}", f"{where}: {RIGHT_BEFORE}")
    assert prove(path, with_words(path, {min(places) + 4: LOAD})).errors == faults
    why = "r2 is saved, but not restored: a nop follows"
    assert prove(path, with_words(path, {min(places) + 4: NOP})).errors == (
        f"{where}: the word after the call must not become this: {why}.",
        *faults,
    )


def test_words_elsewhere(tmp_path: Path) -> None:
    path = link(tmp_path)
    for name, where in (("_start_0", 0), ("target_0", 0x70), ("__SCT__x_4", 0x44)):
        function = name.rpartition("_")[0]
        (error,) = changed(path, **{name: LOAD}).errors
        assert error == f".text+{where:#x} in {function}: {UNRELATED}"


def test_data(tmp_path: Path) -> None:
    path = link(tmp_path)
    data = bytearray(patched(path).read_bytes())
    data[section(path, ".data").offset] ^= 1
    after = tmp_path / "after"
    after.write_bytes(data)
    (error,) = prove(path, after).errors
    assert error == f".data+0x0: {UNRELATED}"


@pytest.mark.parametrize("field", [0, 4, 8, 16, 24, 32, 40, 48])
def test_the_program_headers(tmp_path: Path, field: int) -> None:
    path = link(tmp_path)
    data = bytearray(patched(path).read_bytes())
    data[int.from_bytes(data[32:40], "little") + field] ^= 1
    after = tmp_path / "after"
    after.write_bytes(data)
    assert prove(path, after).errors == ("the program headers were changed.",)


@pytest.mark.parametrize(("field", "value"), [(54, 55), (54, 0), (56, 0x8000)])
def test_program_headers_that_are_not_whole(tmp_path: Path, field: int, value: int) -> None:
    path = link(tmp_path)
    data = bytearray(path.read_bytes())
    struct.pack_into("<H", data, field, value)
    path.write_bytes(data)
    assert prove(path, path).errors == ("the program header table is damaged.",)


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
    no_note = ".comment: bytes were appended that are not the note of a strategy."
    not_applied = ".comment: strategy paca was noted, none was applied."
    for extra, errors in {
        b"something\0": (no_note,),
        note + b"x\0": (not_applied, no_note),
        b"scpatch strategy callsite\0": (not_applied.replace("paca", "callsite"),),
        note: (not_applied,),
    }.items():
        after = grown(tmp_path / "same", ".comment", extra)
        assert prove(tmp_path / "same", after).errors == errors


def test_a_section_that_grows_and_one_that_is_loaded_and_moves(tmp_path: Path) -> None:
    path = link(tmp_path)
    data = bytearray(patched(path).read_bytes())
    start = int.from_bytes(data[40:48], "little")
    index = section(path, ".data").index
    name = f"section {index} (.data)"
    for field, errors in {
        32: (f"the header of {name} was changed.", f"{name} has another size."),
        24: (f"{name} is loaded, and is elsewhere in the file.",),
    }.items():
        other = bytearray(data)
        other[start + 64 * index + field] += 8
        after = tmp_path / "after"
        after.write_bytes(other)
        assert prove(path, after).errors == errors


def test_an_object_and_an_image(tmp_path: Path) -> None:
    path = link(tmp_path)
    for pair in ((path, tmp_path / "x.o"), (tmp_path / "x.o", path)):
        (verdict,) = verify_files(*pair)
        assert verdict.proof.errors == ("not a ppc64 ELFv2 linked image.",)
        assert not verdict.proven
