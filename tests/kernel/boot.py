"""Boots a kernel under QEMU, with a root file system in memory, and reads its log."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from tests.kernel.build import Kernel
from tests.kernel.store import KernelError, tail

QEMU = [
    "qemu-system-ppc64",
    "-M",
    "pseries,cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken,cap-ccf-assist=off",
    *("-m", "512"),
    *("-display", "none", "-monitor", "none", "-serial", "stdio", "-nodefaults", "-no-reboot"),
]
"""The capabilities that are switched off have no meaning without hardware acceleration."""

TIMEOUT = 400
"""Seconds; a boot with all cases takes about 15 on an idle machine."""

_CASE = re.compile(r"scpatch-test: (\S+) (ok|FAIL) ?(.*)")
_KUNIT = re.compile(r"\] {4,}(not )?ok \d+ (?:- )?(\w+)(?: # (SKIP.*))?$")
"""A test of the suite, or one of its parameters; the suite itself is not indented."""
_IN_THE_TRACER = re.compile(r"NIP \[\w+\] function_trace_call\+")
_ERROR = re.compile(r"scpatch-init: error: (.*)")


@dataclass(frozen=True)
class Case:
    """A case that the kernel reported."""

    ok: bool
    detail: str


@dataclass(frozen=True)
class Log:
    """What a boot printed."""

    lines: tuple[str, ...]
    cases: Mapping[str, Case]
    errors: tuple[str, ...]
    """What init could not do."""
    oops: bool
    finished: bool
    """Whether init came to its end, and the machine was switched off."""

    def faults(self, wanted: Set[str]) -> list[str]:
        """What is not as in a boot that comes to its end, and in which just the `wanted` cases were
        reported, all of them right."""
        return [
            *(f"{name}: {case.detail}" for name, case in self.cases.items() if not case.ok),
            *(f"{name}: not reported" for name in sorted(wanted - self.cases.keys())),
            *(f"{name}: not asked for" for name in sorted(self.cases.keys() - wanted)),
            *self.errors,
            *["an oops"] * self.oops,
            *["it did not come to its end"] * (not self.finished),
        ]

    def after(self, start: str) -> Iterator[str]:
        """The lines behind the first one that contains `start`."""
        lines = iter(self.lines)
        for line in lines:
            if start in line:
                break
        return lines


def boot(
    kernel: Kernel,
    steps: Sequence[str],
    scratch: Path,
    *,
    hash_mmu: bool = False,
    debug: bool = False,
    processors: int = 2,
    cpu: str = "power9",
    options: Sequence[str] = (),
) -> Log:
    """Boots and has init take the steps. The first oops ends the run. `options` are more for QEMU.

    The kernel translates addresses by a radix tree or by the hash table; patching code depends on
    it. With `debug` it tells of each of its initcalls.

    Raises KernelError where the machine is not off after TIMEOUT seconds, or a case comes twice.
    """
    image = scratch / "initramfs"
    image.write_bytes(initramfs(kernel))
    log = scratch / "boot.log"
    words = ["console=hvc0", "oops=panic", "panic=-1", "printk.devkmsg=on", "rdinit=/init"]
    # allnoconfig switches off what KUnit does unless it is told otherwise.
    words += ["kunit.enable=1", "kunit.autorun=1"]
    words += ["disable_radix"] if hash_mmu else []
    words += ["initcall_debug", "ignore_loglevel"] if debug else []
    command = [*QEMU, "-cpu", cpu, "-smp", str(processors), *options]
    command += ["-kernel", str(kernel.vmlinux), "-initrd", str(image)]
    command += ["-append", " ".join([*words, "--", *steps])]
    with log.open("wb") as out:
        try:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=TIMEOUT,
                check=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise KernelError(f"{error}\n{tail(log) if log.exists() else ''}") from None
    return read_log(log)


def read_log(path: Path) -> Log:
    """Raises KernelError where a case comes twice."""
    lines = tuple(path.read_text(errors="replace").splitlines())
    cases: dict[str, Case] = {}
    for match in filter(None, map(_CASE.search, lines)):
        name, verdict, detail = match.groups()
        if name in cases:
            raise KernelError(f"the case {name} comes twice\n{tail(path)}")
        cases[name] = Case(verdict == "ok", detail)
    for match in filter(None, map(_KUNIT.search, lines)):
        cases[f"kunit/{match[2]}"] = Case(match[1] is None, match[3] or "")
    errors = tuple(match[1] for match in filter(None, map(_ERROR.search, lines)))
    oops = any("Oops:" in line for line in lines)
    finished = any("scpatch-init: done" in line for line in lines)
    return Log(lines, cases, errors, oops, finished)


def says_nothing(log: Log) -> bool:
    """Whether the function tracer has ended the boot: in one of some 60 boots, while it is
    switched, `function_trace_call` runs with `ftrace_list_end`, which is no ftrace_ops, and none
    of the patched code on its way."""
    return log.oops and any(_IN_THE_TRACER.search(line) for line in log.lines)


def initramfs(kernel: Kernel) -> bytes:
    """An archive of init and the modules, in the format that the kernel unpacks at its start
    (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    folders = ("dev", "proc", "sys", "modules")
    entries = [_entry(name, 0o040755) for name in folders]
    entries.append(_entry("dev/console", 0o020600, device=(5, 1)))
    entries.append(_entry("init", 0o100755, kernel.init.read_bytes()))
    entries += [
        _entry(f"modules/{path.name}", 0o100644, path.read_bytes()) for path in kernel.modules
    ]
    entries.append(_entry("TRAILER!!!", 0))
    return b"".join(entries)


def _entry(name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    """A file of the `newc` format: a header of hexadecimal numbers, the name and the data, the
    latter two padded to a multiple of four bytes."""
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields)
    return _padded(header + name.encode() + b"\0") + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
