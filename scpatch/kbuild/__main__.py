"""What `scpatch-ld` runs for the links that scpatch takes part in: `scpatch-link`.

A program of its own, without the command line's library: a distribution's kernel has thousands of
modules, and each comes here.
"""

from __future__ import annotations

import gc
import signal
import sys

from scpatch.errors import Exit, ScpatchError


def main() -> None:
    """Links as the arguments say; every error ends here, as one message and an exit code."""
    gc.set_threshold(100_000)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    # As an exception, so that temporary files go when the build is stopped.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _terminated)
    try:
        from scpatch.kbuild.link import run

        status = run(sys.argv[1:])
    except ScpatchError as error:
        from scpatch.report.messages import print_error

        print_error(error)
        status = getattr(error, "status", Exit.ERROR)
    except ModuleNotFoundError as error:
        print(
            f"scpatch: {sys.executable} has no module {error.name}\n\n"
            "hint: install scpatch with pip; in a checkout, SCPATCH_PYTHON names the Python\n",
            file=sys.stderr,
        )
        status = Exit.ERROR
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    finally:
        # As in `scpatch.__main__`: a search for cycles at the end would find none.
        gc.freeze()
    sys.exit(status)


def _terminated(number: int, _frame: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
