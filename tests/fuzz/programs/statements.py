"""Random functions, statements and expressions of C.

Each statement lies between `/*<*/` and `/*>*/`: the program is still a right one without it
(tests.fuzz.programs.shrink).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

OPEN: Final = "/*<*/"
CLOSE: Final = "/*>*/"

KINDS: Final = (
    *("one", "two", "ten", "real", "many", "pair", "big", "reals", "sum", "touch"),
    *("back", "wide"),
)
_OWN_KINDS: Final = ("one", "two", "ten", "real", "pair", "sum", "wide")
"""Kinds for which a module may define its own trampolines."""

PARAMETERS: Final = {
    "plain": "u p",
    "two": "u p, u q",
    "stack": "u p, u q, u p3, u p4, u p5, u p6, u p7, u p8, u p9, u p10, u p11, u p12",
    "pair": "struct pair s",
    "big": "struct big s, u p",
    "real": "double s, u p",
    "various": "u p, ...",
}
RESULTS: Final = {"pair": "struct pair", "big": "struct big", "real": "double"}
RETURNED: Final = {
    "pair": "(struct pair){{ {0}, a }}",
    "big": "(struct big){{ {{ {0}, a, b, c, 1, 2, 3 }} }}",
    "real": "d + (double)(long)(({0}) & 0xff)",
}


class Function(NamedTuple):
    number: int
    shape: str
    unit: str
    static: bool
    attributes: str

    @property
    def name(self) -> str:
        return f"f{self.number}"

    @property
    def checked(self) -> bool:
        """It looks itself whether there is fuel; else its callers do."""
        return self.number % 3 != 1


def prototype(function: Function) -> str:
    start = function.attributes + ("static " if function.static else "")
    return (
        f"{start}{RESULTS.get(function.shape, 'u')} {function.name}({PARAMETERS[function.shape]})"
    )


class Writer:
    """Writes bodies; notes what is in them."""

    def __init__(self, source: random.Random, functions: Sequence[Function]) -> None:
        self._source = source
        self._functions = functions
        self._current = functions[0]
        self._depth = 0
        self._names = 0
        self.features: set[str] = set()
        own = source.sample(_OWN_KINDS, source.randrange(len(_OWN_KINDS)))
        self.own = {"a": frozenset(own[::2]), "b": frozenset(own[1::2])}
        self.by_hand = self._by_hand()

    def _by_hand(self) -> dict[str, str]:
        """Functions in assembly language with a call of their own kind."""
        chosen = {}
        if self._chance(0.15):
            chosen["by_hand_no_nop"] = "bl __SCT__in_one"
            self.features.add("no nop")
        if self._chance(0.15):
            chosen["by_hand_saved"] = "std 2, 24(1)\\nbl __SCT__in_one\\nld 2, 24(1)"
            chosen["by_hand_saved"] = chosen["by_hand_saved"].replace("\\n", '\\n"\n    "')
            self.features.add("saved by hand")
        if self._chance(0.15):
            chosen["by_hand_cror"] = 'bl __SCT__far_one\\n"\n    "cror 15, 15, 15'
            self.features.add("cror")
        return chosen

    def _chance(self, probability: float) -> bool:
        return self._source.random() < probability

    def _name(self, stem: str) -> str:
        self._names += 1
        return f"{stem}{self._names}"

    # Expressions ------------------------------------------------------------------------------

    def number(self, depth: int = 2) -> str:
        """An expression of type u."""
        source = self._source
        kind = source.random()
        if depth <= 0 or kind < 0.3:
            leaves = ["a", "b", "c", "noise", str(source.randrange(1 << 20)), "bits(d)"]
            leaves += [
                f"{name}[{self._index()}]" for name in ("shared_a", "shared_b", "own", "table")
            ]
            return source.choice(leaves)
        if kind < 0.6:
            operator = source.choice(("+", "-", "*", "^", "&", "|"))
            return f"({self.number(depth - 1)} {operator} {self.number(depth - 1)})"
        if kind < 0.65:
            operator = source.choice(("/", "%"))
            return f"({self.number(depth - 1)} {operator} ({self.number(depth - 1)} | 1))"
        if kind < 0.7:
            return (
                f"({self.number(depth - 1)} {source.choice(('<<', '>>'))} {source.randrange(20)})"
            )
        if kind < 0.75:
            return f"({self.condition()} ? {self.number(depth - 1)} : {self.number(depth - 1)})"
        return self.static_call(depth - 1) if kind < 0.9 else self.call(depth - 1)

    def _index(self) -> str:
        return self._source.choice((str(self._source.randrange(8)), "a & 7", "b & 7", "c % 8"))

    def condition(self) -> str:
        operator = self._source.choice(("<", ">", "==", "!="))
        left = self._source.choice(("a", "b", "c", "noise"))
        return f"({left} & 7) {operator} {self._source.randrange(8)}"

    def static_call(self, depth: int = 1, kind: str | None = None) -> str:
        """A static call, as an expression of type u."""
        kind = kind or self._source.choice(KINDS)
        places = ["in", "in", "far", "far", "out"]
        if kind in self.own[self._current.unit]:
            places += ["own", "own", "local"]
        place = self._source.choice(places)
        if place in ("own", "local"):
            self.features.add(f"{place} trampoline")
        name = f"CALL({place}, {kind})"
        self.features.add(f"static call {kind}")
        x = self.number(depth)
        y = self._source.choice(("a", "b", "c"))
        calls: dict[str, str] = {
            "one": f"{name}({x})",
            "two": f"{name}({x}, {y})",
            "ten": f"{name}(&own[{self._index()}], {x}, 2, a, b, c, 6, 7, {y}, 9)",
            "real": f"bits({name}(d, {x}))",
            "many": f"bits({name}(d, 1, 2, real, 4, 5, d, 7, 8, 9, 10, real, 12, {x}, {y}))",
            "pair": f"{name}({x}).{self._source.choice('xy')}",
            "big": f"{name}((struct big){{ {{ {x}, a, b, c }} }}, {y}).word[{self._index()}]",
            "reals": f"bits({name}((struct reals){{ d, 2, real }}).z)",
            "sum": f"{name}({self._source.randrange(1, 10)}, {x}, a, b, c, 5, 6, 7, 8, 9, 10)",
            "touch": f"({name}(&own[{self._index()}]), {x})",
            "back": f"{name}(pointers[{self._source.randrange(4)}], {x})",
            "wide": f"(u)({name}(((unsigned __int128)a << 64) + {x}) >> 32)",
        }
        return calls[kind]

    def call(self, depth: int = 1) -> str:
        """A call of one of the program's functions, or of the harness."""
        kind = self._source.random()
        x = self.number(depth)
        if kind < 0.15:
            self.features.add("function pointer")
            return f"(may_go() ? pointers[{self._index()} & 3]({x}) : 4)"
        if kind < 0.25:
            self.features.add("longcall")
            return f"distant({x})"
        if kind < 0.3:
            return f"plain({x})"
        if kind < 0.4 and self.by_hand and self._current.unit == "a":
            return f"{self._source.choice(sorted(self.by_hand))}({x})"
        return self.call_of(self._source.choice(self._reachable()), x)

    def _reachable(self) -> list[Function]:
        """Later functions, and with fuel any."""
        unit = self._current.unit
        seen = [
            function for function in self._functions if function.unit == unit or not function.static
        ]
        later = [function for function in seen if function.number > self._current.number]
        return later if later and self._chance(0.85) else seen

    def call_of(self, function: Function, x: str) -> str:
        """A call of a certain function, as an expression of type u."""
        if function.number <= self._current.number:
            self.features.add("recursion")
        self.features.add(f"call of {function.shape}")
        calls = {
            "plain": f"{function.name}({x})",
            "two": f"{function.name}({x}, a)",
            "stack": f"{function.name}({x}, a, b, c, 5, 6, 7, 8, a, b, c, 12)",
            "pair": f"{function.name}((struct pair){{ {x}, a }}).y",
            "big": f"{function.name}((struct big){{ {{ a, {x}, c }} }}, b).word[2]",
            "real": f"bits({function.name}(d, {x}))",
            "various": f"{function.name}({x}, a, b, c, (u)4, (u)5, (u)6, (u)7, (u)8, (u)9, (u)10)",
        }
        call = calls[function.shape]
        return call if function.checked else f"(may_go() ? {call} : 5)"

    # Statements -------------------------------------------------------------------------------

    def body(self, function: Function) -> str:
        """A function with its statements."""
        self._current = function
        special = self._special(function)
        volatile = "volatile " if special == self._jump else ""
        lines = [
            prototype(function),
            "{",
            f"\t{volatile}u a = {_first(function)}, b = noise & 15, "
            f"c = own[{function.number % 8}];",
        ]
        lines += [f"\t{volatile}double d = {'s' if function.shape == 'real' else '1.5'};", ""]
        lines += (
            [f"\tif (!may_go())\n\t\treturn {_result(function, 'a')};"] if function.checked else []
        )
        if self._chance(0.4):
            self.features.add("early return")
            lines.append(self._early(function))
        if function.shape == "various":
            lines.append(_VARIOUS)
        lines += self.block(1, 3)
        if special is not None:
            lines.append(special())
        lines += self.block(0, 3)
        lines += [f"\treturn {self._returned(function)};", "}", ""]
        return "\n".join(lines)

    def _special(self, function: Function) -> Callable[[], str] | None:
        """What a function has once at most: jumps that forbid inlining, memory of unknown size."""
        choices = (self._jump, self._computed, self._alloca, self._switch, self._cold)
        return self._source.choice(choices) if self._chance(0.6) else None

    def _returned(self, function: Function) -> str:
        """The last expression; often a sibling call."""
        plain = [other for other in self._reachable() if other.shape == function.shape == "plain"]
        later = [other for other in plain if other.number > function.number and other.checked]
        if later and self._chance(0.5):
            self.features.add("tail call")
            return f"{self._source.choice(later).name}({self.number(1)})"
        if function.shape == "plain" and self._chance(0.15):
            self.features.add("tail static call")
            return self.static_call(1, "one")
        return _result(function, self.number())

    def _early(self, function: Function) -> str:
        """A return before any call: compilers move the prologue after it."""
        return f"\t{OPEN} if ({self.condition()})\n\t\treturn {_result(function, 'b * a')}; {CLOSE}"

    def block(self, low: int, high: int) -> list[str]:
        return [self.statement() for _ in range(self._source.randrange(low, high + 1))]

    def statement(self) -> str:
        kinds: list[Callable[[], str]] = [self._assign] * 4 + [self._store] * 2 + [self._real]
        if self._depth < 2:
            kinds += [self._if, self._if, self._loop, self._switch, self._cold]
        self._depth += 1
        text = self._source.choice(kinds)()
        self._depth -= 1
        return text

    def _assign(self) -> str:
        name = self._source.choice(("a", "b", "c"))
        operator = self._source.choice(("=", "+=", "^="))
        return f"\t{OPEN} {name} {operator} {self.number()}; {CLOSE}"

    def _store(self) -> str:
        name = self._source.choice(("shared_a", "shared_b", "own", "noise"))
        place = name if name == "noise" else f"{name}[{self._index()}]"
        return f"\t{OPEN} {place} ^= {self.number()}; {CLOSE}"

    def _real(self) -> str:
        self.features.add("floating point")
        value = f"(double)(long)({self.number(1)} & 0xffff)"
        change = (
            f"real = d * 0.25 + {value}" if self._chance(0.3) else f"d = d / 2 + real + {value}"
        )
        return f"\t{OPEN} {change}; {CLOSE}"

    def _if(self) -> str:
        text = f"\t{OPEN} if ({self.condition()}) {{\n" + "\n".join(self.block(1, 2))
        if self._chance(0.5):
            text += "\n\t} else {\n" + "\n".join(self.block(1, 2))
        return text + f"\n\t}} {CLOSE}"

    def _loop(self) -> str:
        self.features.add("loop")
        n = self._name("n")
        inside = "\n".join(self.block(1, 2))
        leave = f"\n\t\tif ({self.condition()})\n\t\t\tbreak;" if self._chance(0.3) else ""
        count = self._source.randrange(2, 5)
        return f"\t{OPEN} for (u {n} = 0; {n} < {count}; {n}++) {{\n{inside}{leave}\n\t}} {CLOSE}"

    def _switch(self) -> str:
        self.features.add("switch")
        cases = self._source.randrange(4, 10)
        lines = [f"\t{OPEN} switch ({self._source.choice('abc')} % {cases + 1}) {{"]
        self._depth += 1
        for case in range(cases):
            lines += [f"\tcase {case}:", *self.block(1, 1)]
            if self._chance(0.8):
                lines.append("\t\tbreak;")
        self._depth -= 1
        return "\n".join([*lines, f"\t}} {CLOSE}"])

    def _cold(self) -> str:
        """Code that is said never to run, and sometimes does."""
        self.features.add("cold")
        inside = "\n".join(self.block(1, 2))
        return f"\t{OPEN} if (__builtin_expect({self.condition()}, 0)) {{\n{inside}\n\t}} {CLOSE}"

    def _computed(self) -> str:
        """A computed goto; by addresses, or by distances as in position-independent code."""
        self.features.add("computed goto")
        stem, count = self._name("l"), self._source.randrange(2, 5)
        labels = [f"{stem}_{number}" for number in range(count)]
        if self._chance(0.5):
            table = (
                f"static const void *const {stem}[] = {{ {', '.join('&&' + x for x in labels)} }};"
            )
            jump = f"goto *{stem}[a % {count}];"
        else:
            words = ", ".join(f"&&{x} - &&{labels[0]}" for x in labels)
            table = f"static const int {stem}[] = {{ {words} }};"
            jump = f"goto *((char *)&&{labels[0]} + {stem}[a % {count}]);"
        n = self._name("n")
        lines = [f"\t{OPEN} {{", f"\tint {n} = 0;", f"\t{table}", f"\t{jump}"]
        for label in labels:
            lines += [f"\t{label}:", *self.block(1, 2)]
            if self._chance(0.5):
                lines.append(f"\tif ({n}++ < 3) {{ a++; {jump} }}")
        return "\n".join([*lines, f"\t}} {CLOSE}"])

    def _alloca(self) -> str:
        self.features.add("alloca")
        p = self._name("p")
        return "\n".join(
            [
                f"\t{OPEN} {{",
                f"\tu *{p} = __builtin_alloca(16 + (a & 31) * 8);",
                f"\t{p}[0] = b; {p}[1] = c;",
                *([f"\t{OPEN} b += distant(c); {CLOSE}"] if self._chance(0.5) else []),
                f"\t{OPEN} {self.static_call(1, 'touch')}; {CLOSE}",
                f"\t{OPEN} CALL(in, touch)({p}); {CLOSE}",
                *self.block(1, 2),
                f"\tb ^= {p}[0] + {p}[1];",
                f"\t}} {CLOSE}",
            ]
        )

    def _jump(self) -> str:
        """setjmp; a target, or what it calls, may come back by longjmp. Locals are volatile."""
        self.features.add("setjmp")
        x = self._name("jump")
        place = self._source.choice(("in", "far", "out"))
        return "\n".join(
            [
                f"\t{OPEN} {{",
                f"\tu {x}[JUMP_BUFFER] __attribute__((aligned(16)));",
                f"\tif (sj_set({x}) == 0) {{",
                *self.block(0, 2),
                f"\t{OPEN} a += CALL({place}, jump)({x}, b); {CLOSE}",
                f"\t{OPEN} if (!(c & 3)) sj_jump({x}, 1); {CLOSE}",
                "\t} else {",
                *self.block(1, 2),
                "\t}",
                f"\t}} {CLOSE}",
            ]
        )


_VARIOUS = """\
	{
		__builtin_va_list list;
		__builtin_va_start(list, p);
		for (u n = 0; n < (p & 7) + 1; n++)
			b = b * 5 + __builtin_va_arg(list, u);
		__builtin_va_end(list);
	}"""


def _first(function: Function) -> str:
    """What the first variable starts with: all that was passed."""
    firsts = {
        "two": "p + q",
        "stack": "p + q * 2 + p3 + p8 * 3 + p9 + p10 * 2 + p12",
        "pair": "s.x ^ s.y",
        "big": "s.word[0] + s.word[1] * 3 + s.word[9] + p",
    }
    return firsts.get(function.shape, "p")


def _result(function: Function, value: str) -> str:
    return RETURNED.get(function.shape, "{0}").format(value)
