"""Makes a failing program smaller by leaving out statements, one after the other."""

from __future__ import annotations

from collections.abc import Callable

from tests.fuzz.programs.generate import Program
from tests.fuzz.programs.statements import CLOSE, OPEN


def spans(text: str) -> list[tuple[int, int]]:
    """Where the statements are in a unit's text, the largest first."""
    spans: list[tuple[int, int]] = []
    opened: list[int] = []
    at = 0
    while (at := text.find("/*", at)) >= 0:
        if text.startswith(OPEN, at):
            opened.append(at)
        elif text.startswith(CLOSE, at):
            spans.append((opened.pop(), at + len(CLOSE)))
        at += 2
    return sorted(spans, key=lambda span: span[0] - span[1])


def shrink(program: Program, fails: Callable[[Program], bool], attempts: int = 300) -> Program:
    """A smaller program that still fails, after at most so many attempts."""
    smaller = True
    while smaller:
        smaller = False
        for unit in ("unit_a", "unit_b"):
            dropped = 0
            while dropped < len(places := spans(text := getattr(program, unit))):
                if attempts <= 0:
                    return program
                start, end = places[dropped]
                candidate = program._replace(**{unit: text[:start] + ";" + text[end:]})
                attempts -= 1
                if fails(candidate):
                    program, smaller = candidate, True
                else:
                    dropped += 1
    return program
