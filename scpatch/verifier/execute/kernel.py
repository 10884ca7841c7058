"""What a site finds at r13: a fake PACA, and the running thread's thread_info.

Kernel code keeps the address of the processor's PACA in r13. In the program r13 points at memory
with a pattern in it, and the few fields that a strategy needs, at the offsets of the kernel that
the object is for. If the user has named no offset, r13 points at no memory.

The PACA is read-only while a site runs. The thread_info and the livepatch stack after it are not;
harness.s makes both new for each site and records them with the frame. All sizes and offsets are in
bytes; harness.s has the same numbers.
"""

from __future__ import annotations

import struct
from typing import Final

from scpatch.verifier.objects.variant import STRUCT
from scpatch.verifier.options import KernelOffsets

PACA_SIZE: Final = 32776
"""As far as a load through r13 reaches with its offset of 16 bits."""
THREAD_SIZE: Final = 4096
STACK: Final = 2048
"""In the thread's block: the first doubleword of the livepatch stack, after the end-of-stack mark.
The thread_info is at the block's start."""
STACK_END_MAGIC: Final = 0x57AC6E9D
"""include/uapi/linux/magic.h; it is below whatever is on the livepatch stack."""

# Addresses that nothing is mapped at, as in state.py.
_PACA = 0x340000000000
_THREAD = 0x350000000000


def make_paca(offsets: KernelOffsets, toc: int, thread: int) -> bytes:
    """The PACA, PACA_SIZE bytes, with `toc` and the address `thread` where they belong.

    Raises ValueError for an offset that no instruction could have.
    """
    block = _pattern(_PACA, PACA_SIZE)
    _put(block, offsets.paca_toc, toc)
    _put(block, offsets.paca_thread_info, thread)
    return bytes(block)


def make_thread(offsets: KernelOffsets, address: int) -> bytes:
    """The thread's block, THREAD_SIZE bytes, for the address that it is at.

    Raises ValueError for an offset of the livepatch stack pointer that is not in the thread_info.
    """
    block = _pattern(_THREAD, THREAD_SIZE)
    if offsets.livepatch_sp is not None:
        if offsets.livepatch_sp > STACK - 16:
            raise ValueError(f"TI_livepatch_sp {offsets.livepatch_sp} is outside the thread_info")
        _put(block, STACK - 8, STACK_END_MAGIC)
        _put(block, offsets.livepatch_sp, address + STACK)
    return bytes(block)


def _pattern(start: int, size: int) -> bytearray:
    numbers = range(start, start + size, 8)
    return bytearray(struct.pack(f"{STRUCT}{len(numbers)}Q", *numbers))


def _put(block: bytearray, offset: int | None, value: int) -> None:
    if offset is None:
        return
    if not 0 <= offset <= len(block) - 8:
        raise ValueError(f"the offset {offset} is out of reach")
    struct.pack_into(f"{STRUCT}Q", block, offset, value)
