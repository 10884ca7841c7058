"""What a caller may tell the verifier, and what it takes for a file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from scpatch.verifier.tools import USUAL, Toolchain

Source = str | os.PathLike[str] | bytes
"""A path, or the content of a file."""


@dataclass(frozen=True, slots=True)
class KernelOffsets:
    """Offsets in the kernel that the object is for, as in its asm-offsets.h; None: unknown."""

    paca_toc: int | None = None
    """PACATOC, from r13."""
    paca_thread_info: int | None = None
    """PACA_THREAD_INFO, from r13."""
    livepatch_sp: int | None = None
    """TI_livepatch_sp, from the thread_info."""


NO_OFFSETS: Final = KernelOffsets()


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """What the verifier has to know of two files, or of an image."""

    trampolines: tuple[str, ...] = ("__SCT__*",)
    """Shell patterns of trampoline names."""
    offsets: KernelOffsets = NO_OFFSETS
    """Loads from the PACA must have these offsets. Those that are unknown are taken from the code,
    and must be the same everywhere."""
    for_kernel: bool = False
    """The object is for a kernel or a module, where nothing preempts a function."""
    toolchain: Toolchain = USUAL

    def __post_init__(self) -> None:
        if isinstance(self.trampolines, str):
            raise ValueError(f"trampolines is {self.trampolines!r}, not a sequence of patterns")
        object.__setattr__(self, "trampolines", tuple(self.trampolines))


DEFAULTS: Final = VerifyOptions()
