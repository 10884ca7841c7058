"""`python -m scpatch`, and the console script."""

from __future__ import annotations

from scpatch.program import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from scpatch.options import UsageError

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
    from scpatch.command_line import read
    from scpatch.options import UsageError

    command = None if _COMPLETE in os.environ else read(arguments)
    if command is None:
        return _with_click(arguments)
    try:
        return command()
    except UsageError as error:
        return _with_click(arguments, error)


def _with_click(arguments: Sequence[str], error: UsageError | None = None) -> int:
    """Lets click read the command line, or show the error of one that was read without it."""
    import os

    import click

    from scpatch.cli import application, context_of, with_usage

    if _COMPLETE in os.environ:
        from typer.completion import completion_init  # type: ignore[attr-defined]

        completion_init()
    try:
        if error is not None:
            raise with_usage(error, context_of(arguments[0]))
        # Not in "standalone mode", which handles signals and closed pipes differently.
        app = application(arguments[0] if arguments else "")
        return int(app(arguments, prog_name="scpatch", standalone_mode=False) or 0)
    except click.ClickException as failed:
        failed.show()
        return failed.exit_code


if __name__ == "__main__":
    main()
