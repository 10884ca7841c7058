"""The values that a site starts with, and the records that go to and from harness.s.

All sizes and offsets are in bytes; harness.s has the same numbers.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache
from typing import Final, NamedTuple

from scpatch.verifier.execute.kernel import PACA_SIZE, THREAD_SIZE, make_paca, make_thread
from scpatch.verifier.objects.variant import STRUCT
from scpatch.verifier.options import KernelOffsets

REG_CR: Final = 256
REG_FPR: Final = 288
REG_VR: Final = 544
REG_SIZE: Final = 1056
FRAME_SIZE: Final = 4096
FRAME_R1: Final = 1024
BELOW_R1: Final = 512
RANGES: Final = 16
_SNAPSHOT_SIZE = REG_SIZE + FRAME_SIZE + THREAD_SIZE
_NUMBERS = struct.Struct(f"{STRUCT}7Q8x")
RECORDING_SIZE: Final = _NUMBERS.size + 2 * _SNAPSHOT_SIZE
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


class Registers(NamedTuple):
    """One register block, unpacked. Vector registers are 128-bit numbers."""

    gpr: tuple[int, ...]
    cr: int
    fpr: tuple[int, ...]
    vr: tuple[int, ...]

    def by_kind(self) -> dict[str, tuple[int, ...]]:
        """The registers by the letters of their names. cr0 to cr7 have four bits each; cr0 holds
        the highest bits."""
        fields = tuple(self.cr >> shift & 15 for shift in range(28, -1, -4))
        return {"r": self.gpr, "f": self.fpr, "v": self.vr, "cr": fields}


class Snapshot(NamedTuple):
    """Registers and memory at one moment."""

    registers: Registers
    frame: bytes
    thread: bytes
    """The thread's block; see kernel.py."""


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


def _block(gpr: list[int], cr: int, lr: int, ctr: int, xer: int, fpr: int, vr: int) -> bytes:
    """Pack a register block; `fpr` and `vr` are the patterns of register 0."""
    fprs = [fpr + n * _STEP for n in range(32)]
    vrs = [half for n in range(32) for half in (vr + n * _STEP, vr + n * _STEP + 0x80)]
    return struct.pack(f"{STRUCT}132Q", *gpr, cr, lr, ctr, xer, *fprs, *vrs)


def _initial_block(harness: Harness, offsets: KernelOffsets) -> bytes:
    """The registers at a site."""
    gpr = [_GPR + n * _STEP for n in range(32)]
    gpr[1] = harness.frame + FRAME_R1
    gpr[2] = harness.toc
    if offsets.has_paca:
        gpr[13] = harness.fake_paca
    return _block(gpr, _CR, LR, 0, _XER, _FPR, _VR)


def _wrecked_block() -> bytes:
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
    for offset in (*range(-BELOW_R1, 0, 8), 8, 16, *range(32, 96, 8)):
        frame[FRAME_R1 + offset : FRAME_R1 + offset + 8] = pack_words([_GPR_WRECKED])
    return bytes(frame)


def pack_words(words: Sequence[int]) -> bytes:
    """Doublewords as they are in memory."""
    return struct.pack(f"{STRUCT}{len(words)}Q", *words)


def unpack_words(memory: bytes) -> tuple[int, ...]:
    return struct.unpack(f"{STRUCT}{len(memory) // 8}Q", memory)


def pack_config(
    harness: Harness, offsets: KernelOffsets, image: list[tuple[int, int]], limit: float
) -> bytes:
    """The configuration. `image` is [(address, size)] to protect, `limit` is in seconds."""
    protected = [number for pair in (*image, (harness.fake_paca, PACA_SIZE)) for number in pair]
    protected += [0] * (2 * RANGES - len(protected))
    seconds = int(limit)
    timer = (0, 0, seconds, int((limit - seconds) * 1e6))
    return b"".join(
        [
            _initial_block(harness, offsets),
            _wrecked_block(),
            frame_at_site(),
            make_thread(offsets, harness.thread),
            pack_words([*protected, *timer]),
            make_paca(offsets, harness.toc, harness.thread),
        ]
    )


def _registers(data: bytes) -> Registers:
    halves = struct.unpack_from(f"{STRUCT}64Q", data, REG_VR)
    return Registers(
        gpr=struct.unpack_from(f"{STRUCT}32Q", data, 0),
        cr=struct.unpack_from(f"{STRUCT}Q", data, REG_CR)[0],
        fpr=struct.unpack_from(f"{STRUCT}32Q", data, REG_FPR),
        vr=tuple(halves[n] | halves[n + 1] << 64 for n in range(0, 64, 2)),
    )


WRECKED: Final = _registers(_wrecked_block())


@cache
def initial_registers(harness: Harness, offsets: KernelOffsets) -> Registers:
    return _registers(_initial_block(harness, offsets))


def _snapshot(data: bytes) -> Snapshot:
    frame, thread = data[REG_SIZE:-THREAD_SIZE], data[-THREAD_SIZE:]
    return Snapshot(_registers(data), frame, thread)


def unpack_recording(data: bytes) -> Recording:
    """Unpack RECORDING_SIZE bytes as written by harness.s."""
    numbers: tuple[int, int, int, int, int, int, int] = _NUMBERS.unpack_from(data)
    snapshots = data[_NUMBERS.size :]
    arrival, final = snapshots[:_SNAPSHOT_SIZE], snapshots[_SNAPSHOT_SIZE:]
    return Recording(*numbers, _snapshot(arrival), _snapshot(final))
