"""Run the linked program: records in, recordings out, and a new process after one has died."""

from __future__ import annotations

import subprocess
from array import array
from collections.abc import Sequence

from scpatch.errors import ScpatchError
from scpatch.verifier.execute import state
from scpatch.verifier.execute.judge import Outcome, judge, signal_name
from scpatch.verifier.execute.program import Program
from scpatch.verifier.objects.variant import BL, LD_R2, LOCAL_ENTRY, NOP, B
from scpatch.verifier.options import KernelOffsets
from scpatch.verifier.phases import enter
from scpatch.verifier.tools import MACHINES, Tools
from scpatch.verifier.types import CallSite

_BATCH = 128
"""Sites in a process: bounds memory, and the time that a process can hang."""
_PATIENCE = 60.0
"""Seconds that a process may hang in a system call. The time limit ends a loop."""
_WRITING_NO_FILES = "/bin/sh", "-c", 'ulimit -f 0 && ulimit -c 0 && exec "$@"', "sh"
"""Starts a program that can write no file, not even a core: what runs may be anything. A function
of Python's between fork and exec would do it too, but each start would then copy the tables of this
process."""
_BA, _BLA = B | 2, BL | 2
_RESERVED = 7
_PLANTS = 4


def run_sites(
    program: Program,
    sites: Sequence[CallSite],
    tools: Tools,
    offsets: KernelOffsets,
    limit: float,
) -> list[Outcome]:
    """Run the sites. `limit` is in seconds of processor time for each.

    Raises ScpatchError (SCP302) if the program does not start.
    """
    image = program.path.read_bytes()
    outcomes = {
        number: Outcome(site, False, (problem,))
        for number, site in enumerate(sites)
        if (problem := _problem(program, site, image))
    }
    queue = [number for number in range(len(sites)) if number not in outcomes]
    while queue:
        enter("executing", len(sites) - len(queue), len(sites))
        batch = queue[:_BATCH]
        records = [_record(program, sites[number], offsets) for number in batch]
        recordings, end = _run_process(program, records, tools, offsets, limit)
        for number, recording in zip(batch, recordings, strict=False):
            outcomes[number] = judge(sites[number], recording, program, offsets, limit)
        queue = queue[len(recordings) :]
        if len(recordings) < len(batch):
            number = queue.pop(0)
            outcomes[number] = Outcome(sites[number], False, (end,))
    return [outcomes[number] for number in range(len(sites))]


def _problem(program: Program, site: CallSite, image: bytes) -> str:
    """Why the site cannot be run; empty if it can."""
    if site.trampoline_section and site.trampoline_other >> 5 == _RESERVED:
        return f"{site.trampoline} has the reserved value 7 in st_other bits 5-7"
    if (site.offset | site.resume | site.trampoline_offset) & 3:
        return "the call, the place after it or the trampoline is not at a multiple of 4 bytes"
    call, after = _words(program, program.address(site.section, site.offset), image)
    if call >> 26 != B >> 26:
        return f"the word is {call:#010x}, which is no branch"
    if site.loader and after != NOP:
        return f"the module loader wants a nop after the call and refuses {after:#010x}"
    return ""


def _words(program: Program, address: int, image: bytes) -> tuple[int, int]:
    """The two words at an address; zero if nothing is there."""
    for segment in program.segments:
        if 0 <= address - segment.address < segment.size:
            at = segment.offset + address - segment.address
            first, second = program.variant.numbers("I", image[at : at + 8].ljust(8, b"\0"))
            return first, second
    return 0, 0


def _target(program: Program, site: CallSite) -> int:
    """The address that the kernel patches: the trampoline's local entry."""
    if not site.trampoline_section:
        return program.trampolines[site.trampoline]
    entry = program.address(site.trampoline_section, site.trampoline_offset)
    return entry + LOCAL_ENTRY[site.trampoline_other >> 5]


def _record(program: Program, site: CallSite, offsets: KernelOffsets) -> bytes:
    """What harness.s reads for one site (`record` there)."""
    call = program.address(site.section, site.offset)
    plants = _plants(program, site)
    if site.loader:
        # What the module loader does: arch/powerpc/kernel/module_64.c, stub_for_addr, restore_r2.
        plants += [(call, _BLA | program.harness.loader_stub), (call + 4, LD_R2)]
    plants += [(0, 0)] * (_PLANTS - len(plants))
    toc_save = program.harness.toc if site.saved_before else state.NOT_SAVED
    back = program.harness.back if site.sibling else state.LR
    path = _path_fields(program, site, offsets)
    words = [number for plant in plants for number in (*plant, 0, 0)]
    return state.pack_words([call, toc_save, back, *path, *words])


def _plants(program: Program, site: CallSite) -> list[tuple[int, int]]:
    """(address, word) to write at the trampoline, and where control comes back."""
    harness, target = program.harness, _target(program, site)
    resume = program.address(site.section, site.resume)
    entry = [(target, _BA | harness.hostile)]
    if site.ctr_path is not None:
        start, end = (program.address(site.trampoline_section, offset) for offset in site.ctr_path)
        entry = [(target, B | (start - target) & 0x3FFFFFC)] if start != target else []
        entry.append((end - 4, _BA | harness.load_target))
    if site.sibling:
        return entry
    if target == resume:
        return [*entry[1:], (target, _BA | harness.either)]
    return [*entry, (resume, _BA | harness.back)]


def _path_fields(program: Program, site: CallSite, offsets: KernelOffsets) -> list[int]:
    """The part of a record for a trampoline that preserves r2."""
    if site.ctr_path is None:
        return [0] * 5
    end, nested, code = program.address(site.trampoline_section, site.ctr_path[1]), 0, (0, 0)
    if site.code is not None:
        start = program.address(site.trampoline_section, site.code[0])
        nested, code = end - 4, (start, start + site.code[1])
    return [end, nested, program.harness.thread + (offsets.livepatch_sp or 0), *code]


def _run_process(
    program: Program, records: list[bytes], tools: Tools, offsets: KernelOffsets, limit: float
) -> tuple[list[bytes], str]:
    """Give the records to a new process. Returns the recordings, and how the process ended if there
    are fewer of them."""
    ranges = [(segment.address, segment.size) for segment in program.segments]
    config = state.pack_config(program.harness, offsets, ranges, limit)
    command = [*_WRITING_NO_FILES, *([tools.emulator] if tools.emulator else [])]
    try:
        done = subprocess.run(
            [*command, str(program.path)],
            input=_swapped(program, config + b"".join(records)),
            cwd=program.path.parent,
            capture_output=True,
            timeout=_PATIENCE + 2 * limit * len(records),
            check=False,
        )
        output, errors, code = done.stdout, done.stderr, done.returncode
    except subprocess.TimeoutExpired as expired:
        output, errors, code = expired.stdout or b"", b"", None
    if not output.startswith(state.READY):
        machine = MACHINES[program.variant.byte_order].name
        reasons = errors.decode("utf-8", "replace").strip().splitlines() or [_ended(code)]
        raise ScpatchError(
            "SCP302",
            f"the program to run the call sites does not start: {reasons[-1]}",
            file=str(program.object),
            hint=f"check that QEMU runs other programs for {machine}; --no-run leaves the run out",
        )
    output, size = output[len(state.READY) :], state.RECORDING_SIZE
    output = _swapped(program, output[: len(output) // size * size])
    recordings = [output[at : at + size] for at in range(0, len(output), size)]
    return recordings, f"the run did not come to an end here: {_ended(code)}"


def _swapped(program: Program, doublewords: bytes) -> bytes:
    """Doublewords of `state` in the byte order of the program, and the other way round."""
    if program.variant.byte_order == state.BYTE_ORDER:
        return doublewords
    swapped = array("Q", doublewords)
    swapped.byteswap()
    return swapped.tobytes()


def _ended(code: int | None) -> str:
    if code is None:
        return "stopped after waiting long for it"
    if code < 0:
        return f"the process died of {signal_name(-code)}"
    return f"the process left with status {code}"
