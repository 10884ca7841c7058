"""Objects that are hard to judge, as assembly: what a call names, and how it comes there.

Each has a function `f` (or more) with calls of `__SCT__*`. The rewriter and the proof must say the
same of each (test_agreement), whatever that is.
"""

from __future__ import annotations

CALL = "FRAME f\n bl {0}\n nop\nLEAVE f\n"
PLAIN = CALL.format("__SCT__x")
T = "FUNC __SCT__x\n b target\nEND __SCT__x\n"
LOCAL = """
        .balign 16
        .type __SCT__x, @function
__SCT__x:
        b target
        .size __SCT__x, .-__SCT__x
"""
"""A local trampoline in .text: the assembler resolves the calls from there itself."""
LOCAL_TOC = """
        .balign 16
        .type __SCT__x, @function
__SCT__x: addis 2, 12, .TOC.-__SCT__x@ha
        addi 2, 2, .TOC.-__SCT__x@l
        .localentry __SCT__x, .-__SCT__x
        b target
        .size __SCT__x, .-__SCT__x
"""
OTHER = '.section .text.t, "ax"\n'


def typed(kind: str, scope: str = ".globl") -> str:
    """A trampoline of a type, in a separate section."""
    text = f"{OTHER}{scope} __SCT__x\n.type __SCT__x, {kind}\n__SCT__x: b target\n"
    return text + ".size __SCT__x, .-__SCT__x\n.text\n"


SOURCES = {
    "undefined": PLAIN,
    "defined": PLAIN + T,
    "weak and defined": PLAIN + T + ".weak __SCT__x\n",
    "weak and undefined": ".weak __SCT__x\n" + PLAIN,
    "weak, beside another": ".weak __SCT__x\n" + PLAIN + "FRAME g\n bl __SCT__y\n nop\nLEAVE g\n",
    "weak, r2 saved": ".weak __SCT__x\nFRAME f\n std 2,24(1)\n bl __SCT__x\n nop\nLEAVE f\n",
    "weak, twice": (
        ".weak __SCT__x\nFRAME f\n bl __SCT__x\n nop\n std 2,24(1)\n bl __SCT__x\n nop\nLEAVE f\n"
    ),
    "weak, then saved": (
        ".weak __SCT__x\nFRAME f\n std 2,24(1)\n bl __SCT__x\n nop\n bl __SCT__y\n nop\nLEAVE f\n"
    ),
    "weak, then another": (
        ".weak __SCT__x\nFRAME f\n bl __SCT__x\n nop\n bl __SCT__y\n nop\nLEAVE f\n"
    ),
    "weak, no nop": ".weak __SCT__x\nFRAME f\n bl __SCT__x\n mr 3,3\nLEAVE f\n",
    "object": typed("@object") + PLAIN,
    "thread-local": typed("@tls_object") + PLAIN,
    "unique": typed("@gnu_unique_object") + PLAIN,
    "common": ".comm __SCT__x, 8\n" + PLAIN,
    "by its section": typed("@function") + CALL.format(".text.t"),
    "by a local name": typed("@function").replace("__SCT__x: ", "__SCT__x:\nown: ")
    + CALL.format("own"),
    "by a global name": typed("@function").replace("__SCT__x: ", "__SCT__x:\nown: .globl own\n")
    + CALL.format("own"),
    "by what is before it": typed("@function").replace(
        ".globl __SCT__x", ".globl own\nown: nop\n nop\n.globl __SCT__x"
    )
    + CALL.format("own + 8"),
    "into it, by what is before it": typed("@function")
    .replace(".globl __SCT__x", ".globl own\nown: nop\n nop\n.globl __SCT__x")
    .replace("b target", "nop\n b target")
    + CALL.format("own + 12"),
    "in data": typed("@function").replace('.text.t, "ax"', '.data.t, "aw"') + PLAIN,
    "in data, with a prologue": '.section .data.t,"aw"\n.globl __SCT__x'
    + LOCAL_TOC
    + ".text\n"
    + PLAIN,
    "in what is not loaded": typed("@function").replace('.text.t, "ax"', '.note.t, ""') + PLAIN,
    "undefined and marked": ".globl __SCT__x\n.localentry __SCT__x, 1\n" + PLAIN,
    "no type": typed("@notype") + PLAIN,
    "no type or size": ".globl __SCT__x\n__SCT__x: b target\n" + PLAIN,
    "ifunc": typed("@gnu_indirect_function") + PLAIN,
    "ifunc, restored": (
        typed("@gnu_indirect_function") + "FRAME f\n bl __SCT__x\n ld 2,24(1)\nLEAVE f\n"
    ),
    "ifunc, no nop": typed("@gnu_indirect_function") + "FRAME f\n bl __SCT__x\n mr 3,3\nLEAVE f\n",
    "ifunc, by section": (
        typed("@gnu_indirect_function", ".local") + "FRAME f\n bl .text.t\n nop\nLEAVE f\n"
    ),
    "hidden": ".hidden __SCT__x\n" + PLAIN,
    "resolved": PLAIN + LOCAL,
    "resolved, before": LOCAL + PLAIN,
    "resolved, twice": "FRAME f\n bl __SCT__x\n nop\n bl __SCT__x\n nop\nLEAVE f\n" + LOCAL,
    "resolved, saved": "FRAME f\n std 2,24(1)\n bl __SCT__x\n nop\nLEAVE f\n" + LOCAL,
    "resolved, beside a relocated call": (
        "FRAME f\n bl __SCT__x\n nop\n bl __SCT__y\n nop\nLEAVE f\n" + LOCAL
    ),
    "resolved, r2 lost, then saved": (
        "FRAME f\n bl __SCT__x\n mr 3,3\n std 2,24(1)\n bl __SCT__y\n nop\nLEAVE f\n" + LOCAL
    ),
    "resolved, no nop": "FRAME f\n bl __SCT__x\n mr 3,3\nLEAVE f\n" + LOCAL,
    "resolved, restored": "FRAME f\n bl __SCT__x\n ld 2,24(1)\nLEAVE f\n" + LOCAL,
    "resolved, saved and restored": (
        "FRAME f\n std 2,24(1)\n bl __SCT__x\n ld 2,24(1)\nLEAVE f\n" + LOCAL
    ),
    "resolved, sibling": "FRAME f\n b __SCT__x\nLEAVE f\n" + LOCAL,
    "resolved, on a condition": "FRAME f\n beq __SCT__x\nLEAVE f\n" + LOCAL,
    "resolved, global entry": (
        "FRAME f\n .long 0x48000001 + (__SCT__x - .)\n nop\nLEAVE f\n" + LOCAL_TOC
    ),
    "resolved, local entry": (
        "FRAME f\n .long 0x48000001 + (__SCT__x + 8 - .)\n nop\nLEAVE f\n" + LOCAL_TOC
    ),
    "resolved, global trampoline": (
        "FRAME f\n .long 0x48000001 + (__SCT__x - .)\n nop\nLEAVE f\n" + T
    ),
    "resolved, nothing relocated": "FUNC f\n bl __SCT__x\n nop\nEND f\n"
    + LOCAL.replace("b target", "blr"),
    "resolved, marked": PLAIN + LOCAL.replace("x:\n", "x:\n .localentry __SCT__x, 1\n"),
    "resolved, ifunc": PLAIN + LOCAL.replace("@function", "@gnu_indirect_function"),
    "resolved, nop branched to": "FRAME f\n beq 1f\n bl __SCT__x\n1: nop\nLEAVE f\n" + LOCAL,
    "resolved, in no function": "f: bl __SCT__x\n mr 3,3\n blr\nFRAME g\nLEAVE g\n" + LOCAL,
    "resolved, after a sibling call": (
        "FRAME f\n b __SCT__y\n bl __SCT__x\n nop\nLEAVE f\n" + LOCAL
    ),
    "recursive": PLAIN + "FRAME __SCT__x\n bl __SCT__x\n nop\nLEAVE __SCT__x\n",
    "recursive, resolved": PLAIN
    + LOCAL.replace("b target", "cmpdi 3,0\n beqlr\n bl __SCT__x\n nop\n b target"),
    "thunk by hand": PLAIN + "thunk: std 2,24(1)\n b __SCT__x\nFRAME g\n bl thunk\n nop\nLEAVE g\n",
    "thunk by hand, exported": (
        PLAIN + ".globl thunk\nthunk: std 2,24(1)\n b __SCT__x\nFRAME g\n blr\nLEAVE g\n"
    ),
    "thunk by hand, nameless": (
        PLAIN + "1: std 2,24(1)\n b __SCT__x\nFRAME g\n bl 1b\n ld 2,24(1)\nLEAVE g\n"
    ),
    "thunk by hand, in a function": (PLAIN + "FUNC thunk\n std 2,24(1)\n b __SCT__x\nEND thunk\n"),
    "two names": PLAIN + T.replace("END", ".globl __SCT__z\n.set __SCT__z, __SCT__x\nEND"),
    "three names": PLAIN
    + "FRAME g\n bl __SCT__z\n nop\n bl __SCT__w\n nop\nLEAVE g\n"
    + T.replace(
        "END", ".globl __SCT__z, __SCT__w\n.set __SCT__z, __SCT__x\n.set __SCT__w, __SCT__x\nEND"
    ),
    "versioned": CALL.format("impl")
    + T.replace("__SCT__x", "impl")
    + ".symver impl, __SCT__x@@@V1\n",
    "versioned, no nop": (
        "FRAME f\n bl impl\n mr 3,3\nLEAVE f\n"
        + T.replace("__SCT__x", "impl")
        + ".symver impl, __SCT__x@@@V1\n"
    ),
    "a per cent sign": PLAIN.replace("__SCT__x", '"__SCT__%40"'),
    "hidden undefined data": PLAIN + ".hidden hx\n.data\n.quad hx\n",
}
