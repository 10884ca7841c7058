"""`scpatch completion`: the script that completes the command line in a shell."""

from __future__ import annotations

from scpatch.errors import Exit
from scpatch.options import Values


def run(values: Values) -> Exit:
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    script = get_completion_script(
        prog_name="scpatch", complete_var="_SCPATCH_COMPLETE", shell=values.shell.value
    )
    print(script)
    return Exit.OK
