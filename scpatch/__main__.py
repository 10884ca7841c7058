"""`python -m scpatch`, and the console script."""

from __future__ import annotations

from scpatch.program import run

_COMPLETE = "_SCPATCH_COMPLETE"
"""Set by a shell that asks what could follow: `scpatch completion`."""


def main() -> None:
    """Runs the command line; does not return."""
    run(_command_line)


def _command_line() -> int:
    import os
    import sys

    import click

    from scpatch.cli import application

    if _COMPLETE in os.environ:
        from typer.completion import completion_init  # type: ignore[attr-defined]

        completion_init()
    arguments = sys.argv[1:]
    if any(argument.startswith("@") for argument in arguments):
        from scpatch.files.selection import expand_response_files

        arguments = expand_response_files(arguments)
    app = application(arguments[0] if arguments else "")
    try:
        # Not in "standalone mode", which handles signals and closed pipes differently.
        return int(app(arguments, prog_name="scpatch", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return error.exit_code


if __name__ == "__main__":
    main()
