"""One object for the whole kernel that a link of vmlinux can use (`--prelink`).

Kbuild's own vmlinux.o cannot be linked on powerpc. `ld -r` moves the alternatives of the feature
sections (`__ftr_alt_*`, arch/powerpc/include/asm/feature-fixups.h) too far from the code that they
replace: their REL14 branches back do not reach. Here they stay beside it.
"""

from __future__ import annotations

import os
from pathlib import Path

from scpatch.kbuild import spawn
from scpatch.kbuild.arguments import Command
from scpatch.kbuild.record import Known, RecordFile, identities

_SCRIPT = """/* SPDX-License-Identifier: GPL-2.0 OR MIT */
SECTIONS {
  .text 0 : {
    *(.text.hot .text.hot.* .text .text.fixup .text.unlikely .text.unlikely.*
      .fixup __ftr_alt_* .ref.text)
  }
}
"""
"""The input sections that arch/powerpc/kernel/vmlinux.lds.S puts around `.text`; not `.text.head64`
and the like, which have their own places in the image."""


def prelink(command: Command, folder: Path) -> tuple[Command, int]:
    """The link of vmlinux with one object instead of vmlinux.a, and the linker's exit status; if
    that is not 0, there is no such object. It serves until a member of the archive changes."""
    name = next((name for name in command.files if os.path.basename(name) == "vmlinux.a"), None)
    if name is None:
        return command, 0
    target = folder / "vmlinux.o"
    record = RecordFile(folder / ".tmp_prelink.json", f"prelink {command.linker}\n{_SCRIPT}")
    if not record.read().holds():
        from scpatch.kbuild.plans import sources_of

        record.remove()
        sources = sources_of(name)
        script = folder / ".tmp_prelink.lds"
        script.write_text(_SCRIPT)
        arguments = ("-r", "-EL", "-m", "elf64lppc", "-T", str(script), "-o", str(target))
        whole = ("--whole-archive", name, "--no-whole-archive")
        if status := spawn.run(Command(command.linker, (*arguments, *whole))):
            return command, status
        record.write(Known(sources, identities([str(target)]), {}, False))
    return command.with_inputs({name: str(target)}), 0
