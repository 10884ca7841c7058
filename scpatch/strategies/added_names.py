"""Names of code that is added for a trampoline: `r2WORD.TRAMPOLINE.DIGEST`, or `r2WORD.DIGEST`."""

from __future__ import annotations


def added_name(prefix: str, trampoline: str, digest: str) -> str:
    """The name of code that is added for a trampoline. Linkers read a symbol version in what
    follows an `@`, so the trampoline's own `@` is written as `%40`, and `%` as `%25`."""
    return f"{prefix}{trampoline.replace('%', '%25').replace('@', '%40')}.{digest}"


def trampoline_of(name: str, prefix: str) -> str:
    """The trampoline in such a name, which ends in a dot and twelve digits."""
    return name[len(prefix) : -13].replace("%40", "@").replace("%25", "%")
