"""The diagnostics of the strategy `callsite`."""

from scpatch.diagnostics import Diagnostic

DIAGNOSTICS = {
    "SCP245": Diagnostic(
        "a stub for a weak undefined trampoline",
        "The trampoline is undefined here, and weak. If no other object defines it, GNU ld "
        "turns each branch to it into a nop, including the `b` that ends a stub. The stub "
        "would then run on into the next stub and call another trampoline. lld turns that "
        "`b` into a branch to itself. Calls that need no stub are correct.",
        "first link the object (`ld -r`) with the one that defines the trampoline, or "
        "declare it without `weak`",
    ),
}
