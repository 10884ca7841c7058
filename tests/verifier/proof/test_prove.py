"""The static proof: what is right has a reason, and whatever else was changed is an error."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from scpatch.verifier.proof import prove
from tests.elfwriter import (
    LD_R2,
    NOP,
    R_PPC64_REL24,
    STB_LOCAL,
    STD_R2,
    B,
    Elf,
    Relocation,
    Section,
    Symbol,
    build,
    section_numbers,
    words,
)
from tests.verifier.proof.support import (
    STUB,
    TRAMPOLINES,
    Change,
    apply,
    assemble,
    calls,
    function,
    prove_change,
    prove_data,
    restored,
    states,
    stub_symbol,
    text,
    with_stub,
)

# Two calls of __SCT__x in need of a stub, one of __SCT__y after the function has saved r2.
SOURCE = TRAMPOLINES + function("""
        .frame
        bl __SCT__x
        nop
        bl __SCT__x
        nop
        std 2, 24(1)
        mtctr 3
        bctrl
        ld 2, 24(1)
        bl __SCT__y
        nop
        bl other
        nop
        .unframe
""")
DATA = """
        .data
        .p2align 3
        .quad __SCT__x, f, 42
"""


@pytest.fixture
def before(tmp_path: Path) -> Elf:
    return assemble(tmp_path, SOURCE + DATA)


def right_change(elf: Elf) -> list[Change]:
    """What `rewrite` is to do with SOURCE."""
    x1, x2, y = calls(elf)
    return [with_stub(elf, [x1, x2]), restored([y])]


def test_the_right_change_is_proven(tmp_path: Path, before: Elf) -> None:
    proof = prove_change(tmp_path, before, *right_change(before))
    assert proof.errors == ()
    assert states(proof.sites) == ["stub", "stub", "saved"]
    assert all(site.right and not site.was_right for site in proof.sites)


def test_a_site_says_where_it_lies_and_why_it_is_right(tmp_path: Path, before: Elf) -> None:
    x1, _, y = calls(before)
    first, _, last = prove_change(tmp_path, before, *right_change(before)).sites
    start = len(text(before))
    assert (first.section_name, first.offset, first.resume) == (".text", x1, x1 + 8)
    assert (first.function, first.function_offset) == ("f", x1)
    assert (first.trampoline, first.trampoline_offset) == ("__SCT__x", 0)
    number = [s.name for s in before.sections].index(".tramp")
    assert first.trampoline_section == section_numbers(before)[number]
    assert first.why == f"saved by {STUB} (.text+{start:#x}), restored at .text+{x1 + 4:#x}"
    assert not first.saved_before
    assert last.why.startswith(f"the function saves r2 itself (.text+{x1 + 16:#x}), restored at")
    assert (last.trampoline, last.trampoline_offset, last.offset) == ("__SCT__y", 4, y)
    assert last.saved_before


def test_an_unchanged_file_has_no_errors_and_wrong_sites(tmp_path: Path, before: Elf) -> None:
    proof = prove_change(tmp_path, before)
    assert proof.errors == ()
    assert states(proof.sites) == ["left", "left", "left"]
    assert not any(site.right or site.was_right for site in proof.sites)


def test_a_second_run_finds_everything_done(tmp_path: Path, before: Elf) -> None:
    after = apply(before, *right_change(before))
    proof = prove_data(tmp_path, build(after), build(after))
    assert proof.errors == ()
    assert states(proof.sites) == ["done", "done", "done"]
    assert all(site.right and site.was_right for site in proof.sites)
    assert [site.saved_before for site in proof.sites] == [False, False, True]


def test_calls_left_alone_are_no_error(tmp_path: Path, before: Elf) -> None:
    proof = prove_change(tmp_path, before, with_stub(before, calls(before)[:1]))
    assert proof.errors == ()
    assert states(proof.sites) == ["stub", "left", "left"]


ENDS = {
    "return": (".unframe", False),
    "padding": (".unframe\n nop\n nop", False),
    "traceback table": (".unframe\n .long 0, 0x12040, 0x80030000", False),
    "call": ("bl other\n nop", True),
    "padding that is branched to": ("cmpdi 3, 0\n beq 1f\n .unframe\n nop\n 1: nop", True),
    "padding with a label": (".unframe\n .globl last\nlast: nop", True),
}


@pytest.mark.parametrize(("end", "runs_on"), ENDS.values(), ids=ENDS)
def test_code_that_runs_on_is_led_over_the_stubs(tmp_path: Path, end: str, runs_on: bool) -> None:
    source = function(f".frame\n bl __SCT__x\n nop\n {end}")
    before = assemble(tmp_path, TRAMPOLINES + source)
    change = with_stub(before, calls(before))
    plain = prove_change(tmp_path, before, change)
    assert any("may run on into the stub" in error for error in plain.errors) is runs_on
    start = len(text(before))
    over = replace(
        change,
        append=words(B | 12) + change.append,
        relocations=[replace(change.relocations[0], offset=start + 8)],
        symbols=[stub_symbol(start + 4)],
    )
    assert prove_change(tmp_path, before, over).errors == ()
    short = replace(over, append=words(B | 8) + change.append)
    assert "no branch over" in prove_change(tmp_path, before, short).errors[0]


def test_an_incomplete_last_word_is_padded_with_zeros(tmp_path: Path) -> None:
    source = TRAMPOLINES + function(".frame\n bl __SCT__x\n nop\n .unframe") + ".byte 7\n"
    before = assemble(tmp_path, source)
    start = len(text(before)) + 3
    change = with_stub(before, calls(before))
    change = replace(
        change,
        append=bytes(3) + change.append,
        relocations=[replace(change.relocations[0], offset=start + 4)],
        symbols=[stub_symbol(start)],
    )
    assert prove_change(tmp_path, before, change).errors == ()
    dirty = replace(change, append=b"\0\0\1" + change.append[3:])
    assert "padding" in prove_change(tmp_path, before, dirty).errors[0]


def test_extended_section_numbers(tmp_path: Path, before: Elf) -> None:
    # In section header 0 the number of sections stands where others have a size.
    more = [Section(name=f".more{number}") for number in range(100)]
    extended = replace(before, extended=True, sections=[*before.sections, *more])
    proof = prove_change(tmp_path, extended, *right_change(extended))
    assert (states(proof.sites), proof.errors) == (["stub", "stub", "saved"], ())


def test_other_trampoline_names(tmp_path: Path) -> None:
    source = function(".frame\n bl my_hook\n nop\n .unframe")
    path = tmp_path / "x.o"
    path.write_bytes(build(assemble(tmp_path, source)))
    assert prove(path, path).sites == ()
    assert states(prove(path, path, ["nothing", "my_*"]).sites) == ["left"]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "not an ELF64 file."),
        (b"\x7fELF", "not an ELF64 file."),
        (b"!<arch>\n", "an archive inside an archive."),
        (build(Elf(machine=62)), "not a ppc64 ELFv2 relocatable object."),
        (build(Elf(flags=1)), "not a ppc64 ELFv2 relocatable object."),
        (build(Elf(type=2)), "not a ppc64 ELFv2 relocatable object."),
    ],
)
def test_a_file_that_is_not_an_object(tmp_path: Path, before: Elf, data: bytes, what: str) -> None:
    good = build(before)
    for pair in ((good, data), (data, good)):
        proof = prove_data(tmp_path, *pair)
        assert (proof.sites, proof.errors) == ((), (what,))


def test_every_truncation_is_an_error(tmp_path: Path, before: Elf) -> None:
    old, new = build(before), build(apply(before, *right_change(before)))
    for size in range(len(new)):
        (error,) = prove_data(tmp_path, old, new[:size]).errors
        header = "not an ELF64 file."
        table = "the section header table is not inside the file."
        assert error == (header if size < 64 else table)


def test_the_proof_loads_nothing_of_the_rewriter() -> None:
    code = (
        "import sys; import scpatch.verifier.proof, scpatch.verifier.objects.second_opinion;"
        "print([m for m in sys.modules if m.startswith('scpatch.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    loaded = set(re.findall(r"scpatch\.(\w+)", done.stdout))
    assert loaded == {"verifier", "errors"}


def test_a_stub_in_the_first_object_is_read_not_believed(tmp_path: Path, before: Elf) -> None:
    x1, x2, _ = calls(before)
    change = with_stub(before, [x1, x2])
    fake = build(apply(before, replace(change, append=words(NOP, B))))
    proof = prove_data(tmp_path, fake, fake)
    assert proof.errors == ()
    assert [site.right for site in proof.sites[:2]] == [False, False]


def test_stubs_in_several_sections(tmp_path: Path) -> None:
    first = function(".frame\n bl __SCT__x\n nop\n .unframe", name="first")
    second = function(".frame\n bl __SCT__x\n nop\n .unframe", name="second")
    second = second.replace(".text\n", '.section .init.text, "ax"\n', 1)
    before = assemble(tmp_path, TRAMPOLINES + first + second)
    start = len(text(before, ".init.text"))
    (site,) = calls(before, ".init.text")
    name = STUB[:-1] + "c"
    other = Change(
        section=".init.text",
        words={site + 4: LD_R2},
        retarget={site: name},
        append=words(STD_R2, B),
        relocations=[Relocation(offset=start + 4, type=R_PPC64_REL24, symbol="__SCT__x")],
        symbols=[stub_symbol(start, name=name, section=".init.text")],
    )
    here = with_stub(before, calls(before))
    assert prove_change(tmp_path, before, here, other).errors == ()
    away = replace(other, retarget={site: STUB})
    proof = prove_change(tmp_path, before, here, away)
    assert any("is in another section" in error for error in proof.errors)
    assert any("no call uses the stub" in error for error in proof.errors)


def test_a_stub_out_of_reach(tmp_path: Path) -> None:
    reach = 1 << 25
    body = function(".frame\n bl __SCT__x\n nop\n .unframe")
    for space, proven in ((reach - 4, True), (reach, False)):
        before = assemble(tmp_path, TRAMPOLINES + body)
        (site,) = calls(before)
        code = next(s for s in before.sections if s.name == ".text")
        data = text(before)
        data += bytes(space - (len(data) - site))
        sections = [replace(s, data=data) if s is code else s for s in before.sections]
        before = replace(before, sections=sections)
        proof = prove_change(tmp_path, before, with_stub(before, [site]))
        assert (proof.errors == ()) is proven


def test_a_local_symbol_table_only(tmp_path: Path) -> None:
    """An object without trampolines, and one without any symbols, are proven when unchanged."""
    code = Section(name=".text", flags=6, addralign=4, data=words(NOP), relocations=[])
    some = Symbol(name="f", section=".text", bind=STB_LOCAL)
    for elf in (Elf(sections=[code]), Elf(sections=[code], symbols=[some]), Elf()):
        data = build(elf)
        assert prove_data(tmp_path, data, data) == prove_data(tmp_path, data, data)
        assert prove_data(tmp_path, data, data).errors == ()
