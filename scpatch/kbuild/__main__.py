"""What `scpatch-ld` runs for the links that scpatch takes part in: `scpatch-link`.

It does not import the command line's library: a distribution's kernel has thousands of modules, and
each of them starts this program.
"""

from __future__ import annotations

from scpatch.program import run


def main() -> None:
    """Links as the arguments say; does not return."""
    run(_link)


def _link() -> int:
    import sys

    from scpatch.kbuild.link import run as link

    return link(sys.argv[1:])


if __name__ == "__main__":
    main()
