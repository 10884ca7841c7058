"""Writes the man pages, scpatch(1) and scpatch-ld(1), from the tables behind the help.

    python docs/man/generate.py [FOLDER]

A test compares the pages here with what this writes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from scpatch import __version__
from scpatch.commands import COMMANDS, KBUILD, KBUILD_TEXT, TEXT, Command
from scpatch.errors import Exit
from scpatch.help import BUILD_VARIABLES, Rows, grouped, strategy_rows, variables
from scpatch.kbuild.settings import OPTIONS, spelling
from scpatch.options import Parameter

_EXIT = {
    Exit.OK: "Done, or nothing to do.",
    Exit.ERROR: "An error; nothing was written.",
    Exit.USAGE: "The command line is wrong.",
    Exit.REFUSED: "A call site was refused.",
}


def main() -> None:
    folder = Path(sys.argv[1] if sys.argv[1:] else __file__).absolute()
    folder = folder if folder.is_dir() else folder.parent
    for name, lines in (("scpatch", _scpatch()), ("scpatch-ld", _scpatch_ld())):
        (folder / f"{name}.1").write_text("\n".join(lines) + "\n")


def _scpatch() -> Iterator[str]:
    yield from _head("scpatch", TEXT)
    yield ".SH SYNOPSIS"
    yield r"\fBscpatch\fR \fICOMMAND\fR [\fIOPTION\fR]... \fIARGUMENT\fR..."
    yield ".SH DESCRIPTION"
    yield from _paragraphs(
        f"{TEXT} `scpatch explain` describes the strategies and the diagnostics.\n\n"
        "`scpatch --version` prints the version, `--help` the help of any command."
    )
    yield ".SH COMMANDS"
    for name, command in COMMANDS.items():
        yield from _command(name, command)
    for name, command in KBUILD.items():
        if not command.hidden:
            yield from _command(f"kbuild {name}", command)
    every = [option for command in COMMANDS.values() for option in command.parameters]
    yield from _rows("STRATEGIES", strategy_rows(every))
    yield from _rows("ENVIRONMENT", variables(every))
    yield ".SH EXIT STATUS"
    yield from _exit_status()
    yield from _see_also("scpatch-ld")


def _scpatch_ld() -> Iterator[str]:
    yield from _head("scpatch-ld", "The linker of a kernel build, with scpatch in it.")
    yield ".SH SYNOPSIS"
    yield r"\fBscpatch\-ld\fR [\fIOPTION\fR]... \fILINKER\fR [\fIARGUMENT\fR]..."
    yield ".SH DESCRIPTION"
    yield from _paragraphs(KBUILD_TEXT)
    yield ".SH OPTIONS"
    for group, options in grouped(OPTIONS):
        yield from (".PP", f"{group}:")
        for option in options:
            yield from (".TP", rf"\fB{_text(spelling(option))}\fR", _text(option.full_help))
    yield from _rows("STRATEGIES", strategy_rows(OPTIONS))
    yield from _rows("ENVIRONMENT", BUILD_VARIABLES)
    yield ".SH EXIT STATUS"
    yield "That of the linker. If scpatch ends before the linker runs:"
    yield from _exit_status()
    yield from _see_also("scpatch")


def _head(name: str, text: str) -> Iterator[str]:
    yield r".\" Written by docs/man/generate.py; change the help instead."
    yield f'.TH {_text(name).upper()} 1 "" "scpatch {__version__}" "User Commands"'
    yield ".SH NAME"
    yield rf"{_text(name)} \- {_text(text[0].lower() + text[1:].rstrip('.'))}"


def _exit_status() -> Iterator[str]:
    for code, text in _EXIT.items():
        yield from (".TP", str(int(code)), text)


def _see_also(other: str) -> Iterator[str]:
    yield ".SH SEE ALSO"
    yield rf"\fB{_text(other)}\fR(1)"


def _command(name: str, command: Command) -> Iterator[str]:
    arguments = [parameter for parameter in command.parameters if parameter.is_argument]
    words = ["scpatch", name]
    if len(arguments) < len(command.parameters):
        words.append("[OPTION]...")
    words += [entry.metavar if entry.required else f"[{entry.metavar}]" for entry in arguments]
    yield f".SS {_text(' '.join(words))}"
    yield from _paragraphs(command.text)
    yield from _described(arguments)
    for group, options in grouped(command.parameters):
        yield from (".PP", f"{group}:")
        yield from _described(options)


def _described(parameters: Iterable[Parameter]) -> Iterator[str]:
    for parameter in parameters:
        yield from (".TP", _heading(parameter), _text(parameter.full_help))


def _rows(title: str, rows: Rows) -> Iterator[str]:
    yield f".SH {title}"
    for name, text in dict(rows).items():
        yield from (".TP", rf"\fB{_text(name)}\fR", _text(text))


def _heading(parameter: Parameter) -> str:
    """The names of an option and of its value, or the name of an argument."""
    if parameter.is_argument:
        return rf"\fI{_text(parameter.metavar)}\fR"
    names = [name for name in (parameter.short, parameter.flag, parameter.off_flag) if name]
    flags = ", ".join(rf"\fB{_text(name)}\fR" for name in names)
    return flags if parameter.kind is bool else rf"{flags} \fI{_text(parameter.value_name)}\fR"


def _paragraphs(text: str) -> Iterator[str]:
    """Paragraphs as the help has them: lines after a line `\\b` stay as they are."""
    for paragraph in text.split("\n\n"):
        yield ".PP"
        if paragraph.startswith("\b\n"):
            lines: Iterable[str] = paragraph.splitlines()[1:]
            yield from (".nf", *map(_text, lines), ".fi")
        else:
            yield _text(" ".join(paragraph.split()))


def _text(text: str) -> str:
    """Escapes a line of text; what is between backquotes becomes bold."""
    text = text.replace("\\", r"\e").replace("-", r"\-").replace("  ", " ")
    text = re.sub("`([^`]*)`", r"\\fB\1\\fR", text)
    return rf"\&{text}" if text.startswith((".", "'")) else text


if __name__ == "__main__":
    main()
