"""Linked images: the sites that are found in them, and what patching them in place leaves alone."""

from __future__ import annotations

from pathlib import Path

import pytest

import scpatch
from scpatch.command_line import read
from scpatch.errors import ScpatchError
from scpatch.linux.offsets import Offsets
from scpatch.rewriter import Options, plan_file
from scpatch.sites.model import Scan
from scpatch.verifier.files import verify_files
from scpatch.verifier.types import Proof
from tests.images import (
    LINKS,
    SOURCE,
    TRAMPOLINES,
    addresses,
    assembled,
    calls,
    file_offset,
    link,
    patch_image,
    patched,
    segments,
)
from tests.tools import CROSS, LD, assemble, rewritten, run, section, sections

EMITTING = Options("paca", offsets=Offsets(paca_toc=16), emit_sites=True)


def scan(path: Path) -> Scan:
    return plan_file(path, Options(strategy=None)).objects[0].scan


def found(path: Path) -> dict[int, str]:
    """Address of each site -> its state, with the code of a refused one."""
    starts = addresses(path)
    return {
        starts[site.section_name] + site.offset: f"{site.state} {site.code}".strip()
        for site in scan(path).sites
    }


def proof(before: Path, after: Path) -> Proof:
    (verdict,) = verify_files(before, after)
    return verdict.proof


def states(path: Path) -> dict[str, list[str]]:
    by_function: dict[str, list[str]] = {}
    for site in scan(path).sites:
        by_function.setdefault(site.function, []).append(f"{site.state} {site.code}".strip())
    return by_function


@pytest.mark.parametrize("how", LINKS)
def test_the_calls_that_objdump_sees(tmp_path: Path, how: str) -> None:
    path = link(tmp_path, SOURCE, how)
    assert found(path) == dict.fromkeys(calls(path), "paca")
    assert states(path) == {"_start": ["paca", "paca"], "early": ["paca"]}
    whole = scan(path)
    assert whole.image
    assert not whole.module
    assert {trampoline.name for trampoline in whole.trampolines} == {"__SCT__x", "__SCT__y"}


@pytest.mark.parametrize("how", LINKS)
def test_nothing_but_the_nops_changes(tmp_path: Path, how: str) -> None:
    path = link(tmp_path, SOURCE, how)
    new = patched(path)
    assert calls(new) == dict.fromkeys(calls(path), "ld      r2,16(r13)")
    assert segments(new) == segments(path)
    assert run(CROSS + "readelf", "-sW", new).stdout == run(CROSS + "readelf", "-sW", path).stdout
    grown = [
        one.name
        for one, other in zip(sections(new), sections(path), strict=True)
        if one.size != other.size
    ]
    assert grown == [".comment"]
    comment = section(path, ".comment").offset
    old, now = path.read_bytes(), new.read_bytes()
    changed = {at & ~3 for at in range(64, comment) if old[at] != now[at]}
    assert changed == {file_offset(path, address + 4) for address in calls(path)}
    assert b"a compiler\0" in now
    assert b"\0scpatch strategy paca\0" in now
    seen = proof(path, new)
    assert seen.errors == ()
    assert [site.state for site in seen.sites] == ["paca"] * 3
    assert scan(new).strategies == ("paca",)


@pytest.mark.parametrize("how", LINKS)
def test_a_second_time_changes_nothing(tmp_path: Path, how: str) -> None:
    new = patched(link(tmp_path, SOURCE, how))
    once = new.read_bytes()
    assert not patch_image(new).outputs
    assert new.read_bytes() == once
    assert set(found(new).values()) == {"done"}


CALLS = {
    "bl __SCT__x\n nop": "paca",
    "bl __SCT__x\n cror 15, 15, 15": "paca",
    "bl __SCT__x\n ld 2, 24(1)": "done",
    "bl __SCT__x\n ld 2, 16(13)": "done",
    "bl __SCT__x\n mr 3, 3": "refused SCP201",
    "b __SCT__x\n nop": "refused SCP203",
    "bl __SCT__x + 4\n nop": "refused SCP205",
    "beq __SCT__x\n nop": "refused SCP209",
}


@pytest.mark.parametrize("call", CALLS)
def test_states(tmp_path: Path, call: str) -> None:
    source = f".globl _start\nFRAME _start\n {call}\nLEAVE _start\n{TRAMPOLINES}"
    path = link(tmp_path, source)
    assert states(path) == {"_start": [CALLS[call]]}


def test_the_section_ends_behind_the_call(tmp_path: Path) -> None:
    end = f'.section .init.text, "ax"\nFUNC _start\n bl __SCT__x\nEND _start\n.text\n{TRAMPOLINES}'
    assert states(link(tmp_path, end)) == {"_start": ["refused SCP207"]}


def test_a_trampolines_own_branches_are_no_sites(tmp_path: Path) -> None:
    inner = TRAMPOLINES.replace("b target\n        .space 28", "b 1f\n 1: nop\n b __SCT__x", 1)
    source = f".globl _start\nFRAME _start\nCALL __SCT__x\nLEAVE _start\n{inner}"
    assert states(link(tmp_path, source)) == {"_start": ["paca"]}


def test_what_callsite_made_is_done(tmp_path: Path) -> None:
    source = SOURCE.replace("CALL target", "bl __SCT__x\n mr 3, 3")
    path = rewritten(assemble(tmp_path, source), no_nop="thunk")
    image = tmp_path / "vmlinux"
    run(LD, "-o", image, path)
    assert states(image) == {"_start": ["done"] * 3, "early": ["done"]}
    assert scan(image).strategies == ("callsite",)
    with pytest.raises(ScpatchError) as caught:
        patch_image(image)
    assert caught.value.code == "SCP114"


def test_calls_that_need_no_r2(tmp_path: Path) -> None:
    """The relocation says so, where the linker has kept it."""
    source = SOURCE.replace("CALL target", "bl __SCT__x@notoc\n nop")
    assert "notoc" not in states(link(tmp_path, source))["_start"]
    image = link(tmp_path, source, "exec with relocations")
    assert states(image)["_start"] == ["paca", "paca", "notoc"]


FAR = f"""
        .globl _start
        FRAME _start
        CALL __SCT__x
        LEAVE _start
        .section .gap1, "ax"
        .space ONE
        .section .gap2, "ax"
        .space TWO
        .section .far, "ax"
        {TRAMPOLINES}
"""
SCRIPT = """
SECTIONS {
  . = 0x10000000;
  .text : { *(.text) *(.gap1) *(.gap2) *(.far) }
  .branch_lt : { *(.branch_lt) }
  . += APART;
  .got : { *(.got .toc) }
}
"""
STUBS = {
    "long_branch": (0x1000000, 0x1100000, 0),
    "plt_branch": (0x10000, 0x2100000, 0),
    "plt_branch, with addis": (0x10000, 0x2100000, 0x20000),
}
"""What GNU ld makes where the call does not reach: by the bytes in front of the place where it puts
its stubs, those behind it, and those between .branch_lt and .got."""


@pytest.mark.parametrize("kind", STUBS)
@pytest.mark.parametrize(
    "how", ["exec", "pie", "lld", "big-endian", "big-endian pie", "big-endian lld"]
)
def test_calls_by_way_of_the_linkers_stubs(tmp_path: Path, kind: str, how: str) -> None:
    one, two, apart = STUBS[kind]
    script = tmp_path / "script.lds"
    script.write_text(SCRIPT.replace("APART", str(apart)))
    source = FAR.replace("ONE", str(one)).replace("TWO", str(two))
    is_lld = how.endswith("lld")
    quiet = [] if is_lld else ["--no-warn-rwx-segments"]
    options = [*LINKS[how], *quiet, "-T", str(script)]
    path, named = tmp_path / "vmlinux", tmp_path / "named"
    run(*options, "-o", path, assembled(tmp_path, source, how))
    if is_lld:
        # It has one name for both, and gives no address to .branch_lt in a PIE.
        assert "__long_branch___SCT__x" in run(CROSS + "nm", path).stdout
    else:
        run(*options, "--emit-stub-syms", "-o", named, tmp_path / "x.o")
        assert f".{kind.partition(',')[0]}.__SCT__x" in run(CROSS + "nm", named).stdout
        assert states(named) == {"_start": ["paca"]}
    if how == "pie" and kind != "long_branch":
        # The address is that of .rela.dyn; what lies in its place is for nobody to rely on.
        data, table = bytearray(path.read_bytes()), section(path, ".branch_lt")
        data[table.offset : table.offset + 8] = bytes(8)
        path.write_bytes(data)
    assert states(path) == {"_start": ["paca"]}
    assert scan(path).sites[0].detail == "through a stub of the linker's"
    new = patched(path)
    seen = proof(path, new)
    assert [site.state for site in seen.sites] == ["paca"]
    assert seen.errors == ()
    for file in tmp_path.iterdir():
        file.unlink()  # 34 MB each


@pytest.mark.parametrize("how", ["exec", "pie", "lld", "lld pie"])
def test_the_linkers_stub_that_saves_r2(tmp_path: Path, how: str) -> None:
    """The linker restores r2 itself."""
    marked = TRAMPOLINES.replace("FUNC __SCT__x", "FUNC __SCT__x\n.localentry __SCT__x, 1", 1)
    source = SOURCE.replace(TRAMPOLINES, f'.section .text.t, "ax"\n{marked}')
    path = link(tmp_path, source, how)
    assert states(path)["early"] == ["done"]
    assert "refused SCP203" not in str(states(path))
    (early,) = [site for site in scan(path).sites if site.function == "early"]
    assert early.detail == "restored by ld r2,24(r1), through a stub of the linker's"
    new = patched(path)
    seen = {(site.function, site.trampoline): site.state for site in proof(path, new).sites}
    assert seen["early", "__SCT__x"] == "linker"
    assert seen["_start", "__SCT__y"] == "paca"
    assert proof(path, new).errors == ()


BY_LLD = {
    "lld 14": "pla 12, __SCT__y@pcrel",
    "lld 19": "addis 12, 2, __SCT__y@toc@ha\n addi 12, 12, __SCT__y@toc@l",
}
"""How the stubs that save r2 come to the address of a trampoline out of reach."""


@pytest.mark.parametrize("form", BY_LLD)
@pytest.mark.parametrize("how", ["exec", "pie"])
def test_what_llds_save_r2_with(tmp_path: Path, how: str, form: str) -> None:
    """The rewriter and the proof know the same forms, whichever lld there is on this machine."""
    stub = f"__toc_save___SCT__y:\n std 2, 24(1)\n {BY_LLD[form]}\n mtctr 12\n bctr\n"
    source = SOURCE.replace("CALL __SCT__y", "bl __toc_save___SCT__y\n ld 2, 24(1)") + ".text\n"
    path = link(tmp_path, source + stub, how)
    assert states(path) == {"_start": ["paca", "done"], "early": ["paca"]}
    seen = {
        (site.function, site.trampoline): site.state for site in proof(path, patched(path)).sites
    }
    assert seen["_start", "__SCT__y"] == "linker"
    wrong = BY_LLD[form].replace("__SCT__y", "__SCT__y+4")
    path = link(tmp_path, source + stub.replace(BY_LLD[form], wrong), how)
    assert states(path) == {"_start": ["paca"], "early": ["paca"]}


def test_a_function_that_goes_on_to_a_trampoline_is_no_stub(tmp_path: Path) -> None:
    """That is a sibling call of its own, and the call of the function is none of a trampoline."""
    other = "FUNC other\n b __SCT__x\nEND other\n"
    path = link(tmp_path, SOURCE.replace("CALL target", "CALL other") + ".text\n" + other)
    assert states(path) == {
        "_start": ["paca", "paca"],
        "other": ["refused SCP203"],
        "early": ["paca"],
    }
    seen = {site.function: site.state for site in proof(path, patched(path)).sites}
    assert seen == {"_start": "paca", "other": "left", "early": "paca"}


def test_an_image_without_symbols(tmp_path: Path) -> None:
    path = link(tmp_path)
    run(CROSS + "strip", path)
    for action in (patch_image, scan):
        with pytest.raises(ScpatchError) as caught:
            action(path)
        assert caught.value.code == "SCP222"


def test_an_image_without_trampolines(tmp_path: Path) -> None:
    path = link(tmp_path, ".globl _start\nFRAME _start\nCALL _start\nLEAVE _start\n")
    was = path.read_bytes()
    assert not patch_image(path).outputs
    assert path.read_bytes() == was


def test_an_image_without_comment(tmp_path: Path) -> None:
    """It gets one, behind all that is loaded."""
    path = link(tmp_path)
    run(CROSS + "strip", "-R", ".comment", "-K", "__SCT__x", "-K", "_start", path)
    new = patched(path)
    assert segments(new) == segments(path)
    assert scan(new).strategies == ("paca",)
    assert proof(path, new).errors == ()
    assert sections(new)[-1].name == ".comment"


def test_what_is_loaded_does_not_move(tmp_path: Path) -> None:
    """A segment that reaches over .comment, which no linker makes."""
    path = link(tmp_path)
    data = bytearray(path.read_bytes())
    start = int.from_bytes(data[32:40], "little")
    data[start + 32 : start + 40] = (section(path, ".comment").offset + 64).to_bytes(8, "little")
    path.write_bytes(data)
    with pytest.raises(ScpatchError) as caught:
        patch_image(path)
    assert caught.value.code == "SCP224"
    assert path.read_bytes() == data


@pytest.mark.parametrize("how", ["exec", "pie"])
@pytest.mark.parametrize(
    "options",
    [Options("callsite"), Options("localentry"), Options("livepatch-stack"), EMITTING],
    ids=str,
)
def test_what_needs_room_takes_no_image(tmp_path: Path, how: str, options: Options) -> None:
    path = link(tmp_path, SOURCE, how)
    with pytest.raises(ScpatchError) as caught:
        plan_file(path, options)
    assert caught.value.code == "SCP104"


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("exec", "ET_EXEC) ppc64le"),
        ("pie", "ET_DYN) ppc64le"),
        ("big-endian", "ET_EXEC) ppc64"),
        ("big-endian pie", "ET_DYN) ppc64"),
    ],
)
def test_the_difference(
    tmp_path: Path, how: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = link(tmp_path, SOURCE, how)
    run = read(["diff", str(path), str(patched(path)), "--format", "plain", "-U", "0"])
    assert run is not None
    assert run() == 1
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines[0][4] == f"linked image ({kind} ELFv2"
    code = [line for line in lines if line[0] == "code"]
    assert [(line[2], line[5], line[9]) for line in code] == [
        ("*", "60000000", "ld r2,16(r13)")
    ] * 3
    assert {line[2] for line in lines if line[0] == "section"} >= {".text", ".comment"}
    with pytest.raises(ScpatchError) as caught:
        scpatch.diff(path, tmp_path / "x.o")
    assert caught.value.code == "SCP104"


def test_the_offset_of_another_kernel(tmp_path: Path) -> None:
    new = patched(link(tmp_path))
    with pytest.raises(ScpatchError) as caught:
        patch_image(new, 8)
    assert caught.value.code == "SCP223"


def test_a_damaged_program_header_table(tmp_path: Path) -> None:
    for field, value, message in ((54, 32, "e_phentsize is 32"), (33, 0xFF, "reaches to")):
        path = link(tmp_path)
        data = bytearray(path.read_bytes())
        data[field] = value
        path.write_bytes(data)
        with pytest.raises(ScpatchError, match=message) as caught:
            patch_image(path)
        assert caught.value.code == "SCP107"
