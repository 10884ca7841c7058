"""One object for the whole kernel, as a link of vmlinux can use it (`--prelink`).

Kbuild's own vmlinux.o cannot be linked on powerpc: `ld -r` puts the alternatives of the feature
sections (`__ftr_alt_*`, arch/powerpc/include/asm/feature-fixups.h) far from the code that they
stand in for, and their REL14 branches back do not reach. Here they stay beside it.
"""

from __future__ import annotations

import os
from pathlib import Path

from scpatch.kbuild import spawn
from scpatch.kbuild.arguments import Command
from scpatch.kbuild.record import Known, Record, identities

_SCRIPT = """/* SPDX-License-Identifier: GPL-2.0 OR MIT */
SECTIONS {
  .text 0 : {
    *(.text.hot .text.hot.* .text .text.fixup .text.unlikely .text.unlikely.*
      .fixup __ftr_alt_* .ref.text)
  }
}
"""
"""The input sections that arch/powerpc/kernel/vmlinux.lds.S gathers around `.text`, but for
`.text.head64` and the like, which have places of their own in the image."""


def prelink(command: Command, folder: Path) -> tuple[Command, int]:
    """The link of vmlinux with one object for vmlinux.a, and the linker's exit status: where that
    is not 0, there is none. The object is kept until a member of the archive changes."""
    archive = next(
        (i for i in command.inputs if os.path.basename(command.arguments[i]) == "vmlinux.a"), None
    )
    if archive is None:
        return command, 0
    name = command.arguments[archive]
    target = folder / "vmlinux.o"
    record = Record(folder / ".tmp_prelink.json", f"prelink {command.linker}\n{_SCRIPT}")
    if not record.read().holds():
        from scpatch.kbuild.plans import sources_of

        record.forget()
        sources = sources_of(name)
        script = folder / ".tmp_prelink.lds"
        script.write_text(_SCRIPT)
        arguments = ("-r", "-EL", "-m", "elf64lppc", "-T", str(script), "-o", str(target))
        whole = ("--whole-archive", name, "--no-whole-archive")
        if status := spawn.run(Command(command.linker, (*arguments, *whole))):
            return command, status
        record.keep(Known(sources, identities([str(target)]), {}, False))
    return command.with_inputs({name: str(target)}), 0
