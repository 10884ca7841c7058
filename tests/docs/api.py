"""Writes what `import scpatch` gives into docs/reference/api.md: `python -m tests.docs.api`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from enum import Enum

import scpatch
from tests.bench.page import write_section
from tests.tools import ROOT

PAGE = ROOT / "docs" / "reference" / "api.md"
SECTION = "tests.docs.api"


def lines() -> list[str]:
    """The section as Markdown: functions first, then types, each in alphabetical order."""
    members = {name: getattr(scpatch, name) for name in sorted(scpatch.__all__)}
    functions = {name: value for name, value in members.items() if inspect.isfunction(value)}
    classes = {name: value for name, value in members.items() if inspect.isclass(value)}
    text = ["## Functions"]
    for name, function in functions.items():
        text += ["", f"### {name}", "", "```text", *signature(name, function), "```", ""]
        text += docstring(function)
    text += ["", "## Types"]
    for name, kind in classes.items():
        text += ["", f"### {name}", "", *docstring(kind), *contents(kind)]
    return text


def signature(name: str, function: Callable[..., object]) -> list[str]:
    """The call of a function, one parameter a line."""
    called = inspect.signature(function)
    # A string, but in modules that do without `from __future__ import annotations`.
    result = getattr(called.return_annotation, "__name__", called.return_annotation)
    parameters, starred = [], False
    for parameter in called.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            parameters.append("    *,")
            starred = True
        default = parameter.default
        shown = parameter.replace(default=parameter.empty)
        value = "Options()" if isinstance(default, scpatch.Options) else repr(default)
        after = "" if default is parameter.empty else f" = {value}"
        parameters.append(f"    {shown}".replace("'", "") + f"{after},")
    if not parameters:
        return [f"{name}() -> {result}"]
    return [f"{name}(", *parameters, f") -> {result}"]


def docstring(value: object) -> list[str]:
    """Its docstring; nothing for the one that a named tuple or dataclass makes up."""
    text = inspect.getdoc(value) or ""
    return [] if re.match(r"\w+\(", text) else text.splitlines()


def contents(kind: type) -> Iterator[str]:
    """The values of an enum, or the fields and properties of any other class."""
    if issubclass(kind, Enum):
        names = [f"`{member.value}`" for member in kind]
    else:
        fields = [name for base in reversed(kind.__mro__) for name in inspect.get_annotations(base)]
        fields += [name for name, value in vars(kind).items() if isinstance(value, property)]
        names = [f"`{name}`" for name in dict.fromkeys(fields) if not name.startswith("_")]
    if names:
        yield from ["", f"{'Values' if issubclass(kind, Enum) else 'Fields'}: {', '.join(names)}."]


if __name__ == "__main__":
    write_section(PAGE, SECTION, lines())
