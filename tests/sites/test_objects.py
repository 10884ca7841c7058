"""Every state of a call site and every refusal, from assembly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import elfwriter as ew
from tests.tools import (
    CLANG,
    LD,
    LLD,
    code,
    compile_c,
    relocations,
    rewritten,
    run,
    scan_file,
    states,
)

Assemble = Callable[..., Path]

TRAMPOLINE = "FUNC __SCT__x\n blr\nEND __SCT__x\n"


def only(path: Path, function: str = "f", **choices: object) -> str:
    """The states of the sites in one function."""
    return " ".join(states(path, **choices).get(function, []))


@pytest.mark.parametrize("nop", ["nop", "cror 15, 15, 15", "cror 31, 31, 31"])
def test_the_nops_of_gnu_ld(assemble: Assemble, nop: str) -> None:
    path = assemble(f"FRAME f\n bl __SCT__x\n {nop}\nLEAVE f\n{TRAMPOLINE}")
    assert only(path) == "rewrite"


@pytest.mark.parametrize(
    "word", ["ori 1, 1, 0", "ori 2, 2, 0", "xori 0, 0, 0", "mr 3, 3", "cror 0, 0, 0", "ld 2, 32(1)"]
)
def test_what_looks_like_a_nop(assemble: Assemble, word: str) -> None:
    path = assemble(f"FRAME f\n bl __SCT__x\n {word}\nLEAVE f\n{TRAMPOLINE}")
    assert only(path) == "refused SCP201"
    assert only(path, no_nop="thunk") == "thunk"


def test_a_restore_is_done(assemble: Assemble) -> None:
    path = assemble(f"FRAME f\n bl __SCT__x\n ld 2, 24(1)\nLEAVE f\n{TRAMPOLINE}")
    assert only(path) == "done"


@pytest.mark.parametrize("scope", [".globl", ".weak", ".local", ".hidden"])
def test_the_binding_of_the_trampoline(assemble: Assemble, scope: str) -> None:
    path = assemble(
        f'FRAME f\nCALL __SCT__x\nLEAVE f\n.section .text.t, "ax"\n'
        f"{scope} __SCT__x\n.type __SCT__x, @function\n__SCT__x: blr\n.size __SCT__x, 4\n"
    )
    assert only(path) == "rewrite"


def test_a_trampoline_without_a_type_or_size(assemble: Assemble) -> None:
    path = assemble("FRAME f\nCALL __SCT__x\nLEAVE f\n.globl __SCT__x\n__SCT__x: blr\n")
    assert only(path) == "rewrite"


def test_data_by_the_name_of_a_trampoline(assemble: Assemble) -> None:
    path = assemble(
        "FRAME f\nCALL other\nLEAVE f\n.data\n"
        ".globl __SCT__x\n.type __SCT__x, @object\n__SCT__x: .quad 0\n.size __SCT__x, 8\n"
    )
    assert scan_file(path).trampolines == ()


@pytest.mark.parametrize(
    ("target", "want"),
    [
        ("", "rewrite"),
        ("+8", "rewrite"),  # the local entry point
        ("+4", "refused SCP205"),
        ("+12", "refused SCP205"),
        ("+16", ""),  # the function behind it
    ],
)
def test_section_and_addend(assemble: Assemble, target: str, want: str) -> None:
    """An assembler names a local symbol by its section where nothing is lost by it."""
    path = assemble(
        f'.section .text.t, "ax"\n nop\n.type __SCT__x, @function\n'
        f"__SCT__x: addis 2, 12, 0\n addi 2, 2, 0\n.localentry __SCT__x, 8\n blr\n nop\n"
        f".size __SCT__x, 16\n.Lbehind: blr\n.text\n"
        f"FRAME f\n bl .text.t+4{target}\n nop\nLEAVE f\n"
    )
    assert only(path) == want
    (call,) = [relocation for relocation in relocations(path) if relocation.type == "REL24"]
    assert call.addend == 4 + int(target or "0")


@pytest.mark.parametrize("alias", ["a", "z"])
@pytest.mark.parametrize(("target", "want"), [("", "rewrite"), ("+4", "refused SCP205")])
def test_section_and_addend_where_names_differ_in_size(
    assemble: Assemble, alias: str, target: str, want: str
) -> None:
    """Two names for one place, of which one covers it all; GNU as names a local one by section."""
    path = assemble(
        '.section .text.t, "ax"\n nop\n.type __SCT__m, @function\n__SCT__m:\n'
        f".type __SCT__{alias}, @function\n__SCT__{alias}: b other\n nop\n"
        ".size __SCT__m, 8\n.text\n"
        f"FRAME f\n bl __SCT__m{target}\n nop\nLEAVE f\n"
    )
    assert only(path) == want


def test_an_addend(assemble: Assemble) -> None:
    for addend, want in (("+0", "rewrite"), ("+4", "refused SCP205"), ("-4", "refused SCP205")):
        path = assemble(f"FRAME f\n bl __SCT__x{addend}\n nop\nLEAVE f\n")
        assert only(path) == want


def test_by_section_in_the_callers_own_section(assemble: Assemble) -> None:
    """Linked by `ld -r`, caller and trampoline share a section."""
    path = assemble(
        "FRAME f\nCALL __SCT__x\nLEAVE f\n.local __SCT__x\n.balign 16\n"
        ".type __SCT__x, @function\n__SCT__x: b target\n.size __SCT__x, 4\n"
    )
    assert [site.trampoline for site in scan_file(path).sites] in (["__SCT__x"], [])


def test_undefined(assemble: Assemble) -> None:
    path = assemble("FRAME f\nCALL __SCT__x\nLEAVE f\n")
    assert only(path) == "rewrite"
    assert only(path, undefined="rewrite") == "rewrite"
    assert only(path, undefined="skip") == "loader"


MODULE = '.section .gnu.linkonce.this_module, "aw"\n.quad 0\n.text\n'


def test_in_a_module(assemble: Assemble) -> None:
    path = assemble(f"{MODULE}FRAME f\nCALL __SCT__x\nCALL __SCT__y\nLEAVE f\n{TRAMPOLINE}", "x.ko")
    assert only(path) == "rewrite loader"
    assert only(path, undefined="rewrite") == "rewrite rewrite"
    assert only(path, undefined="skip") == "rewrite loader"


def test_the_loader_needs_a_nop_too(assemble: Assemble) -> None:
    path = assemble(f"{MODULE}FRAME f\n bl __SCT__y\n addi 3, 3, 1\nLEAVE f\n", "x.ko")
    assert only(path) == "refused SCP201"


MARKED = "FUNC __SCT__x\n.localentry __SCT__x, 1\n b target\nEND __SCT__x\n"


def test_st_other_1(assemble: Assemble) -> None:
    path = assemble(f"FRAME f\nCALL __SCT__x\nLEAVE f\n{MARKED}")
    assert only(path) == "linker"


def test_st_other_1_in_a_module(assemble: Assemble) -> None:
    path = assemble(f"{MODULE}FRAME f\nCALL __SCT__x\nLEAVE f\n{MARKED}", "x.ko")
    assert only(path) == "refused SCP208"


def test_st_other_1_without_a_nop(assemble: Assemble) -> None:
    path = assemble(f"FRAME f\n bl __SCT__x\n addi 3, 3, 1\nLEAVE f\n{MARKED}")
    assert only(path) == "refused SCP201"


@pytest.mark.parametrize("kind", ["@notoc", "@notoc\n nop"])
def test_notoc(assemble: Assemble, kind: str) -> None:
    path = assemble(f"FRAME f\n bl __SCT__x{kind}\nLEAVE f\n{TRAMPOLINE}")
    assert only(path) == "notoc"


def test_p9notoc(assemble: Assemble) -> None:
    path = assemble(
        "FRAME f\n .reloc ., R_PPC64_REL24_P9NOTOC, __SCT__x\n .long 0x48000001\nLEAVE f\n"
    )
    assert only(path) == "notoc"


def test_clang_without_a_toc(tmp_path: Path) -> None:
    source = "extern long __SCT__x(long); long f(long a) { return __SCT__x(a) + 1; }"
    path = compile_c(tmp_path, source, "-O2", "-mcpu=pwr10", compiler=CLANG)
    assert only(path) == "notoc"


@pytest.mark.parametrize(
    ("code", "body"),
    [
        ("SCP201", "bl __SCT__x\n addi 3, 3, 1"),
        ("SCP202", "cmpdi 3, 0\n beq 1f\n bl __SCT__x\n1: nop"),
        ("SCP202", "b 1f\n bl __SCT__x\n1: nop"),
        ("SCP202", "bl __SCT__x\n1: nop\n bdnz 1b"),
        ("SCP202", "bl __SCT__x\n .globl inner\ninner: nop"),
        ("SCP202", "bl __SCT__x\n .type inner, @object\ninner: nop"),
        ("SCP202", "bl __SCT__x\n .type inner, @gnu_indirect_function\ninner: nop"),
        ("SCP202", "bl __SCT__x\n1: nop\n .data\n .quad 1b\n .text"),
        ("SCP202", 'bl __SCT__x\n1: nop\n .section .text.a, "ax"\n b 1b\n .text'),
        ("SCP202", 'bl __SCT__x\n1: nop\n .section .text.a, "ax"\n beq 1b\n .text'),
        ("SCP202", 'bl __SCT__x\n1: nop\n2: trap\n .section __ex_table, "a"\n'
         " .long 2b-., 1b-.\n .text"),
        ("SCP202", '2: nop\n bl __SCT__x\n1: nop\n .section __jump_table, "aw"\n'
         " .long 2b-., 1b-.\n .quad 0\n .text"),
        ("SCP240", 'bl __SCT__x\n1: nop\n2: nop\n .section __jump_table, "aw"\n'
         " .long 1b-., 2b-.\n .quad 0\n .text"),
        ("SCP203", "b __SCT__x"),
        ("SCP205", "bl __SCT__x+8\n nop"),
        ("SCP206", "bl __SCT__x\n .reloc ., R_PPC64_ADDR16_LO, other\n nop"),
        ("SCP206", "bl __SCT__x\n .reloc .+2, R_PPC64_ADDR16_LO, other\n nop"),
        ("SCP241", ".reloc ., R_PPC64_REL24, __SCT__x\n bl __SCT__x\n nop"),
        ("SCP241", ".reloc .+2, R_PPC64_ADDR16_LO, other\n bl __SCT__x\n nop"),
        ("SCP209", "beq __SCT__x"),
        ("SCP209", "beql __SCT__x\n nop"),
        ("SCP209", ".reloc ., R_PPC64_REL24, __SCT__x\n bla 0\n nop"),
        ("SCP209", ".reloc ., R_PPC64_REL24, __SCT__x\n nop\n nop"),
        ("SCP209", ".reloc ., R_PPC64_ADDR24, __SCT__x\n bla 0\n nop"),
        ("SCP209", ".reloc ., R_PPC64_REL14, __SCT__x\n bl 0\n nop"),
    ],
)  # fmt: skip
def test_refused(assemble: Assemble, code: str, body: str) -> None:
    path = assemble(f"FRAME f\n {body}\nLEAVE f\n")
    by_function = states(path)
    assert by_function.get("f", []) + by_function.get("inner", []) == [f"refused {code}"]


def test_a_tocsave_on_the_nop_is_taken(assemble: Assemble) -> None:
    path = assemble(
        "FRAME f\n1: nop\n bl __SCT__x\n .reloc ., R_PPC64_TOCSAVE, 1b\n nop\nLEAVE f\n"
    )
    assert only(path) == "rewrite"


def test_the_nop_as_the_target_of_a_neighbour(assemble: Assemble) -> None:
    """Without a relocation, since the assembler knows the distance within a section."""
    path = assemble("FRAME f\n bl __SCT__x\n.Lback: nop\nLEAVE f\nTOC g\n b .Lback\nEND g\n")
    assert only(path) == "refused SCP202"
    path = assemble("FRAME f\n bl __SCT__x\n.Lback: nop\nLEAVE f\nTOC g\n bne .Lback\nEND g\n")
    assert only(path) == "refused SCP202"


@pytest.mark.parametrize("tail", ["", "\n .byte 0", "\n .2byte 0"])
def test_the_section_ends_behind_the_call(assemble: Assemble, tail: str) -> None:
    path = assemble(f'.section .text.end, "ax"\nFRAME f\n bl __SCT__x{tail}\n')
    assert only(path) == "refused SCP207"


def test_a_call_outside_the_section(tmp_path: Path) -> None:
    for offset in (2, 6, 8, 12, 1 << 40):
        text = ew.Section(
            name=".text",
            flags=ew.SHF_ALLOC | ew.SHF_EXECINSTR,
            data=ew.words(ew.BL, ew.NOP),
            addralign=4,
            relocations=[ew.Relocation(offset=offset, type=ew.R_PPC64_REL24, symbol="__SCT__x")],
        )
        symbols = [ew.Symbol(name="__SCT__x", bind=ew.STB_GLOBAL)]
        path = tmp_path / "x.o"
        path.write_bytes(ew.build(ew.Elf(sections=[text], symbols=symbols)))
        (site,) = scan_file(path).sites
        assert site.code in ("SCP207", "SCP209")


def test_a_stub_without_a_restore(assemble: Assemble) -> None:
    """What is left when another tool has put the nop back."""
    path = rewritten(assemble(f"FRAME f\nCALL __SCT__x\nLEAVE f\n{TRAMPOLINE}"))
    data = path.read_bytes()
    restore = (0xE8410018).to_bytes(4, "little")
    assert data.count(restore) == 1
    path.write_bytes(data.replace(restore, (0x60000000).to_bytes(4, "little")))
    assert only(path) == "refused SCP210"


def test_stubs_and_thunks_of_an_earlier_run(assemble: Assemble) -> None:
    path = assemble(f"FRAME f\nCALL __SCT__x\n bl __SCT__x\n addi 3, 3, 1\nLEAVE f\n{TRAMPOLINE}")
    assert only(path, no_nop="thunk") == "rewrite thunk"
    new = rewritten(path, no_nop="thunk")
    assert only(new, no_nop="thunk") == "done done"
    assert only(new) == "done done"
    assert sorted(stub.is_thunk for stub in scan_file(new).stubs) == [False, True]


def test_a_thunk_behind_a_save_outside_of_functions(assemble: Assemble) -> None:
    """`std r2,24(r1); b THUNK` is no stub, though it reads like one: stubs lead to trampolines."""
    path = assemble(f" std 2, 24(1)\n bl __SCT__x\n addi 3, 3, 1\n blr\n{TRAMPOLINE}")
    assert only(path, "", no_nop="thunk") == "thunk"
    assert only(rewritten(path, no_nop="thunk"), "", no_nop="thunk") == "done"


@pytest.mark.parametrize("linker", [LD, LLD])
def test_stubs_after_another_link(assemble: Assemble, tmp_path: Path, linker: str) -> None:
    path = rewritten(assemble(f"FRAME f\nCALL __SCT__x\nLEAVE f\n{TRAMPOLINE}"))
    merged = tmp_path / "merged.o"
    run(linker, "-r", "-o", merged, path)
    assert only(merged) == "done"


def test_names_that_share_their_tails(tmp_path: Path) -> None:
    """`__SCT__x` as the end of a longer name, with no string of its own in the table."""
    text = ew.Section(
        name=".text",
        flags=ew.SHF_ALLOC | ew.SHF_EXECINSTR,
        data=ew.words(ew.BL, ew.NOP, ew.BLR),
        addralign=4,
        relocations=[ew.Relocation(offset=0, type=ew.R_PPC64_REL24, symbol="__SCT__x")],
    )
    marks = ew.Section(name="___ksymtab+__SCT__x", flags=ew.SHF_ALLOC, data=bytes(8))
    symbols = [
        ew.Symbol(name="f", bind=ew.STB_GLOBAL, type=ew.STT_FUNC, section=".text", size=12),
        ew.Symbol(name="__SCT__x", bind=ew.STB_GLOBAL),
    ]
    path = tmp_path / "x.o"
    path.write_bytes(ew.build(ew.Elf(sections=[text, marks], symbols=symbols, shared_strtab=True)))
    assert b"\0__SCT__x" not in path.read_bytes()
    assert only(path) == "rewrite"


def test_a_section_without_symbols(tmp_path: Path) -> None:
    text = ew.Section(
        name=".text",
        flags=ew.SHF_ALLOC | ew.SHF_EXECINSTR,
        data=ew.words(ew.BL, ew.NOP, ew.BLR),
        addralign=4,
        relocations=[ew.Relocation(offset=0, type=ew.R_PPC64_REL24, symbol="__SCT__x")],
    )
    path = tmp_path / "x.o"
    symbols = [ew.Symbol(name="__SCT__x", bind=ew.STB_GLOBAL)]
    path.write_bytes(ew.build(ew.Elf(sections=[text], symbols=symbols)))
    assert states(path) == {"": ["rewrite"]}
    assert scan_file(path).sites[0].place == ".text+0x0"


def test_several_sections(assemble: Assemble) -> None:
    parts = [
        f'.section {name}, "ax"\nFRAME f{number}\nCALL __SCT__x\nLEAVE f{number}\n'
        for number, name in enumerate((".init.text", ".noinstr.text", ".text", ".text.unlikely"))
    ]
    path = assemble("".join(parts) + TRAMPOLINE)
    assert states(path) == {f"f{number}": ["rewrite"] for number in range(4)}


def test_no_site(assemble: Assemble) -> None:
    path = assemble(f"FRAME f\nCALL other\nLEAVE f\n{TRAMPOLINE}")
    scan = scan_file(path)
    assert ([trampoline.name for trampoline in scan.trampolines], scan.sites) == (["__SCT__x"], ())
    assert scan_file(assemble("FRAME f\nCALL other\nLEAVE f\n")).trampolines == ()


@pytest.mark.parametrize(
    ("pattern", "count"),
    [("__SCT__*", 2), ("__SCT__x", 1), ("*x", 1), ("__SCT__[xy]", 2), ("__SCT__?", 2), ("f*", 0),
     ("", 0), ("[", 0), ("\udcff*", 0)],
)  # fmt: skip
def test_patterns(assemble: Assemble, pattern: str, count: int) -> None:
    path = assemble("FRAME f\nCALL __SCT__x\nCALL __SCT__y\nCALL other\nLEAVE f\n")
    assert len(scan_file(path, trampolines=(pattern,)).sites) == count


def test_taken_addresses_are_no_sites(assemble: Assemble) -> None:
    path = assemble(
        f"FRAME f\n addis 3, 2, __SCT__x@toc@ha\n ld 3, __SCT__x@toc@l(3)\nLEAVE f\n{TRAMPOLINE}"
        ".data\n .quad __SCT__x\n .quad __SCT__x-.\n"
    )
    assert scan_file(path).sites == ()


def test_inside_a_comdat_group(assemble: Assemble) -> None:
    path = assemble(
        '.section .text.f, "axG", @progbits, f, comdat\n.weak f\nFRAME f\nCALL __SCT__x\nLEAVE f\n'
    )
    assert only(path) == "rewrite"


LOCAL = ".type __SCT__x, @function\n__SCT__x: b target\n.size __SCT__x, 4\n"


@pytest.mark.parametrize(
    ("call", "want"),
    [
        ("bl __SCT__x\n nop", "rewrite"),
        ("bl __SCT__x\n ld 2, 24(1)", "done"),
        ("b __SCT__x", "refused SCP212"),
        ("beq __SCT__x", "refused SCP212"),
        ("bl other\n nop", ""),
    ],
)
def test_a_call_that_the_assembler_resolved(assemble: Assemble, call: str, want: str) -> None:
    """Caller and local trampoline in one section: `bl` with the distance, and no relocation."""
    path = assemble(f"{LOCAL}FRAME f\n {call}\nLEAVE f\n")
    assert sum(relocation.type == "REL24" for relocation in relocations(path)) == (
        2 if "other" in call else 1
    )
    assert only(path) == want


def test_resolved_calls_of_other_functions_are_none(assemble: Assemble) -> None:
    path = assemble(f"g: blr\n{LOCAL}FRAME f\n bl g\n nop\nLEAVE f\n")
    assert scan_file(path).sites == ()


def test_every_name_as_a_trampoline(assemble: Assemble) -> None:
    """Stubs are none, also where a pattern matches their names."""
    path = assemble(f"FRAME f\nCALL __SCT__x\nLEAVE f\n{TRAMPOLINE}")
    new = rewritten(path, trampolines=("*SCT__*",))
    assert only(new, trampolines=("*SCT__*",)) == "done"
    assert [trampoline.name for trampoline in scan_file(new, trampolines=("*",)).trampolines].count(
        "f"
    ) == 1
    assert not [
        trampoline
        for trampoline in scan_file(new, trampolines=("*",)).trampolines
        if "r2save" in trampoline.name
    ]


def test_padding_before_a_trampoline_is_no_call(assemble: Assemble) -> None:
    """GNU as fills a wide gap with a branch to its end, here the trampoline."""
    path = assemble(f"TOC f\n blr\nEND f\n.balign 128\n{LOCAL}")
    assert code(path)[3:5] == [0x48000000 | (128 - 12), 0x60000000]
    assert scan_file(path).sites == ()
