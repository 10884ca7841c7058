"""Rewriting archives: members become what single files do, `ar` and linkers take the result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from scpatch.rewriter import Options, plan_file
from scpatch.sites.actions import Common
from scpatch.strategies.callsite import Rewrite
from tests import archives, tools
from tests.archives import AR, make, make_bsd, make_sym64, objects, tree
from tests.tools import CROSS, LIBC, QEMU, rewrite, run

ARCH, THIN = b"!<arch>\n", b"!<thin>\n"


@pytest.fixture
def members(tmp_path: Path) -> list[Path]:
    """Two objects with sites, and a text."""
    made = objects(tmp_path, "calls-gcc.o", "sites.o")
    text = tmp_path / "a-text-with-a-long-name.txt"
    text.write_bytes(b"no object")
    return [made[0], text, made[1]]


@pytest.mark.parametrize("maker", [make, make_bsd, make_sym64])
def test_members_become_what_they_become_as_files(
    tmp_path: Path, members: list[Path], maker: Callable[..., Path]
) -> None:
    path = maker(tmp_path / "x.a", *(entry.name for entry in members))
    old, expected = (
        path.read_bytes(),
        [archives.alone(members[0]), b"no object", archives.alone(members[2])],
    )
    new = tmp_path / "new.a"
    plan = rewrite(path, new)
    assert path.read_bytes() == old
    assert [entry.name for entry in plan.objects] == [f"{path}(calls-gcc.o)", f"{path}(sites.o)"]
    assert [archives.content(new, entry.name) for entry in members] == expected
    assert archives.armap(new) == archives.armap(path)
    rewrite(path)
    assert path.read_bytes() == new.read_bytes()


@pytest.mark.parametrize("options", ["rcs", "rcsT"])
def test_a_second_run_changes_nothing(tmp_path: Path, members: list[Path], options: str) -> None:
    path = make(tmp_path / "x.a", *(entry.name for entry in members), options=options)
    assert rewrite(path).outputs
    before = tree(tmp_path)
    again = rewrite(path)
    assert not again.outputs
    states = {site.state for entry in again.objects for site in entry.plan.sites}
    assert Common.DONE in states
    assert not states & {Rewrite.REWRITE, Rewrite.SAVED}
    rewrite(path, tmp_path / "same.a")
    assert tree(tmp_path) == before | {"same.a": path.read_bytes()}


def test_nothing_to_do_gives_the_same_bytes(tmp_path: Path) -> None:
    for options in ("rcs", "rcsT"):
        objects(tmp_path, "unmarked.o")
        path = make(tmp_path / f"{options}.a", "unmarked.o", options=options)
        assert not rewrite(path, trampolines=("nobody*",)).outputs
        rewrite(path, tmp_path / "new.a", trampolines=("nobody*",))
        assert (tmp_path / "new.a").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("magic", [ARCH, THIN])
def test_an_empty_archive(tmp_path: Path, magic: bytes) -> None:
    path = tmp_path / "x.a"
    path.write_bytes(magic)
    (tmp_path / "d").mkdir()
    assert rewrite(path).objects == ()
    rewrite(path, tmp_path / "d" / "new.a")
    assert tree(tmp_path) == {"x.a": magic, "d/new.a": magic}


def test_the_prebuilt_archive(tmp_path: Path) -> None:
    """It has a member twice: both are rewritten, and messages tell them apart."""
    (path,) = objects(tmp_path, "members.a")
    plan = rewrite(path)
    names = [entry.name.removeprefix(str(path)) for entry in plan.objects]
    assert names == ["(calls-clang-dwarf.o)", "(sites.o)", "(marked.o)", "(sites.o@2)"]
    (single,) = objects(tmp_path, "sites.o")
    assert (
        archives.content(path, "sites.o")
        == archives.content(path, "sites.o", 2)
        == archives.alone(single)
    )


def test_what_is_no_object_stays(tmp_path: Path) -> None:
    files = {
        "empty.o": b"",
        "magic.o": b"\x7fEL",
        "gzip.o": b"\x1f\x8b" + bytes(9),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    (first,) = objects(tmp_path, "sites.o")
    for options in ("rc", "rcT"):
        path = make(tmp_path / f"{options}.a", first.name, *files, options=options)
        plan = rewrite(path, tmp_path / "new.a")
        assert len(plan.objects) == 1
        for name in ("magic.o", "gzip.o", "empty.o"):
            assert archives.content(tmp_path / "new.a", name) == files[name]


# Linkers and ar


@pytest.mark.parametrize(
    ("kind", "linker"),
    # GNU ld knows no symbol tables of LLVM's BSD flavour.
    [(kind, "bfd") for kind in ("regular", "sym64", "thin")]
    + [(kind, "lld") for kind in ("regular", "sym64", "thin", "bsd")],
)
def test_linkers_find_members_by_the_symbol_table(tmp_path: Path, kind: str, linker: str) -> None:
    """`call` and the trampoline are looked up; the caller grows, in front of the other."""
    main, path = archives.program_archive(tmp_path, kind)
    new = tmp_path / "out" / "new.a"
    new.parent.mkdir()
    plan = rewrite(path, new)
    assert [site.state for entry in plan.objects for site in entry.plan.sites] == [Rewrite.REWRITE]
    assert archives.output_of(tmp_path, main, new, linker) == "41\n"
    symbols = run(CROSS + "nm", tmp_path / f"program-{linker}").stdout
    assert symbols.count(" r2save.__SCT__twice.") == 1


def test_a_symbol_table_that_stayed_behind_breaks_the_link(tmp_path: Path) -> None:
    """What the test above relies on: with the old offsets there is no program."""
    main, path = archives.program_archive(tmp_path, "regular")
    old = path.read_bytes()
    rewrite(path)
    data = bytearray(path.read_bytes())
    data[72:80] = old[72:80]
    assert data != path.read_bytes()
    path.write_bytes(data)
    with pytest.raises(AssertionError):
        archives.output_of(tmp_path, main, path, "bfd")


def test_ar_takes_the_result(tmp_path: Path, members: list[Path]) -> None:
    path = make(tmp_path / "x.a", *(entry.name for entry in members))
    rewrite(path)
    assert archives.names(path) == [entry.name for entry in members]
    (tmp_path / "out").mkdir()
    run(AR, "x", path, cwd=tmp_path / "out")
    for entry in members:
        assert (tmp_path / "out" / entry.name).read_bytes() == archives.content(path, entry.name)
    tools.quiet(AR, "s", path)
    tools.quiet("llvm-ar", "s", path)
    assert not rewrite(path).outputs


def test_a_static_program_runs_on_a_rewritten_libc(tmp_path: Path) -> None:
    """2,000 members; the program calls its way through those that were rewritten."""
    source = tmp_path / "main.c"
    source.write_text(
        r"""
        #include <stdio.h>
        #include <stdlib.h>
        #include <string.h>
        static int order(const void *a, const void *b) { return *(int *)a - *(int *)b; }
        int main(void)
        {
            char *text = NULL, *copy;
            size_t size = 0;
            int numbers[] = {3, 1, 2};
            FILE *file = open_memstream(&text, &size);
            qsort(numbers, 3, sizeof *numbers, order);
            fprintf(file, "%d %d %d %.3f", numbers[0], numbers[1], numbers[2], strtod("2.5", NULL));
            fclose(file);
            copy = strdup(text);
            setenv("NAME", copy, 1);
            puts(getenv("NAME"));
            free(copy);
            free(text);
            return 0;
        }
        """
    )
    choice = ("malloc", "free", "realloc", "_IO_*", "__libc_*")
    plan = rewrite(LIBC, tmp_path / "libc.a", trampolines=choice)
    changed = sum(len(entry.plan.changed) for entry in plan.objects)
    assert (len(plan.objects), changed) > (1000, 500)
    for linker in archives.LINKERS:
        built = tmp_path / f"program-{linker}"
        run(*archives.LINKERS[linker], "-static", f"-L{tmp_path}", source, "-o", built)
        assert run(*QEMU, built).stdout == "1 2 3 2.500\n"
        symbols = run(CROSS + "nm", built).stdout
        assert {"malloc", "free"} <= set(_stub_targets(symbols))
    names = archives.names(LIBC)
    assert archives.names(tmp_path / "libc.a") == names
    assert archives.armap(tmp_path / "libc.a") == archives.armap(LIBC)
    again = plan_file(tmp_path / "libc.a", Options(trampolines=choice))
    assert not again.outputs


def _stub_targets(symbols: str) -> list[str]:
    """The trampolines of the stubs in the output of nm."""
    names = [line.split()[-1] for line in symbols.splitlines()]
    return [name.split(".")[1] for name in names if name.startswith("r2save.")]
