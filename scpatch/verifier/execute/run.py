"""Run the linked program: records in, results out, and a new process where one has died."""

from __future__ import annotations

import resource
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

from scpatch.errors import ScpatchError
from scpatch.verifier.execute import state
from scpatch.verifier.execute.judge import judge, signal_name
from scpatch.verifier.execute.places import Program
from scpatch.verifier.execute.tools import Tools
from scpatch.verifier.execute.types import Outcome, RunSite
from scpatch.verifier.options import NO_OFFSETS, KernelOffsets

# So many sites in one process: bounds memory, and the time that a process can hang.
_BATCH = 128
# Seconds that a process may hang in a system call; a loop ends by its time limit.
_PATIENCE = 60.0
_OPCODE_B = 18
_B = 0x48000000
_BA = 0x48000002
_BLA = 0x48000003
_NOP = 0x60000000
_LD_R2 = 0xE8410018  # ld r2,24(r1)
_LOCAL_ENTRY = (0, 0, 4, 8, 16, 32, 64)


def run_sites(
    program: Program,
    sites: Sequence[RunSite],
    tools: Tools,
    limit: float,
    path: Path,
    offsets: KernelOffsets = NO_OFFSETS,
) -> list[Outcome]:
    """Run the sites; `limit` is in seconds of processor time for each.

    Raises ScpatchError (SCP302) if the program does not even start.
    """
    outcomes: dict[int, Outcome] = {}
    queue = []
    image = program.path.read_bytes()
    for number, site in enumerate(sites):
        problem = _problem(program, site, image)
        if problem:
            outcomes[number] = Outcome(site, False, (problem,))
        else:
            queue.append(number)
    while queue:
        batch = queue[:_BATCH]
        records = [_record(program, sites[number], offsets) for number in batch]
        results, end = _run_process(program, records, tools, limit, path, offsets)
        for number, result in zip(batch, results, strict=False):
            outcomes[number] = judge(sites[number], result, program, limit, offsets)
        queue = queue[len(results) :]
        if len(results) < len(batch):
            number = queue.pop(0)
            outcomes[number] = Outcome(sites[number], False, (end,))
    return [outcomes[number] for number in range(len(sites))]


def _problem(program: Program, site: RunSite, image: bytes) -> str:
    """Why the site cannot be run; empty if it can."""
    if site.trampoline_section and site.trampoline_other >> 5 == 7:
        return f"{site.trampoline} has the reserved value 7 in st_other bits 5-7"
    if (site.offset | site.resume | site.trampoline_offset) & 3:
        return "the call, the place after it or the trampoline is not at a multiple of 4 bytes"
    call, after = _words(program, program.places[site.section].address + site.offset, image)
    if call >> 26 != _OPCODE_B:
        return f"the word is {call:#010x}, which is no branch"
    if site.loader and after != _NOP:
        return f"the module loader wants a nop after the call and refuses {after:#010x}"
    return ""


def _words(program: Program, address: int, image: bytes) -> tuple[int, int]:
    """The two words at an address, zero where there is nothing."""
    for start, size, offset in program.segments:
        if start <= address < start + size:
            at = offset + address - start
            data = image[at : at + 8].ljust(8, b"\0")
            return struct.unpack("<2I", data)
    return 0, 0


def _target(program: Program, site: RunSite) -> int:
    """The address that the kernel patches: the trampoline's local entry."""
    if not site.trampoline_section:
        return program.trampolines[site.trampoline]
    entry = program.places[site.trampoline_section].address + site.trampoline_offset
    return entry + _LOCAL_ENTRY[site.trampoline_other >> 5]


def _resume(program: Program, site: RunSite) -> int:
    return program.places[site.section].address + site.resume


def _record(program: Program, site: RunSite, offsets: KernelOffsets) -> bytes:
    """What harness.s reads for one site (`record` there)."""
    call = program.places[site.section].address + site.offset
    plants = _plants(program, site)
    if site.loader:
        # What the module loader does: arch/powerpc/kernel/module_64.c, stub_for_addr, restore_r2.
        plants += [(call, _BLA | program.loader_stub), (call + 4, _LD_R2)]
    plants += [(0, 0)] * (4 - len(plants))
    toc_save = program.toc if site.saved_before else state.NOT_SAVED
    back = program.back if site.sibling else state.LR
    return struct.pack("<3Q", call, toc_save, back) + b"".join(
        [
            _livepatch(program, site, offsets),
            *(struct.pack("<4Q", address, word, 0, 0) for address, word in plants),
        ]
    )


def _plants(program: Program, site: RunSite) -> list[tuple[int, int]]:
    """The words to plant at the trampoline and where control comes back."""
    target, resume = _target(program, site), _resume(program, site)
    back = [] if site.sibling else [(resume, _BA | program.back)]
    entry = [(target, _BA | program.hostile)]
    if site.way is not None:
        base = program.places[site.trampoline_section].address
        start, end = (base + offset for offset in site.way)
        entry = [(target, _B | (start - target) & 0x3FFFFFC)] if start != target else []
        entry.append((end - 4, _BA | program.load_target))
    if target == resume and not site.sibling:
        return [*entry[1:], (target, _BA | program.either)]
    return [*entry, *back]


def _livepatch(program: Program, site: RunSite, offsets: KernelOffsets) -> bytes:
    """The part of a record for trampolines that keep r2."""
    if site.way is None:
        return bytes(40)
    base = program.places[site.trampoline_section].address
    end, code = base + site.way[1], (0, 0)
    if site.code is not None:
        code = base + site.code[0], base + sum(site.code)
    pointer = program.thread + (offsets.livepatch_sp or 0)
    return struct.pack("<5Q", end, end - 4 if site.code is not None else 0, pointer, *code)


def _run_process(
    program: Program,
    records: list[bytes],
    tools: Tools,
    limit: float,
    path: Path,
    offsets: KernelOffsets,
) -> tuple[list[bytes], str]:
    """Give the records to a new process; returns the results, and how it ended early, if so."""
    ranges = [(address, size) for address, size, _offset in program.segments]
    config = state.pack_config(program.addresses, offsets, ranges, limit)
    command = [tools.emulator] if tools.emulator else []
    try:
        done = subprocess.run(
            [*command, str(program.path)],
            input=config + b"".join(records),
            cwd=program.path.parent,
            capture_output=True,
            timeout=_PATIENCE + 2 * limit * len(records),
            preexec_fn=_keep_from_files,
            check=False,
        )
        output, errors, code = done.stdout, done.stderr, done.returncode
    except subprocess.TimeoutExpired as expired:
        output, errors, code = expired.stdout or b"", b"", None
    if not output.startswith(state.READY):
        raise _start_error(path, errors, code)
    output = output[len(state.READY) :]
    size = state.RESULT_SIZE
    results = [output[at : at + size] for at in range(0, len(output) - size + 1, size)]
    return results, f"the run did not come to an end here: {_ended(code)}"


def _keep_from_files() -> None:
    """Lets the process write no file, not even a core: what runs may be anything."""
    for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(limit, (0, 0))


def _ended(code: int | None) -> str:
    if code is None:
        return "stopped after waiting long for it"
    if code < 0:
        return f"the process died of {signal_name(-code)}"
    return f"the process left with status {code}"


def _start_error(path: Path, errors: bytes, code: int | None) -> ScpatchError:
    said = errors.decode("utf-8", "replace").strip().splitlines()[-1:]
    return ScpatchError(
        "SCP302",
        f"the program to run the call sites does not start: {(said or [_ended(code)])[0]}",
        file=str(path),
        hint="check that QEMU runs other ppc64le programs; --no-run leaves the run out",
    )
