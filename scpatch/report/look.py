"""What the user chose of how reports look. The command line reads it at each start."""

from enum import StrEnum
from typing import Final, NamedTuple


class Color(StrEnum):
    """When a report has colours."""

    AUTO = "auto"
    """As the environment says, else on a terminal."""
    ALWAYS = "always"
    NEVER = "never"


class Look(NamedTuple):
    """What the user chose of how text looks."""

    color: Color = Color.AUTO
    wide: bool = False
    """Whether names are never shortened."""
    pager: bool = True
    """Whether a report that is longer than the terminal goes to a pager."""


DEFAULT_LOOK: Final = Look()
