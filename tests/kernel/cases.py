"""The cases of fixtures/kernel, and what becomes of each without scpatch."""

from __future__ import annotations

from itertools import product

COMBINATIONS = tuple("".join(letters) for letters in product("KM", repeat=3))
"""Caller, trampoline and target: K is the kernel, M a module."""

_CALLS = (
    *(f"{name}-{number}" for name in COMBINATIONS for number in (1, 2)),
    *("MMK-first", "KKM-saved"),
    *("K-null", "M-null", "K-null-again", "K-ret0", "M-ret0", "M-ret0-again"),
    *("KKK-ten", "KKM-ten", "MMK-ten", "KKM-varargs", "MMK-varargs"),
)

TAGS = ("plain", "reload", "ftrace")
"""The calls are done by a fresh module, by the same after unloading it, and while traced."""

CASES = {
    "plain": tuple(f"{tag}/{name}" for tag in ("plain", "reload") for name in _CALLS),
    "kunit": (
        *(f"kunit/{name}_test" for name in ("toc", "null", "ret0", "ten_arguments", "combination")),
        *(f"kunit/{name}" for name in COMBINATIONS),
    ),
    "ftrace": (*(f"ftrace/{name}" for name in _CALLS), "ftrace/target", "ftrace/caller"),
    "irq": ("irq/KKM", "irq/MMK"),
    "load": ("load/both",),
    "livepatch": ("klp/KKK-target", "klp/MMK-target", "klp/MMK-caller"),
    "toc": ("toc/K-readonly", "toc/M-readonly", "toc/MMK", "toc/KKM"),
    "kfree": ("kfree/probe",),
    "stubs": ("stub/kallsyms", "stub/hit"),
}
"""The cases of each step of init, in the order in which they are reported."""

TRACE = {"trace": (*(f"trace/{name}" for name in _CALLS), "trace/stacks")}
"""A step that copies stack traces from a target to the log."""

AT_SITES = {
    "sites": (
        *(f"sites/K-{name}" for name in ("first", "other", "null", "ret0", "again")),
        *(
            f"sites/M-{name}{call}"
            for name in ("first", "other", "same", "null", "ret0", "again")
            for call in ("", "-call", "-saved")
        ),
        *(
            f"sites/M-tail-{name}{call}"
            for name in ("first", "other", "null", "same")
            for call in ("", "-call")
        ),
        *("sites/MK", "sites/MKM-call", "sites/MKK-call", "sites/MKK-hidden"),
    ),
    "asleep": tuple(
        f"asleep/{caller}-{change}"
        for caller in ("K", "M", "M-saved")
        for change in ("other-same", "same-other", "other-null")
    ),
    **{step: names for step, names in CASES.items() if step != "stubs"},
}
"""The same for a kernel that patches call sites. Its calls leave the stubs out."""

SAFE = ("plain", "kunit", "ftrace", "irq", "load", "livepatch")
"""The steps that report a wrong r2 and put it right, so that the naive kernel lives on."""

FATAL = {"toc": "sct_k_uses_toc", "kfree": "kfree"}
"""The steps that the naive kernel does not survive, and where it dies."""


def cases(*steps: str) -> set[str]:
    return {case for step in steps for case in (CASES | TRACE | AT_SITES)[step]}


def corrupts(case: str) -> bool:
    """Whether the naive kernel comes back from the case's call with a foreign r2: the trampoline
    belongs to the caller's unit and the target to the other one."""
    name = case.partition("/")[2]
    mixed = ("load/both", "kunit/combination_test", "kunit/ten_arguments_test")
    return case in mixed or name.startswith(("KKM", "MMK"))
