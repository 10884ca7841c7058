"""Source lines, held against addr2line and objdump on what gcc, clang and ld make."""

from __future__ import annotations

from pathlib import Path

import pytest

from scpatch.dwarf.lines import line_of
from scpatch.dwarf.units import find_units
from scpatch.elf.reader import ElfFile
from tests.dwarf import support

Flavour = tuple[str, str, tuple[int, int]]
FLAVOURS: list[Flavour] = [
    # (compiler, options, (version, bytes of an offset) of .debug_line)
    ("gcc", "-gdwarf-5", (3, 4)),  # GNU as writes the table, and decides on its version
    ("gcc", "-gdwarf-4 -Wa,-gdwarf-4", (4, 4)),
    ("gcc", "-gdwarf-5 -Wa,-gdwarf-5", (5, 4)),
    ("gcc", "-gdwarf-4 -gno-as-loc-support", (4, 4)),  # gcc writes the table itself
    ("gcc", "-gdwarf-5 -gno-as-loc-support", (5, 4)),
    ("clang", "-gdwarf-2", (2, 4)),
    ("clang", "-gdwarf-3", (3, 4)),
    ("clang", "-gdwarf-4", (4, 4)),
    ("clang", "-gdwarf-5", (5, 4)),
    ("clang", "-gdwarf-3 -gdwarf64", (3, 8)),
    ("clang", "-gdwarf-4 -gdwarf64", (4, 8)),
    ("clang", "-gdwarf-5 -gdwarf64", (5, 8)),
]
flavours = pytest.mark.parametrize("flavour", FLAVOURS, ids=lambda f: f"{f[0]}{f[1]}")


def built(folder: Path, flavour: Flavour, *more: str) -> Path:
    compiler, options, expected = flavour
    path = support.build(folder, compiler, *options.split(), *more)
    elf = support.read(path)
    units = list(find_units(elf.content(support.debug_line(elf)), elf.encoding))
    assert [(unit.version, unit.offset_size) for unit in units] == [expected]
    return path


@flavours
@pytest.mark.parametrize("more", ["-O2", "-ffunction-sections"])
def test_every_word_has_the_line_that_addr2line_gives(
    tmp_path: Path, flavour: Flavour, more: str
) -> None:
    path = built(tmp_path, flavour, more)
    expected = support.theirs(path)
    assert len(expected) > 40
    assert support.ours(path) == expected


@pytest.mark.parametrize("version", ["-gdwarf-2", "-gdwarf-5"])
def test_assembly(tmp_path: Path, version: str) -> None:
    path = support.build(tmp_path, "gcc", version, source="src/code.S")
    expected = support.theirs(path)
    assert len(expected) == 7
    assert support.ours(path) == expected


def test_relocatable_link_of_several_versions(tmp_path: Path) -> None:
    parts = []
    for number, flavour in enumerate(FLAVOURS):
        path = built(tmp_path, flavour)
        parts.append(path.rename(tmp_path / f"part{number}.o"))
    support.run(support.PREFIX + "ld", "-r", "-z", "muldefs", "-o", "all.o", *parts, cwd=tmp_path)
    expected = support.theirs(tmp_path / "all.o")
    assert len(expected) > 300
    assert support.ours(tmp_path / "all.o") == expected


@flavours
def test_names_are_relative_to_the_working_directory(tmp_path: Path, flavour: Flavour) -> None:
    elf = support.read(built(tmp_path, flavour))
    names = {text.rpartition(":")[0] for text in line_of(elf, support.words(elf)).values()}
    assert names == {"src/code.c", "src/../include/twice.h", "generated.y"}


def test_absolute_name_below_the_working_directory(tmp_path: Path) -> None:
    source = str(tmp_path / "src" / "code.c")
    elf = support.read(support.build(tmp_path, "clang", "-gdwarf-5", source=source))
    names = {text.rpartition(":")[0] for text in line_of(elf, support.words(elf)).values()}
    assert "src/code.c" in names


def test_only_wanted_places(tmp_path: Path) -> None:
    elf = support.read(support.build(tmp_path, "gcc", "-gdwarf-5"))
    everything = line_of(elf, support.words(elf))
    for place in support.words(elf):
        assert line_of(elf, [place]).get(place) == everything.get(place)
    assert line_of(elf, []) == {}


def test_places_outside_any_code(tmp_path: Path) -> None:
    elf = support.read(support.build(tmp_path, "gcc", "-gdwarf-5"))
    section, offset = max(support.words(elf))
    assert line_of(elf, [(section, offset + 4), (section, 1 << 60), (1 << 40, 0), (0, 0)]) == {}


def test_debug_info_is_not_read(tmp_path: Path) -> None:
    path = support.build(tmp_path, "gcc", "-gdwarf-5")
    expected = support.ours(path)
    data = bytearray(path.read_bytes())
    elf = ElfFile(memoryview(bytes(data)), path.name)
    for index, section in enumerate(elf.sections):
        if elf.section_name(index) in (".debug_info", ".rela.debug_info", ".debug_abbrev"):
            data[section.sh_offset : section.sh_offset + section.sh_size] = (
                b"\xff" * section.sh_size
            )
    path.write_bytes(data)
    assert support.theirs(path) != expected
    assert support.ours(path) == expected
