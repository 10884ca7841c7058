"""The loads of r2 from the PACA: all from one place in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from scpatch.verifier.objects.read import Image, Place
from scpatch.verifier.reasons.interface import Load
from scpatch.verifier.types import SiteProof


def loads_of(image: Image, sites: Iterable[SiteProof]) -> list[Load]:
    """The loads that follow calls."""
    return [
        Load(image.where(Place(site.section, site.offset)), site.paca_toc)
        for site in sites
        if site.paca_toc is not None
    ]


def one_offset(loads: Iterable[Load], wanted: int | None) -> Iterator[str]:
    """One sentence for each load from elsewhere than the first, or than `wanted`, the offset that
    the user gave."""
    for load in loads:
        if wanted is None:
            wanted = load.offset
        if load.offset != wanted:
            yield f"{load.where}: r2 is loaded from {load.offset}(r13), not {wanted}(r13)."
