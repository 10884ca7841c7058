"""Random C programs in two units, from a seed alone.

A program is a number of functions that call each other, static calls' trampolines and pointers, and
that do nothing undefined: all arithmetic is on unsigned longs, loops and recursion are bounded by
`fuel`, every variable is initialized, so that what it prints depends on nothing but r2 and
what a call preserves.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final, NamedTuple

from tests.fuzz.programs.statements import Function, Writer, prototype

SHAPES: Final = ("plain", "two", "stack", "pair", "big", "real", "various")


class Program(NamedTuple):
    """The C text of both modules. Each is compiled alone and linked with `ld -r`."""

    seed: int
    unit_a: str
    unit_b: str
    features: frozenset[str]
    """What is in it: `switch`, `alloca`, `tail call` and so on."""

    @property
    def has_no_nop(self) -> bool:
        """Whether hand-written code calls a trampoline without a nop behind."""
        return "no nop" in self.features

    @property
    def by_hand(self) -> bool:
        """Whether a hand-written call has its own save and restore."""
        return "saved by hand" in self.features


def generate(seed: int) -> Program:
    """The program of a seed: the same on every machine."""
    source = random.Random(f"scpatch programs {seed}")
    functions = _functions(source)
    writer = Writer(source, functions)
    bodies = {function: writer.body(function) for function in functions}
    text = {}
    for unit in "ab":
        parts = ['#include "shared.h"\n', _globals(source, unit)]
        parts += [
            prototype(function) + ";\n"
            for function in functions
            if function.unit == unit or not function.static
        ]
        parts.append(_hand_written(source, writer, unit))
        parts.append(_pointers(source, functions, unit))
        parts += [bodies[function] for function in functions if function.unit == unit]
        parts += [_entries(writer, functions)] if unit == "a" else []
        parts.append(_ENDING.format(unit=unit))
        text[unit] = "\n".join(parts)
    return Program(seed, text["a"], text["b"], frozenset(writer.features))


def _functions(source: random.Random) -> list[Function]:
    functions = []
    for number in range(source.randrange(6, 13)):
        shape = "plain" if number < 3 else source.choice(SHAPES)
        unit = source.choice("ab")
        static = number > 2 and source.random() < 0.4
        functions.append(Function(number, shape, unit, static, _attributes(source, static)))
    return functions


def _attributes(source: random.Random, static: bool) -> str:
    chosen = []
    if source.random() < 0.5:
        chosen.append("noinline")
    if source.random() < 0.2:
        chosen.append("cold")
    elif source.random() < 0.1:
        chosen.append("hot")
    if not static and source.random() < 0.1:
        chosen.append("weak")
    if source.random() < 0.08:
        chosen.append('section(".text.other")')
    return f"__attribute__(({', '.join(chosen)})) " if chosen else ""


def _globals(source: random.Random, unit: str) -> str:
    other = "b" if unit == "a" else "a"
    numbers = ", ".join(str(source.randrange(1 << 40)) for _ in range(8))
    return f"""\
u shared_{unit}[8] = {{ {numbers} }};
extern u shared_{other}[8];
static u own[8] = {{ 1, 2, 3 }};
static const u table[8] = {{ {numbers} }};
static volatile u noise = {source.randrange(1000)};
static double real = {source.randrange(100)}.5;
"""


def _pointers(source: random.Random, functions: Sequence[Function], unit: str) -> str:
    """Tables of functions, of which any may be called from anywhere."""
    plain = [function for function in functions if function.shape == "plain"]
    near = [function.name for function in plain if function.unit == unit or not function.static] + [
        "plain"
    ]
    picked = ", ".join(source.choice(near) for _ in range(4))
    return f"static function const pointers[4] = {{ {picked} }};\n"


def _entries(writer: Writer, functions: Sequence[Function]) -> str:
    """What the main loop calls: every function that both units see, by way of one with one
    parameter."""
    text, names = "", []
    for function in functions:
        if not function.static:
            text += _ENTRY.format(name=function.name, call=writer.call_of(function, "p"))
            names.append(f"entry_{function.name}")
    return (
        text
        + f"""\
function entries[] = {{ {", ".join(names)} }};
u entry_count = {len(names)};
"""
    )


_ENTRY = """\
static u entry_{name}(u p)
{{
	u a = p * 3, b = p ^ 5, c = 7;
	double d = 0.5;

	return {call};
}}
"""


def _hand_written(source: random.Random, writer: Writer, unit: str) -> str:
    """The module's trampolines, and functions in assembly language that call trampolines."""
    text = ""
    for kind in sorted(writer.own[unit]):
        near = source.random() < 0.5
        # Within one section, an assembler leaves no relocation for a local symbol.
        for place, scope, section in (
            ("own", ".globl", ".text"),
            ("local", ".local", ".text.trampolines"),
        ):
            text += _TRAMPOLINE.format(
                name=f"__SCT__{place}_{kind}",
                key=f"__SCK__{place}_{kind}",
                scope=scope,
                section=section,
                first=f"b near_{kind}" if near else "nop",
                target=f"far_{kind}",
            )
    if unit == "a":
        text += "#ifndef PLAIN\n"
        for name, call in writer.by_hand.items():
            text += _BY_HAND.format(name=name, call=call) + f"extern u {name}(u);\n"
        text += "#else\n"
        text += "".join(f"#define {name} target_one\n" for name in writer.by_hand) + "#endif\n"
    return text


_TRAMPOLINE = """\
#ifndef PLAIN
asm(".pushsection {section}, \\"ax\\"\\n"
    ".balign 16\\n"
    "{scope} {name}\\n"
    ".type {name}, @function\\n"
    "{name}: addis 2, 12, .TOC.-{name}@ha\\n"
    "addi 2, 2, .TOC.-{name}@l\\n"
    ".localentry {name}, .-{name}\\n"
    "{first}\\n"
    "addis 12, 2, slot_{name}@toc@ha\\n"
    "ld 12, slot_{name}@toc@l(12)\\n"
    "mtctr 12\\n"
    "bctr\\n"
    ".size {name}, .-{name}\\n"
    ".popsection\\n"
    ".pushsection .data, \\"aw\\"\\n"
    ".balign 8\\n"
    "{scope} {key}\\n"
    "{key}:\\n"
    "slot_{name}: .8byte {target}\\n"
    ".popsection\\n");
#endif
"""
_BY_HAND = """\
asm(".pushsection .text\\n"
    ".balign 16\\n"
    ".globl {name}\\n"
    ".type {name}, @function\\n"
    "{name}: addis 2, 12, .TOC.-{name}@ha\\n"
    "addi 2, 2, .TOC.-{name}@l\\n"
    ".localentry {name}, .-{name}\\n"
    "mflr 0\\n"
    "std 0, 16(1)\\n"
    "stdu 1, -64(1)\\n"
    "{call}\\n"
    "addis 4, 2, shared_a@toc@ha\\n"
    "ld 4, shared_a@toc@l(4)\\n"
    "add 3, 3, 4\\n"
    "addi 1, 1, 64\\n"
    "ld 0, 16(1)\\n"
    "mtlr 0\\n"
    "blr\\n"
    ".size {name}, .-{name}\\n"
    ".popsection\\n");
"""


_ENDING = """\
u sum_{unit}(void)
{{
	u x = bits(real) ^ noise;

	for (int n = 0; n < 8; n++)
		x = x * 31 + shared_{unit}[n] + own[n] * 7;
	return x;
}}
"""
"""The sum over what the unit has, which tells of every store that went elsewhere."""
