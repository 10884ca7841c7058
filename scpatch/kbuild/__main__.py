"""What `scpatch-ld` runs for the links that scpatch takes part in: `scpatch-link`.

It does not import the command line's library: a distribution's kernel has thousands of modules, and
each of them starts this program.
"""

from __future__ import annotations

import sys

_AT_START = "--at-start="
"""scpatch-ld calls with it when a make starts; the make's process id follows."""


def main() -> None:
    """Links as the arguments say; does not return."""
    from scpatch.program import run

    run(_link)


def _link() -> int:
    words = sys.argv[1:]
    if words and words[0].startswith(_AT_START):
        from scpatch.kbuild.start import run as start

        return start(words[0].removeprefix(_AT_START), words[1:])
    from scpatch.kbuild.link import run as link

    return link(words)


def _find_package() -> None:
    """Imports the package that this file is in, and no other scpatch. All else is looked for in the
    folder of the package last: Python's own modules are not there."""
    import os

    package = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    sys.path.insert(0, os.path.dirname(package))
    import scpatch  # noqa: F401

    sys.path.append(sys.path.pop(0))


if __name__ == "__main__":
    if not __package__:  # scpatch-ld names the file
        _find_package()
    main()
