"""Strategy paca on objects: one word a site, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from scpatch.errors import ScpatchError
from scpatch.linux.offsets import Offsets
from scpatch.rewriter import FilePlan, Options, plan_file, write
from scpatch.verifier.files import verify_files
from scpatch.verifier.options import KernelOffsets, VerifyOptions
from scpatch.verifier.tools import Search
from scpatch.verifier.verdict import Verdict
from tests.tools import (
    CROSS,
    FIXTURES,
    NOP,
    code,
    in_both,
    relocations,
    run,
    scan_file,
    sections,
    states,
)

Assemble = Callable[..., Path]

TRAMPOLINE = "FUNC __SCT__x\n blr\nEND __SCT__x\n"
ONE = f"FRAME f\nCALL __SCT__x\nLEAVE f\n{TRAMPOLINE}"
SAVED = f"FRAME g\n std 2, 24(1)\n CALL __SCT__x\nLEAVE g\n{TRAMPOLINE}"
TARGETED = f"FRAME f\n cmpdi 3, 0\n beq 1f\n bl __SCT__x\n1: nop\nLEAVE f\n{TRAMPOLINE}"
PACATOC = 16
WORD = 0xE84D0000


def paca(path: Path, offset: int | None = PACATOC, **choices: object) -> FilePlan:
    """Rewrites a file in place."""
    offsets = Offsets(paca_toc=offset)
    options = Options("paca", offsets=offsets, **choices)  # type: ignore[arg-type]
    plan = plan_file(path, options)
    write([plan], allow_refused=True)
    return plan


def both(path: Path, offset: int | None = PACATOC, **choices: object) -> tuple[Path, Path]:
    """A file and a rewritten copy of it."""
    new = path.with_name("new-" + path.name)
    new.write_bytes(path.read_bytes())
    paca(new, offset, **choices)
    return path, new


def verdict(before: Path, after: Path, offset: int | None = None) -> Verdict:
    options = VerifyOptions(offsets=KernelOffsets(paca_toc=offset))
    (file,) = verify_files(before, after, options, Search())
    return file


def error(path: Path, offset: int | None = PACATOC) -> ScpatchError:
    was = path.read_bytes()
    with pytest.raises(ScpatchError) as caught:
        paca(path, offset)
    assert path.read_bytes() == was
    return caught.value


@pytest.mark.parametrize("offset", [0, 8, 16, 20, 0x7FFC])
def test_the_nop_alone_changes(assemble: Assemble, offset: int) -> None:
    before, after = both(assemble(ONE + SAVED.replace(TRAMPOLINE, "")), offset)
    old, new = code(before), code(after)
    changed = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
    assert changed == [(NOP, WORD | offset)] * 2
    assert relocations(after) == relocations(before)
    text = run(CROSS + "objdump", "-d", after).stdout
    assert len(re.findall(rf"bl .*\n.*\tld +r2,{offset}\(r13\)", text)) == 2
    grown = {
        one.name
        for one, other in zip(sections(after), sections(before), strict=False)
        if one.size != other.size
    }
    assert grown <= {".shstrtab"}
    assert states(after) == {"f": ["done"], "g": ["done"]}
    assert scan_file(after).strategies == ("paca",)
    assert [site.detail for site in scan_file(after).sites] == [
        f"restored by ld r2,{offset}(r13)"
    ] * 2


def test_every_site_fails_before_and_passes_now(assemble: Assemble) -> None:
    source = (
        ONE
        + SAVED.replace(TRAMPOLINE, "")
        + TARGETED.replace("FRAME f", "FRAME h")
        .replace("LEAVE f", "LEAVE h")
        .replace(TRAMPOLINE, "")
    )
    result = verdict(*both(assemble(source)))
    assert result.proof.errors == ()
    assert [site.state for site in result.proof.sites] == ["paca"] * 3
    assert result.runs is not None
    assert [(run.before.passed, run.after.passed) for run in result.runs] == [(False, True)] * 3
    assert result.proven
    assert result.proof.paca_toc == PACATOC


def test_a_nop_that_is_a_branch_target_and_that_the_kernel_patches(assemble: Assemble) -> None:
    """A static branch there may be anything when the call returns."""
    table = ' .section __jump_table, "aw"\n .long 1b-., 1b-.\n .quad 0\n .text\n'
    path = assemble(TARGETED + table)
    plan = plan_file(path, Options("paca", offsets=Offsets(paca_toc=PACATOC)))
    assert [site.code for site in plan.refused] == ["SCP240"]


@pytest.mark.parametrize(
    "name", in_both("sites.o", "calls-gcc.o", "calls-clang.o", "calls-sections.o", "merged.o")
)
def test_compiled_objects(tmp_path: Path, name: str) -> None:
    copy = tmp_path / Path(name).name
    copy.write_bytes((FIXTURES / name).read_bytes())
    before, after = both(copy)
    result = verdict(before, after, PACATOC)
    assert result.proven, result.proof.errors
    assert "paca" in {site.state for site in result.proof.sites}


def test_a_nop_that_is_a_branch_target(assemble: Assemble) -> None:
    """Whoever comes there has the kernel's r2 anyway; callsite cannot take it."""
    path = assemble(TARGETED)
    assert states(path) == {"f": ["refused SCP202"]}
    assert [site.state for site in paca(path).objects[0].plan.sites] == ["paca"]
    assert states(path) == {"f": ["done"]}


def test_a_branch_target_after_the_call_of_a_marked_trampoline(assemble: Assemble) -> None:
    """The linker makes the restore there, from 24(r1)."""
    path = assemble(f"{TARGETED} .localentry __SCT__x, 1\n")
    assert [site.code for site in paca(path).objects[0].plan.sites] == ["SCP202"]


@pytest.mark.parametrize(
    ("source", "code_"),
    [
        ("FRAME f\n bl __SCT__x\n mr 3, 3\nLEAVE f\n", "SCP201"),
        ("FUNC f\n b __SCT__x\nEND f\n", "SCP203"),
        ("FRAME f\n bl __SCT__x + 4\n nop\nLEAVE f\n", "SCP205"),
        ('FUNC f\n bl __SCT__x\nEND f\n.section .text.t, "ax"\n', "SCP207"),
        ("FUNC f\n beq __SCT__x\n nop\nEND f\n", "SCP209"),
    ],
)
@pytest.mark.parametrize("no_nop", ["refuse", "thunk"])
def test_what_stays_refused(assemble: Assemble, source: str, code_: str, no_nop: str) -> None:
    """Also with `--no-nop thunk`: a thunk would save r2, which this strategy has no code for."""
    path = assemble(source + TRAMPOLINE)
    was = path.read_bytes()
    (site,) = paca(path, no_nop=no_nop).objects[0].plan.sites
    assert (str(site.state), site.code) == ("refused", code_)
    assert path.read_bytes() == was


def test_a_relocation_on_the_nop(assemble: Assemble) -> None:
    source = "FRAME f\n bl __SCT__x\n1: nop\n.reloc 1b, R_PPC64_ADDR16_LO, f\nLEAVE f\n"
    (site,) = paca(assemble(source + TRAMPOLINE)).objects[0].plan.sites
    assert (str(site.state), site.code) == ("refused", "SCP206")


def test_it_is_idempotent(assemble: Assemble) -> None:
    path = assemble(ONE)
    paca(path)
    once = path.read_bytes()
    assert not paca(path).outputs
    assert path.read_bytes() == once


def test_another_offset_is_not_taken_for_done(assemble: Assemble) -> None:
    path = assemble(ONE)
    paca(path, 8)
    raised = error(path, 16)
    assert raised.code == "SCP223"
    assert "from 8(r13), not from 16(r13)" in raised.message
    assert raised.where.startswith(".text+0x14 in f+0x14")


def test_the_offset_is_never_guessed(assemble: Assemble) -> None:
    assert error(assemble(ONE), None).code == "SCP115"


@pytest.mark.parametrize("offset", [-8, 2, 17, 0x8000, 1 << 20])
def test_an_offset_that_no_load_has(assemble: Assemble, offset: int) -> None:
    assert error(assemble(ONE), offset).code == "SCP221"


def test_a_module_is_refused(tmp_path: Path) -> None:
    copy = tmp_path / "module.ko"
    copy.write_bytes((FIXTURES / "module.ko").read_bytes())
    assert error(copy).code == "SCP220"


@pytest.mark.parametrize("name", ["init_module", "cleanup_module"])
def test_an_object_that_a_module_starts_with(assemble: Assemble, name: str) -> None:
    alias = f".globl {name}\n.set {name}, f\n"
    assert error(assemble(ONE + alias)).message == f"a kernel module's object: it defines {name}"
    # To call it, or to have one of a longer name, makes no module.
    path = assemble(f"{ONE}FUNC {name}_x\n bl {name}\n nop\nEND {name}_x\n")
    assert len(paca(path).objects[0].plan.changed) == 1


def test_an_undefined_trampoline_is_taken(assemble: Assemble) -> None:
    """Another object of the image defines it; no linker would see to r2."""
    path = assemble(ONE.replace(TRAMPOLINE, ""))
    before, after = both(path)
    assert [site.state for site in verdict(before, after).proof.sites] == ["paca"]
    left = path.read_bytes()
    assert not paca(path, undefined="skip").outputs
    assert path.read_bytes() == left


def test_a_marked_trampoline_is_left_to_the_linker(assemble: Assemble) -> None:
    marked = "FUNC __SCT__x\n.localentry __SCT__x, 1\n blr\nEND __SCT__x\n"
    path = assemble(ONE.replace(TRAMPOLINE, marked))
    assert not paca(path).outputs
    assert states(path) == {"f": ["linker"]}


def test_other_strategies_do_not_take_the_file(assemble: Assemble) -> None:
    path = assemble(ONE)
    paca(path)
    with pytest.raises(ScpatchError) as caught:
        plan_file(path, Options("callsite"))
    assert caught.value.code == "SCP114"


MODULE = '.section .gnu.linkonce.this_module, "aw"\n.skip 64\n'


def test_such_a_word_in_a_module_is_seen(assemble: Assemble) -> None:
    """An object that was meant for the image, linked into a module."""
    path = assemble(ONE)
    paca(path)
    other = assemble(MODULE, "module.o")
    module = path.with_name("x.ko")
    run(CROSS + "ld", "-r", "-o", module, path, other)
    assert states(module) == {"f": ["refused SCP220"]}
    assert scan_file(module).strategies == ("paca",)
    assert error(module).code == "SCP220"
    with pytest.raises(ScpatchError):
        plan_file(module, Options("callsite"))


def test_an_undefined_trampoline_of_a_module_keeps_it_from_loading(assemble: Assemble) -> None:
    path = assemble(ONE.replace(TRAMPOLINE, "") + MODULE)
    data = bytearray(path.read_bytes())
    at = data.index(NOP.to_bytes(4, "little"))
    data[at : at + 4] = (WORD | PACATOC).to_bytes(4, "little")
    path.write_bytes(data)
    assert states(path) == {"f": ["refused SCP213"]}
