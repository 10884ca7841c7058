"""Every form of a right call site passes, and its unpatched form fails with the right reason."""

from dataclasses import replace
from pathlib import Path

import pytest

from scpatch.errors import ScpatchError
from scpatch.verifier.execute import execute
from scpatch.verifier.tools import find_tools
from tests.verifier.execute.support import (
    STUB,
    TARGET,
    TRAMPOLINE,
    assemble,
    labels,
    readelf,
    run,
    run_one,
    site_at,
)

UNPATCHED = f"""
        .text
caller: nop
site:   bl {TARGET}
        nop
        nop
"""
BY_STUB = """
        .text
caller: nop
site:   bl stub
        ld 2, 24(1)
        nop
"""
LOST = "the TOC pointer that the target left"


def test_an_unpatched_site_loses_r2(tmp_path: Path) -> None:
    outcome = run_one(tmp_path, UNPATCHED + TRAMPOLINE)
    assert outcome.reached
    assert not outcome.passed
    (reason,) = outcome.reasons
    assert reason.startswith("r2 is 0x2d02dead0202 after the call instead of 0x")
    assert reason.endswith(LOST)


def test_a_stub_keeps_r2(tmp_path: Path) -> None:
    outcome = run_one(tmp_path, BY_STUB + STUB + TRAMPOLINE)
    assert outcome.reasons == ()
    assert outcome.reached
    assert outcome.passed


def test_a_caller_that_has_saved_r2_needs_only_the_restore(tmp_path: Path) -> None:
    source = UNPATCHED.replace("nop\n        nop", "ld 2, 24(1)\n        nop") + TRAMPOLINE
    assert run_one(tmp_path, source, saved=True).passed
    (reason,) = run_one(tmp_path, source, saved=False).reasons
    assert reason.endswith("the old value of 24(r1): nobody has saved r2 there")


THUNK = f"""
        .text
caller: nop
site:   b thunk
        mr 3, 4
        nop
thunk:  std 2, 24(1)
        bl {TARGET}
        ld 2, 24(1)
        b site + 4
"""


def test_a_thunk_keeps_r2(tmp_path: Path) -> None:
    assert run_one(tmp_path, THUNK + TRAMPOLINE, length=4).passed
    no_nop = f".text\nsite: bl {TARGET}\n mr 3, 4\n"
    (reason,) = run_one(tmp_path, no_nop + TRAMPOLINE, length=4).reasons
    assert reason.endswith(LOST)


def test_the_linker_makes_the_stub_for_a_marked_trampoline(tmp_path: Path) -> None:
    # The trampoline is in another section: GNU ld makes no stub within a section.
    far = f"""
        .section .text.far, "ax"
        .globl {TARGET}
        .type {TARGET}, @function
{TARGET}: .localentry {TARGET}, 1
        blr
"""
    outcome = run_one(tmp_path, UNPATCHED + far)
    assert outcome.passed
    assert outcome.site.trampoline_other == 1 << 5


def test_a_marked_trampoline_and_no_nop_is_what_the_linker_refuses(tmp_path: Path) -> None:
    far = f"""
        .section .text.far, "ax"
        .globl {TARGET}
        .type {TARGET}, @function
{TARGET}: .localentry {TARGET}, 1
        blr
"""
    with pytest.raises(ScpatchError) as error:
        run_one(tmp_path, BY_STUB + STUB + far)
    assert error.value.code == "SCP302"
    assert "call to `__SCT__x' lacks nop" in error.value.message
    assert ".text+0x14" in error.value.message
    assert "--no-run" in error.value.hint


def test_the_caller_goes_on_at_the_trampoline(tmp_path: Path) -> None:
    """A call that does not return may be the last code before the trampoline."""
    last = ".text\nsite: bl stub\n ld 2, 24(1)\n"
    stub = STUB.replace(".text", ".text 1")
    outcome = run_one(tmp_path, last + TRAMPOLINE + stub)
    assert outcome.site.resume == outcome.site.trampoline_offset
    assert (outcome.passed, outcome.reached) == (True, True)
    (reason,) = run_one(tmp_path, last + TRAMPOLINE + stub.replace("std 2, 24(1)", "nop")).reasons
    assert reason.endswith("the old value of 24(r1): nobody has saved r2 there")


def test_the_loader_makes_the_stub_for_an_undefined_trampoline(tmp_path: Path) -> None:
    assert run_one(tmp_path, UNPATCHED, loader=True).passed
    (reason,) = run_one(tmp_path, UNPATCHED, loader=False).reasons
    assert reason.endswith(LOST)
    # The loader refuses a call that has its restore already ("Expected nop after call").
    outcome = run_one(tmp_path, UNPATCHED.replace("nop\n        nop", "ld 2, 24(1)"), loader=True)
    assert outcome.reasons == (
        "the module loader wants a nop after the call and refuses 0xe8410018",
    )


def test_a_module_may_have_sibling_calls_beside_loader_sites(tmp_path: Path) -> None:
    assert run_one(tmp_path, UNPATCHED + f"        b {TARGET}\n", loader=True).passed


def test_a_stub_may_go_to_an_undefined_trampoline(tmp_path: Path) -> None:
    assert run_one(tmp_path, BY_STUB + STUB).passed


def test_loader_sites_and_stubs_of_one_undefined_trampoline(tmp_path: Path) -> None:
    path = assemble(tmp_path, BY_STUB + STUB + f"plain: bl {TARGET}\n nop\n nop\n")
    sites = [
        site_at(path, "plain", loader=True),
        site_at(path, "site"),
        site_at(path, "plain", loader=False),
    ]
    assert [outcome.passed for outcome in run(path, *sites)] == [True, True, False]


def test_the_restore_may_be_wanted_in_the_middle_of_a_call_to_a_local_entry(tmp_path: Path) -> None:
    """The trampoline has a global entry that would set r2 from r12: calls must not use it."""
    entry = f"""
        .text
        .globl {TARGET}
        .type {TARGET}, @function
{TARGET}:
0:      li 2, 0
        nop
        .localentry {TARGET}, . - {TARGET}
        blr
"""
    outcome = run_one(tmp_path, BY_STUB + STUB + entry)
    assert outcome.site.trampoline_other == 3 << 5
    assert outcome.passed
    # Through the global entry: r12 is not its address.
    wrong = BY_STUB + STUB.replace(f"b {TARGET}", "b 0f") + entry
    reasons = run_one(tmp_path, wrong).reasons
    assert reasons[0].startswith("r2 changed from 0x")
    assert reasons[0].endswith("on the way to the target")


def test_a_local_trampoline(tmp_path: Path) -> None:
    source = BY_STUB + STUB + TRAMPOLINE.replace(f".globl {TARGET}", "")
    path = assemble(tmp_path, source)
    assert "SECTION" in readelf("-sW", path)
    assert run(path, site_at(path))[0].passed


SECTION = """
        .section {name}, {flags}
site_{n}: bl stub_{n}
        ld 2, 24(1)
        nop
stub_{n}: std 2, 24(1)
        b __SCT__x
bad_{n}: bl __SCT__x
        nop
        nop
"""


def test_sections_of_any_name(tmp_path: Path) -> None:
    names = [".text", ".init.text", ".text.unlikely", ".sched.text", "x", ".ref.text"]
    names += [".text.a_name_too_long_for_one_line_of_the_map", ".fixup", "with(brackets)"]
    parts = [SECTION.format(name=f'"{name}"', flags='"ax"', n=n) for n, name in enumerate(names)]
    path = assemble(tmp_path, "".join(parts) + TRAMPOLINE)
    good = [site_at(path, f"site_{n}") for n in range(len(names))]
    bad = [site_at(path, f"bad_{n}") for n in range(len(names))]
    assert [site.section_name for site in good] == names
    assert [outcome.passed for outcome in run(path, *good, *bad)] == [True] * 9 + [False] * 9


def test_sections_of_the_same_name_keep_their_order(tmp_path: Path) -> None:
    """The third site differs from the others: a mix-up would show."""
    parts = [
        SECTION.format(name=".text.same", flags=f'"axG", @progbits, group{n}, comdat', n=n)
        for n in range(5)
    ]
    parts[2] = parts[2].replace("std 2, 24(1)", "nop")
    path = assemble(tmp_path, "".join(parts) + TRAMPOLINE)
    sites = [site_at(path, f"site_{n}") for n in range(5)]
    assert len({site.section for site in sites}) == 5
    assert [outcome.passed for outcome in run(path, *sites)] == [True, True, False, True, True]


def test_more_sections_than_the_elf_header_can_count(tmp_path: Path) -> None:
    """Past 65,279 the number, and the index of the name table, are in section header 0."""
    many = "".join(f'.section .text.{n}, "ax"\nnop\n' for n in range(65_400))
    path = assemble(
        tmp_path, many + SECTION.format(name=".text.last", flags='"ax"', n=0) + TRAMPOLINE
    )
    good, bad = site_at(path, "site_0"), site_at(path, "bad_0")
    assert good.section > 65_279
    assert [outcome.passed for outcome in run(path, good, bad)] == [True, False]


def test_debug_sections_and_undefined_symbols_do_no_harm(tmp_path: Path) -> None:
    extra = """
        bl printk
        nop
        .section .debug_info, "", @progbits
        .quad printk
        .data
        .quad nowhere
"""
    assert run_one(tmp_path, BY_STUB + extra + STUB + TRAMPOLINE).passed


def test_neighbouring_sites_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Each site starts where the site before it ends."""
    calls = "".join(f"site_{n}: bl stub\n ld 2, 24(1)\n" for n in range(4))
    path = assemble(tmp_path, f".text\n{calls} nop\n{STUB}{TRAMPOLINE}")
    sites = [site_at(path, f"site_{n}") for n in range(4)]
    assert all(outcome.passed for outcome in run(path, *sites))
    assert run(path, *sites, *reversed(sites)) == [*run(path, *sites), *run(path, *sites[::-1])]


def test_many_sites_are_more_than_one_process(tmp_path: Path) -> None:
    calls = ""
    for n in range(300):
        stub = "nop" if n % 7 == 3 else "std 2, 24(1)"
        calls += f"site_{n}: bl stub_{n}\n ld 2, 24(1)\n nop\nstub_{n}: {stub}\n b {TARGET}\n"
    path = assemble(tmp_path, f".text\n{calls}{TRAMPOLINE}")
    first, symbols = site_at(path, "site_0"), labels(path)
    offsets = [symbols[f"site_{n}"].value for n in range(300)]
    sites = [replace(first, offset=offset, resume=offset + 8) for offset in offsets]
    assert [outcome.passed for outcome in run(path, *sites)] == [n % 7 != 3 for n in range(300)]


def test_no_sites(tmp_path: Path) -> None:
    assert run(assemble(tmp_path, TRAMPOLINE)) == []


def test_the_time_limit_is_the_callers(tmp_path: Path) -> None:
    path = assemble(tmp_path, ".text\nsite: b .\n nop\n nop\n" + TRAMPOLINE)
    (outcome,) = execute(path, [site_at(path)], find_tools(), limit=0.05)
    assert outcome.reasons[0].startswith("control did not come back in 0.05 s of processor time")


@pytest.mark.parametrize("name", ["a b.o", "-x.o", "ä.o", "x'\"$.o"])
def test_a_file_name_of_any_kind(tmp_path: Path, name: str) -> None:
    path = assemble(tmp_path, BY_STUB + STUB + TRAMPOLINE)
    site = site_at(path)
    other = path.rename(tmp_path / name)
    assert run(other, site)[0].passed
