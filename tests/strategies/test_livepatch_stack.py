"""`--strategy livepatch-stack`: what becomes of trampolines and calls, as other tools read it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from scpatch.elf.encoding import BIG, LITTLE, Encoding
from scpatch.elf.reader import ElfFile
from scpatch.errors import ScpatchError
from scpatch.linux.offsets import Offsets
from scpatch.report.forms import print_report
from scpatch.report.rewrite import RewriteReport
from scpatch.rewriter import plan_file
from scpatch.sites.actions import Common
from scpatch.strategies.livepatch_stack import KEEPS, Kept
from scpatch.strategies.livepatch_stack import stack_code as livepatch
from tests import elfwriter as ew
from tests.report.support import schema
from tests.strategies.livepatch_support import (
    BCTR,
    CODE,
    OFFSETS,
    of_the_thread,
    options,
    rewritten,
    trampoline,
)
from tests.tools import (
    CROSS,
    FIXTURES,
    LD,
    LLD,
    ROOT,
    B,
    code,
    relocations,
    run,
    scan_file,
    sections,
    states,
    symbol,
    symbols,
)

Assemble = Callable[..., Path]

CALLER = "FRAME f\nCALL __SCT__x\nLEAVE f\n"


def reference(assemble: Assemble) -> list[int]:
    """The code, assembled by GNU as."""
    return code(assemble(CODE, "reference.o"))


def changed(before: Path, after: Path, name: str = ".text") -> dict[int, tuple[int, int]]:
    """The old words that differ: by section offset, before and after."""
    pairs = enumerate(zip(code(before, name), code(after, name), strict=False))
    return {4 * at: (old, new) for at, (old, new) in pairs if old != new}


@pytest.mark.parametrize("form", [trampoline, of_the_thread])
def test_the_way_out_leads_by_the_code(assemble: Assemble, form: Callable[[], str]) -> None:
    path = assemble(CALLER + form())
    new = rewritten(path)
    before, after = code(path), code(new)
    (exit_,) = (4 * at for at, word in enumerate(before) if word == BCTR)
    start = 4 * len(before)
    assert changed(path, new) == {exit_: (BCTR, B | start - exit_)}
    assert after[len(before) :] == reference(assemble)
    assert relocations(new) == relocations(path)
    (added,) = symbols(new)[len(symbols(path)) :]
    assert re.fullmatch(r"r2lps\.[0-9a-f]{12}", added.name)
    assert (added.value, added.size, added.type) == (start, 96, "FUNC")
    assert (added.bind, added.visibility, added.other) == ("WEAK", "HIDDEN", "")


def test_what_the_plan_tells(assemble: Assemble) -> None:
    path = assemble(CALLER + trampoline())
    (entry,) = plan_file(path, options()).objects
    (site,) = entry.plan.sites
    assert (site.state, site.detail) == (Kept.TRAMPOLINE, KEEPS)
    (edit,) = entry.plan.trampolines
    assert (edit.name, edit.section_name) == ("__SCT__x", ".text")
    assert edit.offset == symbol(path, "__SCT__x").value
    (stub,) = entry.plan.stubs
    assert (stub.trampoline, stub.sites, len(stub.code)) == ("", 1, 96)


def test_one_copy_serves_a_section(assemble: Assemble) -> None:
    far = '.section .text.far, "ax"\n' + trampoline("__SCT__z")
    path = assemble(CALLER + trampoline() + of_the_thread("__SCT__y") + far)
    new = rewritten(path)
    words = reference(assemble)
    assert len(changed(path, new)) == 2
    assert len(changed(path, new, ".text.far")) == 1
    for name in (".text", ".text.far"):
        assert code(new, name)[len(code(path, name)) :] == words
    assert len([symbol for symbol in symbols(new) if symbol.name.startswith("r2lps.")]) == 2


def test_code_that_runs_off_the_end(assemble: Assemble) -> None:
    path = assemble(trampoline() + "mr 3, 4\n")
    assert code(rewritten(path))[len(code(path)) :] == [B | 4 + 96, *reference(assemble)]


def test_a_section_without_relocations(assemble: Assemble) -> None:
    path = assemble("FUNC __SCT__x\n ld 12, 0(3)\n mtctr 12\n bctr\nEND __SCT__x\n")
    assert not [section for section in sections(path) if section.name == ".rela.text"]
    assert code(rewritten(path))[3:] == reference(assemble)


def test_two_names_for_one_trampoline(assemble: Assemble) -> None:
    alias = (
        ".globl __SCT__y\n.type __SCT__y, @function\n.set __SCT__y, __SCT__x\n.size __SCT__y, 36\n"
    )
    path = assemble("FRAME f\nCALL __SCT__y\nLEAVE f\n" + trampoline() + alias)
    assert len(changed(path, rewritten(path))) == 1


def test_a_second_run_changes_nothing(assemble: Assemble) -> None:
    new = rewritten(assemble(CALLER + trampoline() + of_the_thread("__SCT__y")))
    for offsets in (OFFSETS, Offsets()):
        plan = plan_file(new, options(offsets))
        assert not plan.outputs
        assert not plan.objects[0].plan.trampolines
    assert states(new) == {"f": ["trampoline"]}
    assert scan_file(new).strategies == ("livepatch-stack",)


def test_local_names_may_come_twice(assemble: Assemble, tmp_path: Path) -> None:
    """Of two trampolines of the same name one keeps r2, by its place in the merged section."""
    call = "FRAME {}\n bl __SCT__x\n nop\nLEAVE {}\n"
    first = assemble(call.format("f", "f") + trampoline(scope=".local"), "first.o")
    other = assemble(call.format("g", "g") + trampoline(scope=".local"), "other.o")
    run(LD, "-r", "-o", tmp_path / "merged.o", rewritten(first), other)
    assert states(tmp_path / "merged.o") == {"f": ["trampoline"], "g": ["rewrite"]}
    again = rewritten(tmp_path / "merged.o")
    assert states(again) == {"f": ["trampoline"], "g": ["trampoline"]}


@pytest.mark.parametrize("linker", [LD, LLD])
def test_merged_by_a_linker(assemble: Assemble, tmp_path: Path, linker: str) -> None:
    ones = [
        rewritten(assemble(source + trampoline(name), f"{name}.o"))
        for name, source in (("__SCT__x", CALLER), ("__SCT__y", ""))
    ]
    run(linker, "-r", "-o", tmp_path / "merged.o", *ones)
    assert states(tmp_path / "merged.o") == {"f": ["trampoline"]}
    assert not plan_file(tmp_path / "merged.o", options()).outputs


@pytest.mark.parametrize(
    "call",
    ["bl __SCT__x\n nop", "bl __SCT__x\n mr 3, 4", "b __SCT__x", "std 2, 24(1)\nCALL __SCT__x"],
)
def test_calls_that_the_trampoline_makes_right(assemble: Assemble, call: str) -> None:
    path = assemble(f"FRAME f\n{call}\nLEAVE f\n{trampoline()}")
    for no_nop in ("refuse", "thunk"):
        assert states(rewritten(path, no_nop=no_nop))["f"] == ["trampoline"]
    assert len(changed(path, rewritten(path))) == 1


@pytest.mark.parametrize(
    ("call", "want"),
    [
        ("bl __SCT__x\n ld 2, 24(1)", "done"),
        ("bl __SCT__x + 12\n nop", "refused SCP205"),
        ("bl __SCT__x@notoc", "notoc"),
        ("beq __SCT__x", "refused SCP209"),
    ],
)
def test_calls_that_stay_what_they_are(assemble: Assemble, call: str, want: str) -> None:
    path = assemble(f"FRAME f\n{call}\nLEAVE f\n{trampoline()}")
    assert states(rewritten(path))["f"] == [want]


def test_a_resolved_call_of_a_local_trampoline(assemble: Assemble) -> None:
    """With two entry points it may lead to the one that wants r12."""
    bare = "FUNC __SCT__x\n.local __SCT__x\n ld 12, 0(3)\n mtctr 12\n bctr\nEND __SCT__x\n"
    local = bare.replace("FUNC __SCT__x\n.local", ".balign 16\n.local").replace(
        "x\n ld", "x\n.type __SCT__x, @function\n__SCT__x:\n ld"
    )
    path = assemble("FRAME f\n bl __SCT__x\n nop\nLEAVE f\n" + local)
    assert states(path) == {"f": ["rewrite"]}
    assert states(rewritten(path)) == {"f": ["trampoline"]}


def test_a_trampoline_of_another_object(assemble: Assemble) -> None:
    """Nothing changes but for the note, which says what the call depends on."""
    path = assemble(CALLER)
    new = rewritten(path, Offsets())
    assert changed(path, new) == {}
    assert (relocations(new), symbols(new)) == (relocations(path), symbols(path))
    (site,) = scan_file(new).sites
    assert site.state is Kept.TRAMPOLINE
    assert site.detail == "right once the object that defines the trampoline is rewritten as well"
    assert not plan_file(new, options()).outputs


def test_in_a_module_undefined_ones_are_the_loaders(assemble: Assemble) -> None:
    module = '.section .gnu.linkonce.this_module, "aw"\n.quad 0\n.text\n'
    path = assemble(f"FRAME f\nCALL __SCT__x\nCALL __SCT__k\nLEAVE f\n{trampoline()}{module}")
    assert states(rewritten(path)) == {"f": ["trampoline", "loader"]}
    alone = assemble(f"{CALLER}{module}", "alone.ko")
    assert not plan_file(alone, options()).outputs


def test_a_marked_trampoline_stays_the_linkers(assemble: Assemble) -> None:
    marked = trampoline().replace(".localentry __SCT__x, .-__SCT__x", ".localentry __SCT__x, 1")
    path = assemble(CALLER + marked)
    assert not plan_file(path, options()).outputs
    assert states(path) == {"f": ["linker"]}


REFUSED = {
    "blr": ("SCP230", "FUNC __SCT__x\n blr\nEND __SCT__x\n"),
    "b": ("SCP230", "FUNC __SCT__x\n b elsewhere\nEND __SCT__x\n"),
    "no size": ("SCP230", "FUNC __SCT__x\n mtctr 12\n bctr\n"),
    "no mtctr": ("SCP231", trampoline(slow="nop\n bctr")),
    "mtctr r11": ("SCP231", trampoline(slow="mtctr 11\n bctr")),
    "first": ("SCP231", "FUNC __SCT__x\n bctr\nEND __SCT__x\n"),
    "bctrl": ("SCP231", trampoline(slow="mtctr 12\n bctrl\n mtctr 12\n bctr")),
    "beqctr": ("SCP231", trampoline(slow="mtctr 12\n beqctr\n mtctr 12\n bctr")),
    "bctar": ("SCP231", trampoline(slow="mtctr 12\n bctar 20, 0")),
    "bl": ("SCP231", trampoline(slow="bl elsewhere\n mtctr 12\n bctr")),
    "mtlr": ("SCP231", trampoline(slow="mtlr 0\n mtctr 12\n bctr")),
    "ld r2": ("SCP231", trampoline(slow="ld 2, 16(13)\n mtctr 12\n bctr")),
    "stdu": ("SCP231", trampoline(slow="stdu 1, -32(1)\n mtctr 12\n bctr")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_trampolines_that_are_not_understood(assemble: Assemble, name: str) -> None:
    """Refused with the calls; without calls there is nothing else to refuse than the file."""
    wanted, source = REFUSED[name]
    path = assemble(CALLER + source)
    (site,) = plan_file(path, options()).objects[0].plan.sites
    assert (site.state, site.code) == (Common.REFUSED, wanted)
    assert "__SCT__x" in site.detail
    assert code(rewritten(path)) == code(path)
    with pytest.raises(ScpatchError) as caught:
        plan_file(assemble(source, "alone.o"), options())
    assert caught.value.code == wanted
    assert "__SCT__x" in caught.value.message


def test_a_trampoline_in_data(assemble: Assemble) -> None:
    source = '.section .bss, "aw", @nobits\nFUNC __SCT__x\n.zero 8\nEND __SCT__x\n'
    path = assemble(CALLER + source)
    (site,) = plan_file(path, options()).objects[0].plan.sites
    assert (site.state, site.code) == (Common.REFUSED, "SCP246")
    assert code(rewritten(path)) == code(path)


def test_others_are_changed_all_the_same(assemble: Assemble) -> None:
    path = assemble(
        "FRAME f\nCALL __SCT__x\nCALL __SCT__y\nLEAVE f\n"
        + trampoline()
        + "FUNC __SCT__y\n blr\nEND __SCT__y\n"
    )
    assert len(changed(path, rewritten(path))) == 1
    assert states(rewritten(path)) == {"f": ["trampoline", "rewrite"]}


@pytest.mark.parametrize("data", [".long 0x4e800420", ".long 0x48000060", ".quad elsewhere"])
def test_data_in_a_trampoline(assemble: Assemble, data: str) -> None:
    """A word behind the code that looks like a `bctr` is not known from one; a relocated word is
    never one."""
    source = trampoline().replace(".long .Lslot__SCT__x - .", data)
    path = assemble(CALLER + source)
    if data.endswith("0x4e800420"):
        (site,) = plan_file(path, options()).objects[0].plan.sites
        assert site.code == "SCP231"
    elif data.endswith("0x48000060"):
        with pytest.raises(ScpatchError) as caught:
            plan_file(path, options())
        assert caught.value.code == "SCP243"
    else:
        assert len(changed(path, rewritten(path))) == 1


@pytest.mark.parametrize(
    ("offsets", "wanted"),
    [
        (Offsets(), "SCP115"),
        (Offsets(paca_thread_info=2312), "SCP115"),
        (Offsets(livepatch_sp=16), "SCP115"),
        (OFFSETS._replace(paca_thread_info=2316), "SCP233"),
        (OFFSETS._replace(paca_thread_info=0x8000), "SCP233"),
        (OFFSETS._replace(livepatch_sp=20), "SCP233"),
    ],
)
def test_offsets_of_no_use(assemble: Assemble, offsets: Offsets, wanted: str) -> None:
    path = assemble(CALLER + trampoline())
    with pytest.raises(ScpatchError) as caught:
        plan_file(path, options(offsets))
    assert caught.value.code == wanted
    assert not plan_file(assemble(CALLER, "y.o"), options(offsets)).objects[0].plan.trampolines


@pytest.mark.parametrize("field", ["paca_thread_info", "livepatch_sp"])
def test_the_offsets_of_another_kernel(assemble: Assemble, field: str) -> None:
    new = rewritten(assemble(CALLER + trampoline()))
    with pytest.raises(ScpatchError) as caught:
        plan_file(new, options(OFFSETS._replace(**{field: 32})))
    assert caught.value.code == "SCP232"


@pytest.mark.parametrize("encoding", [LITTLE, BIG], ids=["little", "big"])
@pytest.mark.parametrize("thread_info", [0, 8, 2312, 0x7FF8])
@pytest.mark.parametrize("livepatch_sp", [0, 16, 0x7FF8])
def test_the_code_is_known_again(encoding: Encoding, thread_info: int, livepatch_sp: int) -> None:
    offsets = Offsets(paca_thread_info=thread_info, livepatch_sp=livepatch_sp)
    words = encoding.pack_words(0, 0, *livepatch.code(offsets))
    assert len(words) == 8 + livepatch.SIZE
    assert livepatch.read_code(encoding, memoryview(words), 8) == offsets
    for at in range(8, len(words), 4):
        other = bytearray(words)
        other[at + 3] ^= 1
        assert livepatch.read_code(encoding, memoryview(other), 8) is None
    assert livepatch.read_code(encoding, memoryview(words[:-4]), 8) is None
    assert livepatch.read_code(encoding, memoryview(words), -8) is None


def test_out_of_reach(tmp_path: Path) -> None:
    size = 1 << 25
    words = ew.words(0x7D8903A6, BCTR)
    elf = ew.Elf(
        sections=[
            ew.Section(
                name=".text",
                flags=ew.SHF_ALLOC | ew.SHF_EXECINSTR,
                data=words + ew.words(0x4E800020) * (size // 4),
                addralign=4,
            )
        ],
        symbols=[
            ew.Symbol(name="__SCT__x", section=".text", value=0, size=8, type=ew.STT_FUNC, bind=1)
        ],
    )
    path = tmp_path / "giant.o"
    path.write_bytes(ew.build(elf))
    with pytest.raises(ScpatchError) as caught:
        plan_file(path, options())
    assert caught.value.code == "SCP204"


@pytest.mark.parametrize("linker", [LD, LLD])
def test_linked(assemble: Assemble, tmp_path: Path, linker: str) -> None:
    """The branch leads to the code in a linked program, too."""
    new = rewritten(assemble(CALLER + trampoline()))
    target = tmp_path / "prog"
    run(linker, "-static", "--entry=f", "-o", target, new)
    listed = run(CROSS + "objdump", "-d", "--no-show-raw-insn", target).stdout
    assert len(re.findall(r"\tb +[0-9a-f]+ <r2lps\.[0-9a-f]{12}>\n", listed)) == 1
    assert "\tbctr\n" not in listed


def scpatch(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scpatch", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_command(assemble: Assemble, tmp_path: Path) -> None:
    path = assemble(CALLER + trampoline())
    header = tmp_path / "asm-offsets.h"
    header.write_text("#define TI_livepatch_sp 16 /* x */\n#define PACA_THREAD_INFO 2312 /* x */\n")
    new = tmp_path / "new.o"
    wanted = ["rewrite", "--strategy", "livepatch-stack", str(path), "-o", str(new)]
    done = scpatch(*wanted)
    assert done.returncode == 1
    assert "PACA_THREAD_INFO is not known" in done.stderr
    assert "--asm-offsets" in done.stderr
    done = scpatch(*wanted, "--asm-offsets", str(header))
    assert done.returncode == 0, done.stderr
    assert "1 trampoline rewritten, 1 kept right by the trampoline, +96 bytes" in done.stderr + (
        done.stdout
    )
    assert changed(path, new)
    again = scpatch("rewrite", new, "-o", tmp_path / "other.o")
    assert again.returncode == 1
    assert "SCP114" in again.stderr


def test_only_noted_members_of_an_archive(assemble: Assemble, tmp_path: Path) -> None:
    archive = tmp_path / "x.a"
    run("ar", "rcD", archive, assemble(CALLER, "a.o"), assemble("FUNC g\n blr\nEND g\n", "b.o"))
    done = scpatch("rewrite", "--strategy", "livepatch-stack", archive)
    assert done.returncode == 0, done.stderr
    assert "strategy recorded in .comment in 1 of 2 members" in done.stdout + done.stderr


def test_fixtures_have_trampolines_without_another_way() -> None:
    counts = Counter(
        site.code for site in plan_file(FIXTURES / "sites.o", options()).objects[0].plan.sites
    )
    assert counts["SCP230"] > 0


def test_each_trampoline_has_a_single_exit(assemble: Assemble) -> None:
    path = assemble(CALLER + trampoline())
    elf = ElfFile(memoryview(path.read_bytes()), str(path))
    for defined in scan_file(path).trampolines:
        slow = livepatch.read_slow_path(elf, defined, frozenset())
        assert len(slow.exits) == 1


def test_the_document(assemble: Assemble, capsys: pytest.CaptureFixture[str]) -> None:
    far = '.section .text.far, "ax"\n' + trampoline("__SCT__z")
    plan = plan_file(assemble(CALLER + trampoline() + far), options())
    print_report(RewriteReport([plan], written=False), "json")
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, schema())
    (entry,) = document["files"][0]["objects"]
    assert [stub["sites"] for stub in entry["stubs"]] == [1, 0]
    assert [edit["name"] for edit in entry["trampolines"]] == ["__SCT__x", "__SCT__z"]
