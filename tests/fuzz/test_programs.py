"""Random programs, rewritten and run with hostile targets: a fixed share of what
`python -m tests.fuzz.programs` tries."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from scpatch.elf.encoding import ByteOrder
from tests.fuzz.programs import toolchain
from tests.fuzz.programs.__main__ import check_many
from tests.fuzz.programs.check import VARIANTS, Bench, Failure
from tests.fuzz.programs.generate import SHAPES, generate
from tests.fuzz.programs.report import keep, tables
from tests.fuzz.programs.shrink import shrink, spans
from tests.fuzz.programs.statements import KINDS
from tests.tools import LD_R2, NOP, STD_R2, relocations, section, symbols

SEED = 2022
PROGRAMS = 84
CHUNK = 7

FEATURES = {f"static call {kind}" for kind in KINDS} | {f"call of {shape}" for shape in SHAPES}
FEATURES |= {"alloca", "computed goto", "cold", "early return", "floating point", "loop"}
FEATURES |= {"function pointer", "local trampoline", "own trampoline", "longcall", "recursion"}
FEATURES |= {"setjmp", "switch", "tail call", "tail static call"}
FEATURES |= {"cror", "no nop", "saved by hand"}


@pytest.mark.parametrize("start", range(0, PROGRAMS, CHUNK))
def test_rewritten_programs_do_what_they_did(start: int) -> None:
    results = check_many(range(start, start + CHUNK), SEED)
    failures = [(result.program.seed, result.compiler.name, result.failures) for result in results]
    assert [failure for failure in failures if failure[-1]] == []
    assert all(result.tried for result in results)
    # The harness notices calls that are not right: few programs have none, or do not use r2 after.
    assert sum(result.naive_failed for result in results) >= CHUNK - 2
    assert sum(result.reached for result in results) > sum(result.sites for result in results) / 4


def test_a_seed_gives_the_same_program_everywhere() -> None:
    text = "".join(program.unit_a + program.unit_b for program in map(generate, range(20)))
    assert hashlib.sha256(text.encode()).hexdigest() == DIGEST


DIGEST = "44f9172bb117de18b6073029261b8039898082a1aef85d2f8414561336b5a912"


def test_every_feature_is_generated() -> None:
    counts = Counter(feature for seed in range(200) for feature in generate(seed).features)
    assert set(counts) == FEATURES
    assert min(counts.values()) > 10


def test_all_option_sets_and_variants_get_their_turn(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for compiler in toolchain.compilers():
        names = [options.name for pair, options in bench.pairs if pair == compiler]
        assert len(names) >= 14, f"{compiler.name}: {names}"
    half = bench.pairs[: len(bench.pairs) // 2]
    kinds = {(compiler.name.partition("-")[0], compiler.byte_order) for compiler, _ in half}
    assert kinds == {(name, order) for name in ("gcc", "clang") for order in toolchain.BYTE_ORDERS}
    assert len({(pair.name.partition(",")[0], options.name) for pair, options in half}) == len(half)
    turns = {variant.name for number in range(len(VARIANTS)) for variant in bench.variants(number)}
    assert turns == {variant.name for variant in VARIANTS}


def _words(path: Path, *changes: tuple[int, int]) -> None:
    """Replaces words of .text, given by offset."""
    data = bytearray(path.read_bytes())
    order: ByteOrder = "big" if data[5] == 2 else "little"
    start = section(path, ".text").offset
    for offset, word in changes:
        data[start + offset : start + offset + 4] = word.to_bytes(4, order)
    path.write_bytes(data)


def _calls(path: Path) -> list[int]:
    """Offsets of the calls of stubs in .text, in the order of the code."""
    stubs = {symbol.index for symbol in symbols(path) if symbol.name.startswith("r2save.")}
    text = [relocation for relocation in relocations(path) if relocation.table == ".rela.text"]
    return sorted(relocation.offset for relocation in text if relocation.symbol in stubs)


def _drop_restore(path: Path, call: int) -> None:
    _words(path, (call + 4, NOP))


def _other_slot(path: Path, call: int) -> None:
    _words(path, (call + 4, LD_R2 + 16))


def _drop_saves(path: Path, call: int) -> None:
    names = [symbol for symbol in symbols(path) if symbol.name.startswith("r2save.")]
    _words(path, *((stub.value, NOP) for stub in names if stub.section == "1"))


def _save_elsewhere(path: Path, call: int) -> None:
    names = [symbol for symbol in symbols(path) if symbol.name.startswith("r2save.")]
    _words(path, *((stub.value, STD_R2 + 16) for stub in names if stub.section == "1"))


def _trap(path: Path, call: int) -> None:
    _words(path, (call, 0x7FE00008))


@pytest.mark.parametrize(
    ("harm", "order"),
    [
        *((harm, "little") for harm in (_drop_restore, _other_slot, _drop_saves, _save_elsewhere)),
        *((harm, "big") for harm in (_drop_restore, _drop_saves)),
    ],
)
def test_a_wrong_rewrite_is_noticed(
    tmp_path: Path, harm: Callable[[Path, int], None], order: ByteOrder
) -> None:
    """By the proof, and by the run at nearly all calls that the program comes to: some do not use
    r2 again before another call's restore."""
    bench, program, variant = Bench(tmp_path), generate(SEED), VARIANTS[0]
    pair = next(
        choice
        for choice in bench.pairs
        if choice[0].is_gcc and choice[0].byte_order == order and choice[1].name == "-O1"
    )
    bench.compile(program, *pair)
    wanted = bench.run("merged.o", "outside.o", "harmless.o", "ld", "reference")
    bench.rewrite(variant, program)
    new = tmp_path / "new.o"
    right = new.read_bytes()

    def is_same(harm: Callable[[Path, int], None], call: int) -> bool:
        new.write_bytes(right)
        harm(new, call)
        return bench.run("new.o", "new-outside.o", "hostile.o", "ld", "program").same(wanted)

    def is_proven() -> bool:
        _, verdict = next(bench.verify(variant, run=False))
        return verdict.proven

    assert is_same(lambda path, call: None, 0)
    assert is_proven()
    reached = [call for call in _calls(new) if not is_same(_trap, call)][:8]
    assert len(reached) == 8
    noticed = 0
    for call in reached:
        noticed += not is_same(harm, call)
        assert not is_proven()
    assert noticed >= 7


def test_statements_are_left_out_until_the_failure_goes() -> None:
    program = generate(SEED)
    wanted = "CALL(far, wide)"
    small = shrink(
        program, lambda smaller: wanted in smaller.unit_a + smaller.unit_b, attempts=2000
    )
    assert wanted in small.unit_a + small.unit_b
    kept = [text[a:b] for text in (small.unit_a, small.unit_b) for a, b in spans(text)]
    assert all(wanted in text for text in kept)
    assert len(kept) < len(spans(program.unit_a) + spans(program.unit_b)) / 10


IMAGE_NOT_SHOWN = ("program", "not shown")


def test_a_failing_program_is_kept_with_a_script(tmp_path: Path) -> None:
    """The script builds the same program again, and shows its faults."""
    (result,) = check_many([2], SEED)
    failures = tuple(Failure(variant.name, "output", "made up") for variant in VARIANTS[:2])
    folder = keep(result._replace(failures=failures), tmp_path)
    done = subprocess.run(
        ["sh", folder / "reproduce.sh"], capture_output=True, text=True, check=False
    )
    assert "reference: 0\n" in done.stdout, done.stdout + done.stderr
    assert done.stdout.count("program: 0\n") == 2
    verdicts = re.findall(r"^verdict\t(\S+)\t(.+)$", done.stdout, re.MULTILINE)
    assert [name for name, _ in verdicts] == ["new-outside.o", "new.o", "program"] * 2
    # In an image it is unknown where a jump through a register leads.
    assert all(what == "proven" or (name, what) == IMAGE_NOT_SHOWN for name, what in verdicts)


def test_tables_count_what_was_tried() -> None:
    results = check_many([0, 1], SEED)
    text = tables(results)
    assert text.startswith("2 programs with ")
    for result in results:
        assert f"| `{result.compiler.name}` |" in text
        assert f"| `{result.options.name}` |" in text
