"""Reads an ordinary command line without click, whose import takes as long as a small object.

Whatever is not plainly right (help, an error, a form that only click knows) is left to click, which
reads it by the same tables.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module

from scpatch.commands import COMMANDS, KBUILD, Command
from scpatch.errors import Exit
from scpatch.options import Parameter, UsageError, Value, Values
from scpatch.program import ReportError


def read(words: Sequence[str]) -> Callable[[], int] | None:
    """What does as the words say and returns the exit code; None if click has to read them."""
    if list(words[:2]) == ["kbuild", "step"]:
        # A build in the tree starts it for each module. The rest is for `kbuild.settings` to read.
        return partial(run, "kbuild", "step", KBUILD["step"], Values(files=tuple(words[2:])))
    command = COMMANDS.get(words[0]) if words else None
    if command is None or command.hidden:
        return None
    try:
        values = _values(command.parameters, words[1:])
    except UsageError:
        return None
    return None if values is None else partial(run, "commands", words[0], command, values)


def _values(parameters: Sequence[Parameter], words: Sequence[str]) -> Values | None:
    """As `read`. Raises UsageError for a value that is not valid."""
    options = {p.flag: p for p in parameters if not p.is_argument}
    options |= {p.short: p for p in parameters if p.short}
    off = {p.off_flag: p for p in parameters if p.off_flag}
    values: dict[str, object] = {p.name: p.initial for p in parameters}
    arguments: list[str] = []
    rest = iter(words)
    for word in rest:
        if word in off:
            values[off[word].name] = False
            continue
        if not word.startswith("-") or word == "-":
            arguments.append(word)
            continue
        flag, equals, text = word.partition("=")
        option = options.get(flag)
        if option is None or (equals and (option.kind is bool or flag == option.short)):
            return None
        value: Value = True
        if option.kind is not bool:
            text = text if equals else next(rest, "")
            if text != "-" and text.startswith("-"):
                return None
            value = option.read(text)
        _put(values, option, value)
    return _with_arguments(values, [p for p in parameters if p.is_argument], arguments)


def _put(values: dict[str, object], parameter: Parameter, value: Value) -> None:
    if parameter.repeatable:
        before = values[parameter.name]
        assert isinstance(before, tuple)
        values[parameter.name] = (*before, value)
    else:
        values[parameter.name] = value


def _with_arguments(
    values: dict[str, object], parameters: Sequence[Parameter], words: Sequence[str]
) -> Values | None:
    if parameters and parameters[-1].repeatable:
        if len(parameters) > 1 or (parameters[0].required and not words):
            return None
        parameters = [parameters[0]] * len(words)
    required = sum(parameter.required for parameter in parameters)
    if not required <= len(words) <= len(parameters):
        return None
    for parameter, word in zip(parameters, words, strict=False):
        _put(values, parameter, parameter.read(word))
    return Values(**values)


def run(package: str, name: str, command: Command, values: Values) -> int:
    """Runs a command; returns its exit code. Raises what it raises."""
    module = import_module(f"scpatch.{package}.{name}")
    try:
        status = int(module.run(values))
        if command.reads_only:
            sys.stdout.flush()  # a failure here is no finding
        return status
    except UsageError as error:
        above = "" if package == "commands" else f"{package} "
        raise error.with_hint(f"scpatch {above}{name}") from None
    except Exception as error:
        if not command.reads_only:
            raise
        from scpatch.report.errors import as_message

        message = error.message() if isinstance(error, ReportError) else as_message(error)
        message.status = Exit.USAGE
        raise message from error
