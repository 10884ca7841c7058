"""What comes out of a run."""

from __future__ import annotations

from dataclasses import dataclass

from scpatch.verifier.types import CallSite


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one site ran. It passed if there is no reason against it."""

    site: CallSite
    reached: bool
    """The trampoline's target was reached."""
    reasons: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.reasons
