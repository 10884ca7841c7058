"""Compiles, merges, rewrites, links, runs and proves one random program, in several variants.

The reference is the program as it was compiled, with harmless targets. Every rewritten version with
hostile targets must print the same, and be proven.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from scpatch.elf.encoding import ByteOrder
from scpatch.errors import ScpatchError
from scpatch.linux.offsets import Offsets
from scpatch.rewriter import Options, plan_file, write
from scpatch.sites.actions import Common
from scpatch.verifier.files import verify_files, verify_link
from scpatch.verifier.options import KernelOffsets, VerifyOptions
from scpatch.verifier.tools import Search
from scpatch.verifier.types import Common as Reason
from scpatch.verifier.verdict import Verdict
from tests.fuzz.programs import toolchain
from tests.fuzz.programs.generate import Program
from tests.fuzz.programs.toolchain import Compiler, OptionSet, ToolError

OFFSETS: Final = Offsets(toolchain.PACA_TOC, toolchain.PACA_THREAD_INFO, toolchain.LIVEPATCH_SP)
TRAMPOLINES: Final = ("__SCT__*",)


class Variant(NamedTuple):
    """A way to rewrite and link a program."""

    name: str
    strategy: str = "callsite"
    hoist: str = "auto"
    undefined: str = "auto"
    linker: str = "ld"
    offsets: Offsets = Offsets()
    apart: bool = False
    """Each module is rewritten alone, before `ld -r`."""
    emit_sites: bool = False

    def fits(self, program: Program, compiler: Compiler) -> bool:
        """Whether all can be right: lld links no inline PLT calls, which gcc makes for `longcall`,
        and takes only `nop` behind calls of marked trampolines; without a nop, few can restore."""
        if self.linker == "lld" and compiler.is_gcc:
            return False
        if self.strategy == "localentry" and self.linker == "lld" and program.by_hand:
            return False
        return not program.has_no_nop or self.strategy in ("callsite", "livepatch-stack")

    @property
    def targets(self) -> str:
        # By livepatch-stack a near target is one with the same TOC: nothing else is promised.
        return "hostile-near.o" if self.strategy == "livepatch-stack" else "hostile.o"

    def options(self, program: Program) -> Options:
        no_nop = "thunk" if program.has_no_nop and self.strategy == "callsite" else "refuse"
        return Options(
            self.strategy,
            trampolines=TRAMPOLINES,
            undefined=self.undefined,
            no_nop=no_nop,
            hoist=self.hoist,
            offsets=self.offsets,
            emit_sites=self.emit_sites,
            lines="none",
        )


VARIANTS: Final = (
    Variant("callsite"),
    Variant("callsite, --hoist kernel", hoist="kernel", undefined="rewrite"),
    Variant("callsite, --hoist never, lld", hoist="never", linker="lld"),
    Variant("callsite, --hoist kernel, lld", hoist="kernel", linker="lld"),
    Variant("callsite, units apart", hoist="kernel", apart=True),
    Variant("callsite, --emit-sites", emit_sites=True),
    Variant("localentry, ld", "localentry"),
    Variant("localentry, lld", "localentry", linker="lld"),
    Variant("localentry, PACA", "localentry", offsets=OFFSETS),
    Variant("paca", "paca", offsets=OFFSETS),
    Variant("livepatch-stack", "livepatch-stack", offsets=OFFSETS),
)
ALWAYS: Final = 2
"""The first variants are tried with each program, of the others a few by turns."""


class Failure(NamedTuple):
    variant: str
    kind: str
    """`compile`, `refused`, `error`, `link`, `output`, `verify`, `image` or `executed`."""
    detail: str


class Tried(NamedTuple):
    """What came out of one variant."""

    variant: str
    states: Counter[str]
    reached: int
    """Sites that the program itself came to; 0 by livepatch-stack, which does not tell."""
    same: bool
    proven: bool
    image_proven: bool
    executed: int
    """Sites that `verify` ran."""


class Result(NamedTuple):
    number: int
    program: Program
    compiler: Compiler
    options: OptionSet
    sites: int
    naive_failed: bool
    """Unrewritten and with hostile targets the program printed something else, or crashed."""
    tried: tuple[Tried, ...]
    failures: tuple[Failure, ...]

    @property
    def reached(self) -> int:
        """Of its call sites, those that a run came to."""
        return max((attempt.reached for attempt in self.tried), default=0)


class Bench:
    """A folder to work in, with what is the same for all programs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.byte_order: ByteOrder = "little"
        """Of the program that is tried."""
        toolchain.no_core_files()
        for order in toolchain.BYTE_ORDERS:
            toolchain.build_constant(folder / order, order)
        pairs = [
            (compiler, options)
            for options in toolchain.OPTION_SETS
            for compiler in toolchain.compilers()
            if (words := options.of(compiler)) is not None
            and toolchain.knows(compiler, (*words, *options.only_a), folder)
        ]
        names = list(dict.fromkeys(compiler.name.partition(",")[0] for compiler, _ in pairs))
        orders = list(toolchain.BYTE_ORDERS)

        def turn(pair: tuple[toolchain.Compiler, toolchain.OptionSet]) -> int:
            compiler, options = pair
            name = names.index(compiler.name.partition(",")[0])
            return (
                name + toolchain.OPTION_SETS.index(options) + orders.index(compiler.byte_order)
            ) % 2

        self.pairs = sorted(pairs, key=turn)
        """Compilers with the option sets that they take: each once in one byte order, which differs
        from one to the next, and then in the other."""

    @property
    def constant(self) -> Path:
        """The folder of what is the same for all programs of this byte order."""
        return self.folder / self.byte_order

    # One program --------------------------------------------------------------------------------

    def check(self, number: int, program: Program, *, run: bool = False) -> Result:
        """Tries one program with the compiler and the options that are next; with `run`, `verify`
        also executes the sites."""
        compiler, options = self.pairs[number % len(self.pairs)]
        chosen = self.variants(number)
        return self.check_with(number, program, compiler, options, chosen, run=run)

    def variants(self, number: int) -> list[Variant]:
        """The variants of the program that is number so and so."""
        others = VARIANTS[ALWAYS:]
        start = number // len(self.pairs) + number
        return [*VARIANTS[:ALWAYS], *(others[(start + n * 4) % len(others)] for n in range(2))]

    def check_with(
        self,
        number: int,
        program: Program,
        compiler: Compiler,
        options: OptionSet,
        variants: list[Variant],
        *,
        run: bool = False,
    ) -> Result:
        failures: list[Failure] = []
        tried: list[Tried] = []
        sites, naive_failed = 0, False
        try:
            self.compile(program, compiler, options)
            wanted = self.run("merged.o", "outside.o", "harmless.o", "ld", "reference")
            if wanted.status:
                raise ToolError(f"the reference ended with status {wanted.status}")
            naive = self.run("merged.o", "outside.o", "hostile.o", "ld", "naive")
            naive_failed = not naive.same(wanted)
            for variant in variants:
                if not variant.fits(program, compiler):
                    continue
                attempted = self.attempt(variant, program, wanted, failures, run=run)
                if attempted is not None:
                    tried.append(attempted)
                    sites = sites or attempted.states.total()
        except ToolError as error:
            failures.append(Failure("", "compile", str(error)))
        return Result(
            number, program, compiler, options, sites, naive_failed, tuple(tried), tuple(failures)
        )

    def compile(self, program: Program, compiler: Compiler, options: OptionSet) -> None:
        """Makes a.o, b.o and merged.o."""
        self.byte_order = compiler.byte_order
        words = options.of(compiler) or ()
        for unit, text, more in (
            ("a", program.unit_a, options.only_a),
            ("b", program.unit_b, options.only_b),
        ):
            source = self.folder / f"{unit}.c"
            source.write_text(text)
            toolchain.compile_unit(compiler, (*words, *more), source, self.folder / f"{unit}.o")
        self.merge("a.o", "b.o", "merged.o")

    def merge(self, a: str, b: str, target: str) -> None:
        parts = [self.folder / a, self.constant / "inside.o", self.folder / b]
        toolchain.merge(parts, self.folder / target, self.byte_order)

    def run(
        self, merged: str, outside: str, targets: str, linker: str, name: str
    ) -> toolchain.Output:
        """Links one version of the program, and runs it."""
        folder = self.folder if (self.folder / outside).exists() else self.constant
        parts = [self.folder / merged, folder / outside]
        parts += [self.constant / each for each in ("start.o", "targets.o", targets)]
        program = self.folder / name
        toolchain.link(linker, parts, program, self.byte_order)
        return toolchain.execute(program, self.byte_order)

    # One variant --------------------------------------------------------------------------------

    def attempt(
        self,
        variant: Variant,
        program: Program,
        wanted: toolchain.Output,
        failures: list[Failure],
        *,
        run: bool,
    ) -> Tried | None:
        """Rewrites, links, runs and verifies; None where it did not come to the run."""

        def fail(kind: str, detail: str) -> None:
            failures.append(Failure(variant.name, kind, detail))

        try:
            states, refused = self.rewrite(variant, program)
        except ScpatchError as error:
            fail("error", str(error))
            return None
        for text in refused:
            fail("refused", text)
        if refused:
            return None
        try:
            got = self.run("new.o", "new-outside.o", variant.targets, variant.linker, "program")
        except ToolError as error:
            fail("link", str(error))
            return None
        same = got.same(wanted)
        if not same:
            fail("output", f"status {got.status}, {_differs(wanted.text, got.text)}")
        proven, image, executed = True, False, 0
        for kind, verdict in self.verify(variant, run=run):
            executed += len(verdict.runs or ())
            image |= kind == "image" and verdict.proven
            if reasons := _reasons(kind, verdict):
                proven &= kind == "image"
                more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
                fail(kind, f"{verdict.label}: {reasons[0]}{more}")
        return Tried(variant.name, states, got.reached, same, proven, image, executed)

    def rewrite(self, variant: Variant, program: Program) -> tuple[Counter[str], list[str]]:
        """Makes new.o and new-outside.o; returns the states of all sites and what was refused."""
        states: Counter[str] = Counter()
        refused: list[str] = []
        outside = (self.constant / "outside.o", self.folder / "new-outside.o")
        pairs = [outside, *self.pairs_of(variant)]
        for before, after in pairs:
            plan = plan_file(before, variant.options(program), after)
            write([plan])
            for entry in plan.objects:
                states.update(str(site.state) for site in entry.plan.sites)
                refused += [
                    f"{site.code} {site.place}: {site.detail}"
                    for site in entry.plan.sites
                    if site.state is Common.REFUSED
                ]
        if variant.apart:
            self.merge("new-a.o", "new-b.o", "new.o")
        return states, refused

    def pairs_of(self, variant: Variant) -> list[tuple[Path, Path]]:
        """What is rewritten, before and after."""
        names = ["a", "b"] if variant.apart else ["merged"]
        targets = ["new-a.o", "new-b.o"] if variant.apart else ["new.o"]
        pairs = zip(names, targets, strict=True)
        return [(self.folder / f"{name}.o", self.folder / new) for name, new in pairs]

    def verify(self, variant: Variant, *, run: bool) -> Iterator[tuple[str, Verdict]]:
        """The verdicts on the objects and, where one shows it, on the image."""
        offsets = KernelOffsets(**variant.offsets._asdict())
        options = VerifyOptions(TRAMPOLINES, offsets, variant.hoist == "kernel")
        tools = Search() if run else None
        for before, after in self.pairs_of(variant):
            verdicts = verify_files(before, after, options, tools)
            yield from (("executed" if run else "verify", verdict) for verdict in verdicts)
        if variant.strategy != "livepatch-stack":
            objects = [self.folder / "new.o", self.folder / "new-outside.o"]
            yield "image", verify_link(objects, self.folder / "program", options)


def _differs(wanted: str, got: str) -> str:
    lines = list(zip(wanted.splitlines(), got.splitlines(), strict=False))
    for number, (line, other) in enumerate(lines):
        if line != other:
            return f"line {number + 1} differs"
    return f"{len(got.splitlines())} of {len(wanted.splitlines())} lines"


def _reasons(kind: str, verdict: Verdict) -> list[str]:
    """What `verify` has against a program. Of an image it need not show the save of the function
    itself: it cannot where there is a jump table (docs/explanation/how-it-works.md)."""
    if verdict.proven:
        return []
    reasons = list(verdict.proof.errors)
    reasons += [
        f"{site.section_name}+{site.offset:#x} in {site.function}: {site.why}"
        for site in verdict.proof.sites
        if not site.right and not (kind == "image" and site.state is Reason.RESTORED)
    ]
    for ran in verdict.runs or ():
        place = f"{ran.site.section_name}+{ran.site.offset:#x} in {ran.site.function}"
        reasons += [f"{place}: {reason}" for reason in ran.after.reasons]
        if ran.harmless:
            reasons.append(f"{place}: ran well before")
    return reasons or ([] if kind == "image" else ["not proven"])
