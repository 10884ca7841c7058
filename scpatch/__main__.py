"""`python -m scpatch`, and the console script."""

from __future__ import annotations

import gc
import os
import signal
import sys

from scpatch.errors import Exit, ScpatchError


def main() -> None:
    """Runs the command line; every error ends here, as one message and an exit code."""
    # Tables of tens of thousands of rows live until the end: looking at them again and again for
    # cycles costs a tenth of a run and finds none.
    gc.set_threshold(100_000)
    # Names in an object need not be text; they must not stop the report that shows them.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    # As an exception, so that temporary files go when the build is stopped.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _terminated)
    from scpatch.cli import application

    try:
        application(sys.argv[1] if sys.argv[1:] else "")(prog_name="scpatch")
    except ScpatchError as error:
        from scpatch.report.messages import print_error

        print_error(error)
        sys.exit(Exit.ERROR)
    except BrokenPipeError:
        # The reader of the report has gone; what is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    finally:
        # At its end the interpreter looks for cycles in all that was ever imported: a sixth of the
        # time that a small object takes. The end of the process frees it as well. LIEF's binding
        # takes what is not found for leaks, and tells them on stderr.
        if "lief" not in sys.modules:
            gc.freeze()


def _terminated(number: int, _frame: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
