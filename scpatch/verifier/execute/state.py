"""The values that a site starts with, and the records that go to and from harness.s.

All sizes and offsets are in bytes and repeat those in harness.s.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from typing import Final

from scpatch.verifier.execute import kernel
from scpatch.verifier.execute.kernel import PACA_SIZE, THREAD_SIZE
from scpatch.verifier.options import KernelOffsets

REG_CR: Final = 256
REG_FPR: Final = 288
REG_VR: Final = 544
REG_SIZE: Final = 1056
FRAME_SIZE: Final = 4096
FRAME_R1: Final = 1024
BELOW_R1: Final = 512
TOC_SAVE: Final = 24
RANGES: Final = 16
RESULT_SIZE: Final = 64 + 2 * (REG_SIZE + FRAME_SIZE + THREAD_SIZE)
READY: Final = b"SCPREADY"

# The values are addresses that nothing is mapped at, neither on hardware nor inside QEMU, so that
# a load or store by way of one faults. The register's number is in them, to be recognised.
_GPR = 0x2C00C0DE0000
_GPR_WRECKED = 0x2D00DEAD0000
_FPR = 0x4C00C0DE0000
_FPR_WRECKED = 0x4D00DEAD0000
_VR = 0x6C00C0DE0000
_VR_WRECKED = 0x6D00DEAD0000
_FRAME = 0x2F0000000000
_STEP = 0x000100000101
NOT_SAVED: Final = 0x2E18BAD00018
"""What lies in 24(r1) where the caller has not saved r2."""
CR: Final = 0xA5A5A5A5
_CR_WRECKED = 0x5A5A5A5A
_XER = 0xA0000000
_XER_WRECKED = 0x40000000
LR: Final = 0x2C4CC0DE0000
"""Where nothing returns to."""
_CTR_WRECKED = 0x2D4DDEAD0000


@dataclass(frozen=True, slots=True)
class Registers:
    """One register block, unpacked. Vector registers are 128-bit numbers."""

    gpr: tuple[int, ...]
    cr: int
    fpr: tuple[int, ...]
    vr: tuple[int, ...]

    @property
    def cr_fields(self) -> tuple[int, ...]:
        """cr0-cr7, four bits each; cr0 holds the highest bits."""
        return tuple(self.cr >> shift & 15 for shift in range(28, -1, -4))


@dataclass(frozen=True, slots=True)
class Result:
    """What harness.s has recorded at one site."""

    status: int
    """0: control came back; else a signal number, or STATUS_PLANT + errno."""
    fault: int
    pc: int
    hits: int
    """How often the target was reached."""
    inner_hits: int
    """How often it was reached by the static call that the target makes."""
    inner_toc: int
    """r2 after that call."""
    interrupts: int
    arrival: Registers
    """At the target."""
    arrival_frame: bytes
    arrival_thread: bytes
    """The thread's block (kernel.py) there."""
    final: Registers
    """Where control came back."""
    final_frame: bytes
    final_thread: bytes


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where in the program the things are that registers point to."""

    toc: int
    frame: int
    paca: int
    thread: int


def _block(gpr: list[int], cr: int, lr: int, ctr: int, xer: int, fpr: int, vr: int) -> bytes:
    """Pack a register block; `fpr` and `vr` are the patterns of register 0."""
    fprs = [fpr + n * _STEP for n in range(32)]
    vrs = [half for n in range(32) for half in (vr + n * _STEP, vr + n * _STEP + 0x80)]
    return struct.pack("<132Q", *gpr, cr, lr, ctr, xer, *fprs, *vrs)


def initial(at: Addresses, known: KernelOffsets) -> bytes:
    """The registers at a site."""
    gpr = [_GPR + n * _STEP for n in range(32)]
    gpr[1] = at.frame + FRAME_R1
    gpr[2] = at.toc
    if known.has_paca:
        gpr[13] = at.paca
    return _block(gpr, CR, LR, 0, _XER, _FPR, _VR)


def wrecked() -> bytes:
    """The registers as the target leaves them; only the volatile ones are used."""
    gpr = [_GPR_WRECKED + n * _STEP for n in range(32)]
    return _block(gpr, _CR_WRECKED, 0, _CTR_WRECKED, _XER_WRECKED, _FPR_WRECKED, _VR_WRECKED)


@cache
def frame_at_site() -> bytes:
    """The watched memory when the site is entered, except 24(r1), which the site's record sets."""
    words = [_FRAME + offset for offset in range(0, FRAME_SIZE, 8)]
    return struct.pack(f"<{len(words)}Q", *words)


def frame_after_target(arrived: bytes) -> bytes:
    """What the target makes of the watched memory: see `hostile` in harness.s."""
    junk = struct.pack("<Q", _GPR_WRECKED)
    frame = bytearray(arrived)
    for offset in (*range(-BELOW_R1, 0, 8), 8, 16, *range(32, 96, 8)):
        frame[FRAME_R1 + offset : FRAME_R1 + offset + 8] = junk
    return bytes(frame)


def pack_config(
    at: Addresses, known: KernelOffsets, image: list[tuple[int, int]], limit: float
) -> bytes:
    """The configuration; `image` is [(address, size)] to protect, `limit` is in seconds."""
    image = [*image, (at.paca, PACA_SIZE)]
    ranges = [number for pair in image for number in pair]
    ranges += [0] * (2 * RANGES - len(ranges))
    seconds = int(limit)
    timer = (0, 0, seconds, int((limit - seconds) * 1e6))
    config = initial(at, known) + wrecked() + frame_at_site() + kernel.thread(known, at.thread)
    config += struct.pack(f"<{2 * RANGES}Q4Q", *ranges, *timer)
    return config + kernel.paca(known, at.toc, at.thread)


def _registers(data: bytes) -> Registers:
    halves = struct.unpack_from("<64Q", data, REG_VR)
    return Registers(
        gpr=struct.unpack_from("<32Q", data, 0),
        cr=struct.unpack_from("<Q", data, REG_CR)[0],
        fpr=struct.unpack_from("<32Q", data, REG_FPR),
        vr=tuple(halves[n] | halves[n + 1] << 64 for n in range(0, 64, 2)),
    )


WRECKED: Final = _registers(wrecked())


@cache
def initial_registers(at: Addresses, known: KernelOffsets) -> Registers:
    return _registers(initial(at, known))


def unpack_result(data: bytes) -> Result:
    """Unpack RESULT_SIZE bytes as written by harness.s."""
    status, fault, pc, hits, *inner, _ = struct.unpack_from("<8Q", data)
    parts = []
    at = 64
    for size in (REG_SIZE, FRAME_SIZE, THREAD_SIZE) * 2:
        parts.append(data[at : at + size])
        at += size
    return Result(
        status=status,
        fault=fault,
        pc=pc,
        hits=hits,
        inner_hits=inner[0],
        inner_toc=inner[1],
        interrupts=inner[2],
        arrival=_registers(parts[0]),
        arrival_frame=parts[1],
        arrival_thread=parts[2],
        final=_registers(parts[3]),
        final_frame=parts[4],
        final_thread=parts[5],
    )
