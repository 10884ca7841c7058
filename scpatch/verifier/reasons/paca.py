"""The strategy `paca`: the word behind a call loads r2 from the PACA, `ld r2,PACATOC(r13)`.

That is right in the kernel image, where r2 is the same everywhere, and wrong in a module. Unlike a
restore from 24(r1), it needs nothing to be saved before, and does no harm where control comes to
the word without the call: who is in the image's code has this r2 already.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

from scpatch.verifier.objects.insn import decode

_LOAD = re.compile(r"ld r2, (-?(?:0x)?[0-9a-f]+)\(r13\)")


class Restore(NamedTuple):
    """A restore from the PACA. `where` is the place of the call, for messages."""

    where: str
    offset: int


@cache
def offset(word: int) -> int | None:
    """The offset of `ld r2,offset(r13)` in bytes, by capstone's reading; None for another word."""
    match = _LOAD.fullmatch(decode(word))
    return int(match[1], 0) if match else None


def one_offset(restores: Iterable[Restore], wanted: int | None) -> Iterator[str]:
    """One sentence for each restore from elsewhere than the first, or than `wanted`, the offset
    that the user gave."""
    for restore in restores:
        if wanted is None:
            wanted = restore.offset
        if restore.offset != wanted:
            yield f"{restore.where}: r2 is loaded from {restore.offset}(r13), not {wanted}(r13)."
