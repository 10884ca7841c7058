"""What the search for saves asks of code, be it an object's or a linked image's."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Protocol

from scpatch.verifier.objects.insn import CallEffect
from scpatch.verifier.objects.read import Image, Place, Rela


class SearchedCode(Protocol):
    """Instructions, and what calls among them do."""

    @property
    def image(self) -> Image: ...

    @property
    def branches(self) -> Mapping[Place, tuple[Rela, Place]]:
        """The branches that a relocation directs."""
        ...

    def words(self, section: int) -> array[int]:
        """The instruction words of a section."""
        ...

    def word(self, place: Place) -> int:
        """The instruction word at `place`; 0 (no instruction) outside the section."""
        ...

    def is_static_call(self, place: Place) -> bool:
        """Whether the instruction is a call of a trampoline."""
        ...

    def call_effect(self, place: Place) -> CallEffect | None:
        """What the call at `place` does to r2; None if the instruction is no call."""
        ...

    def thunk_return(self, place: Place) -> Place | None:
        """The branch to `place` at the end of the thunk that the instruction before it calls."""
        ...
