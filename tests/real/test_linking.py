"""Many rewritten objects in one link: GNU ld and lld, -r, --gc-sections, COMDAT groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.real.programs import CALLER, INLINE, MAIN, PRINTED, TARGETS
from tests.tools import (
    CLANG,
    CROSS,
    GCC,
    LD,
    LIBC,
    LLD,
    QEMU,
    compile_c,
    quiet,
    rewrite,
    rewritten,
    run,
    scan_file,
    states,
    symbols,
)

LINKERS = [LD, LLD]
Assemble = Callable[..., Path]


def all_states(path: Path) -> Counter[str]:
    return Counter(state for states_here in states(path).values() for state in states_here)


@pytest.mark.parametrize("linker", LINKERS)
def test_many_objects(tmp_path: Path, linker: str) -> None:
    objects = []
    for number in range(12):
        path = compile_c(tmp_path, CALLER.replace("twice", f"twice{number}"), name=f"{number}.o")
        run(CROSS + "objcopy", "--keep-global-symbol", f"twice{number}", path)
        objects.append(rewritten(path))
    merged = tmp_path / "merged.o"
    quiet(linker, "-r", "-o", merged, *objects)
    assert all_states(merged) == {"done": sum(sum(all_states(part).values()) for part in objects)}


@pytest.mark.parametrize("linker", LINKERS)
def test_the_same_object_twice(tmp_path: Path, linker: str) -> None:
    """Built from the same source in two folders: the stubs' names meet, and either does."""
    source = (
        "extern long __SCT__add(long, long); static long f(long x) { return __SCT__add(x, 1); }"
    )
    source += "static long (*const pointer)(long) __attribute__((used)) = f;"
    objects = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        objects.append(rewritten(compile_c(tmp_path / name, source, "-O2")))
    assert objects[0].read_bytes() == objects[1].read_bytes()
    merged = tmp_path / "merged.o"
    quiet(linker, "-r", "-o", merged, *objects)
    assert all_states(merged) == {"done": 2}
    command = ["-e", "0", "--defsym", "__SCT__add=0x10000000", "-o"]
    run(linker, *command, tmp_path / "x", *objects)


@pytest.mark.parametrize("linker", LINKERS)
@pytest.mark.parametrize("same", [True, False])
def test_comdat_groups(tmp_path: Path, linker: str, same: bool) -> None:
    """Only one copy of a group stays; the stub inside goes with the others."""
    objects = []
    for name in ("one", "two", "three"):
        options = ["-O2" if same or name == "one" else "-O1", "-ffunction-sections"]
        source = f'extern "C" {{ {INLINE % name} }}'
        path = compile_c(tmp_path, source, *options, name=f"{name}.o", language="c++")
        assert all_states(path)["rewrite"] == 2
        objects.append(rewritten(path))
    merged = tmp_path / "merged.o"
    quiet(linker, "-r", "-o", merged, *objects)
    assert set(all_states(merged)) == {"done"}
    main = "long one(long), two(long), three(long); int main(void)"
    main += " { return one(1) + two(2) + three(3) - 21; }"
    rest = [compile_c(tmp_path, main, name="main.o"), compile_c(tmp_path, TARGETS, name="t.o")]
    driver = [*CLANG, "-fuse-ld=lld"] if linker == LLD else GCC
    for parts in (objects, [merged]):
        program = tmp_path / "program"
        run(*driver, "-o", program, *parts, *rest)
        assert run(*QEMU, program).stdout == ""


@pytest.mark.parametrize("driver", [GCC, [*CLANG, "-fuse-ld=lld"]], ids=["ld", "lld"])
def test_unused_sections_are_dropped(tmp_path: Path, driver: list[str]) -> None:
    options = ["-O2", "-ffunction-sections", "-fdata-sections"]
    caller = rewritten(compile_c(tmp_path, CALLER, *options, name="caller.o"), undefined="rewrite")
    unused = "extern long __SCT__add(long, long); long unused(long x) { return __SCT__add(x, x); }"
    more = rewritten(compile_c(tmp_path, unused, *options, name="unused.o"))
    main = compile_c(tmp_path, MAIN, "-O2", name="main.o")
    targets = compile_c(tmp_path, TARGETS, "-O2", name="targets.o")
    program = tmp_path / "program"
    run(*driver, "-Wl,--gc-sections", "-o", program, caller, more, main, targets)
    assert run(*QEMU, program).stdout == PRINTED
    names = [symbol.name for symbol in symbols(program)]
    assert "unused" not in names
    stubs = Counter(name.split(".")[1] for name in names if name.startswith("r2save."))
    assert stubs == {"__SCT__add": 2, "__SCT__half": 1, "__SCT__many": 1}
    assert all(
        symbol.bind == "LOCAL" for symbol in symbols(program) if symbol.name.startswith("r2save.")
    )


@pytest.mark.parametrize("linker", LINKERS)
def test_rewritten_after_ld_r(tmp_path: Path, linker: str) -> None:
    parts = [
        compile_c(tmp_path, CALLER, "-O2", name="a.o"),
        compile_c(tmp_path, TARGETS, "-O2", name="b.o"),
    ]
    merged = tmp_path / "merged.o"
    quiet(linker, "-r", "-o", merged, *parts)
    new = rewritten(merged)
    assert set(all_states(new)) == {"done"}
    program = tmp_path / "program"
    run(*GCC, "-o", program, new, compile_c(tmp_path, MAIN, name="main.o"))
    assert run(*QEMU, program).stdout == PRINTED


def test_local_trampolines_in_two_objects(tmp_path: Path) -> None:
    """Stubs for local trampolines are global, so that a linker never takes one for another."""
    # In another section: within one section, the assembler leaves no relocation to rewrite.
    local = TARGETS.replace(".globl __SCT__", ".local __SCT__")
    local = local.replace(".pushsection .text", '.pushsection .text.t, \\"ax\\"')
    source = CALLER.replace("extern long indirect", "long indirect") + local
    new = rewritten(compile_c(tmp_path, source, "-O1"))
    stubs = [symbol for symbol in symbols(new) if symbol.name.startswith("r2save.")]
    assert stubs
    assert {stub.bind for stub in stubs} == {"GLOBAL"}
    done = run(LD, "-r", "-o", tmp_path / "merged.o", new, new, check=False)
    assert "multiple definition" in done.stderr


LIBC_PATTERNS = ("malloc", "free", "__libc_*", "_IO_*", "__pthread_*", "write", "vfprintf", "qsort")
USES_LIBC = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static int order(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
int main(void) {
        int n[] = { 5, 3, 9, 1 };
        char *text = malloc(100);
        qsort(n, 4, sizeof(int), order);
        snprintf(text, 100, "%d %d %.3f %s", n[0], n[3], strtod("2.5", 0), getenv("NO") ? "" : "-");
        puts(text);
        free(text);
        return fflush(stdout);
}
"""


def test_a_program_with_a_rewritten_c_library(tmp_path: Path) -> None:
    """Some hundred calls inside the C library, of functions taken for trampolines."""
    members = tmp_path / "members"
    members.mkdir()
    run(CROSS + "ar", "x", LIBC, cwd=members)
    changed = 0
    for path in sorted(members.glob("*.o")):
        sites = scan_file(path, trampolines=LIBC_PATTERNS).sites
        changed += sum(site.state in ("rewrite", "saved") for site in sites)
        rewrite(path, trampolines=LIBC_PATTERNS)
    assert changed > 300
    archive = tmp_path / "libc.a"
    run(CROSS + "ar", "rcs", archive, *sorted(members.glob("*.o")))
    program = tmp_path / "program"
    path = compile_c(tmp_path, USES_LIBC, "-O2")
    run(*GCC, "-static", "-o", program, path, "-L", tmp_path)
    assert run(*QEMU, program).stdout == "1 9 2.500 -\n"
    assert any(symbol.name.startswith("r2save._IO_") for symbol in symbols(program))


@pytest.mark.parametrize("linker", LINKERS)
def test_thunks_of_the_same_object_twice(assemble: Assemble, tmp_path: Path, linker: str) -> None:
    """A thunk returns into its own object: the linker must never use another object's thunk."""
    path = assemble("TOC f\n bl __SCT__x\n addi 3, 3, 1\n blr\nEND f\n.weak f\n")
    new = rewritten(path, no_nop="thunk")
    done = run(linker, "-r", "-o", tmp_path / "merged.o", new, new, check=False)
    assert done.returncode
    assert "r2thunk.__SCT__x" in done.stderr


def test_stubs_in_sections_of_different_names_differ(assemble: Assemble) -> None:
    """What is in .init.text goes away; a stub there must not stand in for one that stays."""
    names = []
    for section in (".init.text", ".exit.text"):
        path = assemble(f'.section {section}, "ax"\nFRAME f\nCALL __SCT__x\nLEAVE f\n')
        names += [
            symbol.name for symbol in symbols(rewritten(path)) if symbol.name.startswith("r2save.")
        ]
    assert len(set(names)) == 2
