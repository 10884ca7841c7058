"""What scpatch promises of a file once it is linked (docs/how-it-works.md), by real links.

The program runs right, or `verify IMAGE` says that it would not.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from scpatch.verifier.files import verify_link
from scpatch.verifier.verdict import Verdict
from tests import tools
from tests.awkward import LOCAL, PLAIN
from tests.strategies.localentry_support import CALLER, LINKERS, TRAMPOLINE, link, program
from tests.tools import CROSS, LD, QEMU, assemble, compile_c, rewritten, run

T, L = "__SCT__x", "__SCT__local"
BODY = (
    TRAMPOLINE.format(name=T)
    + CALLER.format(name="stub", call=f"bl {T}\n nop")
    + CALLER.format(name="thunk", call=f"bl {T}\n mr 3,3")
    + CALLER.format(name="saved", call=f"std 2,24(1)\n bl {T}\n nop")
    + CALLER.format(name="resolved", call="bl __SCT__x\n nop").replace("__SCT__x", L)
    + CALLER.format(name="resolved_thunk", call=f"bl {L}\n mr 3,3")
    + f".balign 16\n.type {L},@function\n{L}: b target\n.size {L},4\n"
)
CALLS = ["stub", "thunk", "saved", "resolved", "resolved_thunk"]


def look(image: Path, *objects: Path) -> Verdict:
    return verify_link(objects, image)


def states(verdict: Verdict) -> dict[str, str]:
    return {site.function: site.state for site in verdict.proof.sites}


@pytest.mark.parametrize("linker", LINKERS)
@pytest.mark.parametrize("route", ["directly", "through ld -r", "from an archive"])
def test_a_linked_program_keeps_r2(tmp_path: Path, linker: str, route: str) -> None:
    after = rewritten(assemble(tmp_path, BODY), no_nop="thunk")
    files = [after]
    if route == "through ld -r":
        run(linker, "-r", "-o", tmp_path / "whole.o", after)
        files = [tmp_path / "whole.o"]
    elif route == "from an archive":
        run(CROSS + "ar", "rcs", tmp_path / "all.a", after)
        files = [tmp_path / "all.a"]
    image = link(linker, tmp_path, program(tmp_path, CALLS, []), *files)
    assert run(*QEMU, image, check=False).returncode == 0
    verdict = look(image, *files)
    assert verdict.proven, [site for site in verdict.proof.sites if not site.right]


@pytest.mark.parametrize("linker", LINKERS)
def test_the_same_program_unpatched(tmp_path: Path, linker: str) -> None:
    before = assemble(tmp_path, BODY)
    image = link(linker, tmp_path, program(tmp_path, CALLS, []), before)
    assert run(*QEMU, image, check=False).returncode != 0
    assert not look(image).proven


def test_inline_plt_calls_that_become_calls(tmp_path: Path) -> None:
    """GNU ld makes a `bl` of the `bctrl`, and nops of the save and the restore."""
    source = (
        'extern long __SCT__x(long) __attribute__((longcall, visibility("hidden")));\n'
        "extern long g;\nlong f(long n) { return __SCT__x(n) + g; }\n"
    )
    path = compile_c(tmp_path, source, "-O2")
    assert tools.states(path) == {"f": ["refused SCP211"]}
    rest = "FUNC _start\n blr\nEND _start\nFUNC __SCT__x\n blr\nEND __SCT__x\n"
    rest += ".data\n.globl g\ng: .quad 0\n"
    image = tmp_path / "image"
    run(LD, "-o", image, path, assemble(tmp_path, rest, "rest.o"))
    verdict = look(image)
    assert states(verdict) == {"f": "wrong"}
    assert not verdict.proven


def test_trampolines_that_a_shared_object_lets_others_replace(tmp_path: Path) -> None:
    """A stub has no nop after its branch. GNU ld refuses it, unless all is in one section; lld
    writes a restore over whatever follows the stub, if the trampoline is in the same file."""
    both = PLAIN + "FRAME g\n bl __SCT__y\n nop\nLEAVE g\n"
    for name in ("__SCT__x", "__SCT__y"):
        both += f"FUNC {name}\n blr\nEND {name}\n"
    after = rewritten(assemble(tmp_path, both))
    image = tmp_path / "image.so"
    for linker in LINKERS:
        run(linker, "-shared", "-o", image, after)
        assert set(states(look(image)).values()) == {"wrong"}
        run(linker, "-shared", "-Bsymbolic", "-o", image, after)
        assert states(look(image)) == {"f": "stub", "g": "stub"}


@pytest.mark.parametrize("linker", LINKERS)
def test_a_branch_over_stubs_is_no_call(tmp_path: Path, linker: str) -> None:
    """Also if a trampoline is what follows them."""
    after = rewritten(assemble(tmp_path, PLAIN + "nop\n .long 0x1000000\n .long 0x80000000\n"))
    image = tmp_path / "image"
    start = "FUNC __SCT__x\n blr\nEND __SCT__x\nFUNC _start\n blr\nEND _start\n"
    rest = assemble(tmp_path, start.replace(".balign 16", ""), "rest.o")
    run(linker, "-o", image, after, rest)
    assert look(image, after).proven


def test_a_local_trampoline_beside_others(tmp_path: Path) -> None:
    """Two objects with resolved calls of local trampolines of the same name."""
    first = rewritten(assemble(tmp_path, PLAIN + LOCAL, "first.o"))
    second = rewritten(
        assemble(
            tmp_path,
            PLAIN.replace("FRAME f", "FRAME g").replace("LEAVE f", "LEAVE g") + LOCAL,
            "two.o",
        )
    )
    main = assemble(
        tmp_path, "FUNC _start\n blr\nEND _start\nFUNC target\n blr\nEND target\n", "m.o"
    )
    for linker in LINKERS:
        run(linker, "-o", tmp_path / "image", main, first, second)
        assert states(look(tmp_path / "image", first, second)) == {"f": "stub", "g": "stub"}
