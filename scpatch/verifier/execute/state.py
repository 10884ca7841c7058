"""The values that a site starts with, and the records that go to and from harness.s.

Kernel code keeps the address of the processor's PACA in r13. In the program r13 points at a fake
PACA: memory with a pattern in it, and the few fields that a strategy needs, at the offsets of the
kernel that the object is for. If the user has named no offset, r13 points at no memory.

The PACA is read-only while a site runs. The thread_info and the livepatch stack after it are not;
harness.s makes both new for each site and records them with the frame. All sizes and offsets are in
bytes; harness.s has the same numbers.

All that goes to and from harness.s consists of doublewords. Here they are little-endian; `run`
gives them the byte order of the program. Of a vector register, each half is a doubleword.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache
from typing import Final, NamedTuple

from scpatch.verifier.options import KernelOffsets

_STRUCT: Final = "<"
BYTE_ORDER: Final = "little"
_KINDS = {"r": (0, 8), "f": (288, 8), "v": (544, 16)}
"""Where a register block has general, floating-point and vector registers, and their size."""
_CR_NUMBER = 32
"""CR follows r31."""
_REG_SIZE = 1056
FRAME_SIZE: Final = 4096
FRAME_R1: Final = 1024
BELOW_R1: Final = 512
RANGES: Final = 16
_PACA_SIZE = 32776
"""As far as a load through r13 reaches with its offset of 16 bits."""
_THREAD_SIZE = 4096
STACK: Final = 2048
"""In the thread's block, which starts with the thread_info: the first doubleword of the livepatch
stack, after the end-of-stack mark."""
STACK_END_MAGIC: Final = 0x57AC6E9D
"""include/uapi/linux/magic.h; it is below whatever is on the livepatch stack."""
_SNAPSHOT = struct.Struct(f"{_REG_SIZE}s{FRAME_SIZE}s{_THREAD_SIZE}s")
_NUMBERS = struct.Struct(f"{_STRUCT}7Q8x")
RECORDING_SIZE: Final = _NUMBERS.size + 2 * _SNAPSHOT.size
READY: Final = b"SCPREADY"

# The values are addresses that nothing is mapped at, neither on hardware nor inside QEMU, so that
# a load or store through one faults. The register's number is in them, to recognise it.
_GPR = 0x2C00C0DE0000
_GPR_WRECKED = 0x2D00DEAD0000
_FPR = 0x4C00C0DE0000
_FPR_WRECKED = 0x4D00DEAD0000
_VR = 0x6C00C0DE0000
_VR_WRECKED = 0x6D00DEAD0000
_FRAME = 0x2F0000000000
_PACA = 0x340000000000
_THREAD = 0x350000000000
_STEP = 0x000100000101
NOT_SAVED: Final = 0x2E18BAD00018
"""The value at 24(r1) if the caller has not saved r2."""
_CR = 0xA5A5A5A5
_CR_WRECKED = 0x5A5A5A5A
_XER = 0xA0000000
_XER_WRECKED = 0x40000000
LR: Final = 0x2C4CC0DE0000
"""The caller's return address; nothing is there."""
_CTR_WRECKED = 0x2D4DDEAD0000


class Harness(NamedTuple):
    """The addresses in the program that harness.s gives in its table."""

    toc: int
    """The program's TOC pointer."""
    hostile: int
    back: int
    either: int
    loader_stub: int
    load_target: int
    frame: int
    fake_paca: int
    thread: int


class Snapshot(NamedTuple):
    """Registers and memory at one moment."""

    registers: bytes
    """A register block."""
    frame: bytes
    thread: bytes
    """The block of `make_thread`."""


class Recording(NamedTuple):
    """What harness.s has recorded at one site."""

    status: int
    """0: control came back; else a signal number, or STATUS_PLANT + errno."""
    fault: int
    """The address that could not be accessed."""
    pc: int
    """Where that happened."""
    hits: int
    """How often the target was reached."""
    inner_hits: int
    """How often the target of the target's own static call was reached."""
    inner_toc: int
    """r2 after that call."""
    interrupts: int
    arrival: Snapshot
    """At the target."""
    final: Snapshot
    """When control came back."""


def _pattern(start: int, size: int) -> bytearray:
    return bytearray(pack_words(range(start, start + size, 8)))


def _put(block: bytearray, offset: int | None, value: int) -> None:
    if offset is None:
        return
    if not 0 <= offset <= len(block) - 8:
        raise ValueError(f"the offset {offset} is out of reach")
    block[offset : offset + 8] = pack_words([value])


def make_paca(offsets: KernelOffsets, toc: int, thread: int) -> bytes:
    """The PACA, with `toc` and the address `thread` where they belong.

    Raises ValueError for an offset that no instruction could have.
    """
    block = _pattern(_PACA, _PACA_SIZE)
    _put(block, offsets.paca_toc, toc)
    _put(block, offsets.paca_thread_info, thread)
    return bytes(block)


@cache
def make_thread(offsets: KernelOffsets, address: int) -> bytes:
    """The thread's block for the address that it is at.

    Raises ValueError for an offset of the livepatch stack pointer that is not in the thread_info.
    """
    block = _pattern(_THREAD, _THREAD_SIZE)
    if offsets.livepatch_sp is not None:
        if offsets.livepatch_sp > STACK - 16:
            raise ValueError(f"TI_livepatch_sp {offsets.livepatch_sp} is outside the thread_info")
        _put(block, STACK - 8, STACK_END_MAGIC)
        _put(block, offsets.livepatch_sp, address + STACK)
    return bytes(block)


def _block(gpr: list[int], cr: int, lr: int, ctr: int, xer: int, fpr: int, vr: int) -> bytes:
    """Pack a register block; `fpr` and `vr` are the patterns of register 0."""
    fprs = [fpr + n * _STEP for n in range(32)]
    vrs = [half for n in range(32) for half in (vr + n * _STEP, vr + n * _STEP + 0x80)]
    return struct.pack(f"{_STRUCT}132Q", *gpr, cr, lr, ctr, xer, *fprs, *vrs)


@cache
def initial_registers(harness: Harness, offsets: KernelOffsets) -> bytes:
    """The registers at a site."""
    gpr = [_GPR + n * _STEP for n in range(32)]
    gpr[1] = harness.frame + FRAME_R1
    gpr[2] = harness.toc
    if (offsets.paca_toc, offsets.paca_thread_info) != (None, None):
        gpr[13] = harness.fake_paca
    return _block(gpr, _CR, LR, 0, _XER, _FPR, _VR)


@cache
def wrecked_registers() -> bytes:
    """The registers as the target leaves them. Only the volatile registers are used."""
    gpr = [_GPR_WRECKED + n * _STEP for n in range(32)]
    return _block(gpr, _CR_WRECKED, 0, _CTR_WRECKED, _XER_WRECKED, _FPR_WRECKED, _VR_WRECKED)


@cache
def frame_at_site() -> bytes:
    """The watched memory when the site is entered, except 24(r1), which the site's record sets."""
    return pack_words(range(_FRAME, _FRAME + FRAME_SIZE, 8))


def frame_after_target(arrived: bytes) -> bytes:
    """What the target makes of the watched memory: see `hostile` in harness.s."""
    frame = bytearray(arrived)
    for start, end in (-BELOW_R1, 0), (8, 24), (32, 96):
        wreck = pack_words([_GPR_WRECKED]) * ((end - start) // 8)
        frame[FRAME_R1 + start : FRAME_R1 + end] = wreck
    return bytes(frame)


def pack_words(words: Sequence[int]) -> bytes:
    """Doublewords as they are in memory."""
    return struct.pack(f"{_STRUCT}{len(words)}Q", *words)


def unpack_words(memory: bytes) -> tuple[int, ...]:
    return struct.unpack(f"{_STRUCT}{len(memory) // 8}Q", memory)


def pack_config(
    harness: Harness, offsets: KernelOffsets, image: list[tuple[int, int]], limit: float
) -> bytes:
    """The configuration. `image` is [(address, size)] to protect, `limit` is in seconds."""
    protected = [number for pair in (*image, (harness.fake_paca, _PACA_SIZE)) for number in pair]
    protected += [0] * (2 * RANGES - len(protected))
    seconds = int(limit)
    timer = (0, 0, seconds, int((limit - seconds) * 1e6))
    return b"".join(
        [
            initial_registers(harness, offsets),
            wrecked_registers(),
            frame_at_site(),
            make_thread(offsets, harness.thread),
            pack_words([*protected, *timer]),
            make_paca(offsets, harness.toc, harness.thread),
        ]
    )


def register(block: bytes, kind: str, number: int) -> int:
    """The value of a register: `kind` is r, f or v (128 bits), or cr for a field of CR (4 bits)."""
    if kind == "cr":
        return register(block, "r", _CR_NUMBER) >> 28 - 4 * number & 15
    start, size = _KINDS[kind]
    at = start + size * number
    return int.from_bytes(block[at : at + size], BYTE_ORDER)


def row(block: bytes, kind: str, numbers: range) -> bytes:
    """The bytes of registers of one kind, but of CR."""
    start, size = _KINDS[kind]
    return block[start + size * numbers.start : start + size * numbers.stop]


def unpack_recording(data: bytes) -> Recording:
    """Unpack RECORDING_SIZE bytes as written by harness.s."""
    numbers: tuple[int, int, int, int, int, int, int] = _NUMBERS.unpack_from(data)
    arrival, final = (
        Snapshot(*snapshot) for snapshot in _SNAPSHOT.iter_unpack(data[_NUMBERS.size :])
    )
    return Recording(*numbers, arrival, final)
