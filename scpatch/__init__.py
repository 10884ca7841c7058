# ruff: noqa: F403, F405
"""Rewrites static-call sites in ppc64 ELFv2 objects so that each keeps the caller's r2.

    import scpatch

    scpatch.scan("x.o").sites                       # what the object holds
    scpatch.plan("x.o", "localentry").refused       # what a strategy could not do; writes nothing
    scpatch.rewrite("x.o", output="new.o")          # plans and writes
    scpatch.verify("x.o", "new.o")                  # proves the result
    scpatch.check("x.ko")                           # is every call right? By this file alone

The functions are imported when they are first used: a build imports this package thousands of
times and needs few of them.
"""

from __future__ import annotations

__version__ = "0.1.0"

__all__ = [
    "Action",
    "Advice",
    "CheckVerdict",
    "FilePlan",
    "FileScan",
    "Hoist",
    "Lines",
    "NamedDiff",
    "NoNop",
    "ObjectDiff",
    "ObjectPlan",
    "ObjectScan",
    "Offsets",
    "Options",
    "Plan",
    "RefusedError",
    "Scan",
    "ScpatchError",
    "Site",
    "Source",
    "StrategyInfo",
    "Stub",
    "Toolchain",
    "Trampoline",
    "Undefined",
    "Verdict",
    "advise",
    "check",
    "diff",
    "list_strategies",
    "plan",
    "read_asm_offsets",
    "rewrite",
    "scan",
    "verify",
    "verify_link",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scpatch.advisor import Advice
    from scpatch.api import *
    from scpatch.differ.model import ObjectDiff
    from scpatch.verifier.check import CheckVerdict
    from scpatch.verifier.tools import Toolchain
    from scpatch.verifier.verdict import Verdict
else:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        module = import_module(f"{__name__}.{_HOMES.get(name, 'api')}")
        value = globals()[name] = getattr(module, name)
        return value


_HOMES = {
    "Advice": "advisor",
    "ObjectDiff": "differ.model",
    "CheckVerdict": "verifier.check",
    "Toolchain": "verifier.tools",
    "Verdict": "verifier.verdict",
}
"""The modules of what `api` does not import."""


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
