"""`python -m scpatch`, and the console script."""

from __future__ import annotations

from scpatch.program import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_COMPLETE = "_SCPATCH_COMPLETE"
"""Set by a shell that asks what could follow: `scpatch completion`."""


def main() -> None:
    """Runs the command line; does not return."""
    run(_command_line)


def _command_line() -> int:
    import os
    import sys

    arguments = sys.argv[1:]
    if any(argument.startswith("@") for argument in arguments):
        from scpatch.files.selection import expand_response_files

        arguments = expand_response_files(arguments)
    if arguments == ["--version"]:
        from scpatch import __version__

        print(f"scpatch {__version__}")  # without click, as the rest that is read below
        return 0
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    from scpatch.command_line import read

    command = None if _COMPLETE in os.environ else read(arguments)
    return _with_click(arguments) if command is None else command()


def _with_click(arguments: Sequence[str]) -> int:
    """Lets click read the command line."""
    import os

    import click

    from scpatch.cli import application, usage_error

    if _COMPLETE in os.environ:
        from typer.completion import completion_init  # type: ignore[attr-defined]

        completion_init()
    try:
        # Not in "standalone mode", which handles signals and closed pipes differently.
        app = application(arguments[0] if arguments else "")
        return int(app(arguments, prog_name="scpatch", standalone_mode=False) or 0)
    except click.ClickException as error:
        raise usage_error(error) from None


if __name__ == "__main__":
    main()
