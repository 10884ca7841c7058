"""Tells whoever waits what the verifier is doing. Without a listener it costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[str, int, int], None]
"""Is told the name of the phase, how many calls are done, and how many there are; 0 of 0 if the
phase does not go call by call."""

_listeners: list[Listener] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Has the listener told of each phase that begins, and of each call that is done."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def mute() -> None:
    """Tells nobody any more: a forked process has no terminal of its own."""
    _listeners.clear()


def enter(name: str, done: int = 0, total: int = 0) -> None:
    """Says what begins now, or how far it is."""
    for listener in _listeners:
        listener(name, done, total)
