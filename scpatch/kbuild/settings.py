"""The options of the build step, from SCPATCH_FLAGS and from the LD string."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from scpatch import __version__
from scpatch.errors import Exit, ScpatchError
from scpatch.kbuild.record import identity

if TYPE_CHECKING:
    from scpatch.rewriter import Options

_VALUES = {
    "--strategy": (),
    "--module-strategy": (),
    "--undefined": ("auto", "rewrite", "skip"),
    "--no-nop": ("refuse", "thunk"),
    "--hoist": ("auto", "kernel", "never"),
    "--asm-offsets": (),
    "--paca-toc-offset": (),
}
"""What an option may be; the strategies are looked up where they are needed."""
_SWITCHES = ("--prelink", "--warn-only", "--unmark", "--emit-sites")
_ASM_OFFSETS = "include/generated/asm-offsets.h"
"""From the object tree, in which Kbuild links."""


class UsageError(ScpatchError):
    """A wrong option or a missing linker; ends with exit code 2."""

    status = Exit.USAGE


class Settings(NamedTuple):
    """The options as they were given.

    What works with them is imported by `options` only: a pass of kallsyms that finds the copies of
    the one before it starts in half the time without.
    """

    strategy: str = "callsite"
    module_strategy: str = ""
    """Empty for the same, or for the one that goes with an image by `strategy`."""
    undefined: str = "auto"
    no_nop: str = "refuse"
    hoist: str = "kernel"
    """What is built here is a kernel: no function of it is preempted."""
    asm_offsets: str = ""
    """The kernel's asm-offsets.h; where it is where Kbuild makes it, it need not be named."""
    paca_toc_offset: str = ""
    unmark: bool = False
    emit_sites: bool = False
    trampolines: tuple[str, ...] = ()
    """Empty for the default."""
    prelink: bool = False
    """Whether vmlinux is linked from one object instead of vmlinux.a."""
    warn_only: bool = False
    """Whether a refused site is left as it is, with a message, instead of ending the build."""

    @property
    def options(self) -> Options:
        """The same for `plan_file`. Raises UsageError for an unknown strategy or a wrong number."""
        from scpatch import strategies
        from scpatch.rewriter import Options
        from scpatch.sites.choices import Choices

        for name in ("strategy", "module_strategy"):
            chosen, known = getattr(self, name) or strategies.DEFAULT, strategies.names()
            if chosen not in known:
                option = "--" + name.replace("_", "-")
                raise _wrong(f"{option}={chosen}", option, known)
        if self.unmark and self.strategy != strategies.DEFAULT:
            raise _wrong("--unmark", "--strategy", (strategies.DEFAULT,))
        offset = self.paca_toc_offset
        if offset and not offset.isdecimal():
            raise _wrong(f"--paca-toc-offset={offset}", "--paca-toc-offset", ("N",))
        header = Path(self.asm_offsets or _ASM_OFFSETS)
        own = strategies.options(
            header if self.asm_offsets or header.exists() else None,
            int(offset) if offset else None,
            unmark=self.unmark,
        )
        choices = Choices(undefined=self.undefined, no_nop=self.no_nop, hoist=self.hoist)
        if self.trampolines:
            choices = choices._replace(trampolines=self.trampolines)
        return Options(self.strategy, choices, own, emit_sites=self.emit_sites)

    @property
    def image_options(self) -> Options:
        """The same for what goes into vmlinux: a trampoline that one input does not define is
        another input's there, so no module loader will want the nop behind its calls."""
        from scpatch.sites.choices import Undefined

        options = self.options
        if self.undefined != "auto":
            return options
        return options._replace(choices=options.choices._replace(undefined=Undefined.REWRITE))

    @property
    def module_options(self) -> Options:
        """The same for modules."""
        from scpatch import strategies

        options = self.options
        chosen = self.module_strategy or strategies.for_modules(self.strategy)
        return options._replace(strategy=chosen)

    @property
    def key(self) -> str:
        """What the rewritten files depend on beside their sources: scpatch, the options, and the
        kernel's offsets, also where no object was compiled again for them."""
        offsets = identity(self.asm_offsets or _ASM_OFFSETS)
        return repr((__version__, _code(), offsets, *self._replace(prelink=False)))


def _code() -> int:
    """When scpatch itself last changed, in nanoseconds: in a checkout, and after a reinstallation,
    other code has the same version."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return max(
        os.stat(os.path.join(folder, name)).st_mtime_ns
        for folder, _, names in os.walk(package)
        for name in names
        if name.endswith((".py", ".s"))
    )


def parse(words: Sequence[str]) -> Settings:
    """The settings that the options `--prelink`, `--warn-only` and `--NAME=VALUE` stand for.

    The last one of a name counts, but every `--trampoline` does. Raises UsageError.
    """
    found = Settings()
    for word in words:
        name, _, value = word.partition("=")
        field = name.removeprefix("--").replace("-", "_")
        if word in _SWITCHES:
            found = found._replace(**{field: True})  # type: ignore[arg-type]
        elif name == "--trampoline" and value:
            found = found._replace(trampolines=(*found.trampolines, value))
        elif name in _VALUES and value and (value in _VALUES[name] or not _VALUES[name]):
            found = found._replace(**{field: value})  # type: ignore[arg-type]
        else:
            raise _wrong(word, name, _VALUES.get(name, ()))
    return found


def _wrong(word: str, name: str, values: Sequence[str]) -> UsageError:
    if values:
        hint = f"write {name}=" + " or ".join(values)
    elif name == "--trampoline":
        hint = "write --trampoline=GLOB"
    else:
        named = (f"{one}={'|'.join(values) or 'VALUE'}" for one, values in _VALUES.items())
        hint = "the options are " + ", ".join([*_SWITCHES, "--trampoline=GLOB", *named])
    return UsageError("SCP401", f"wrong option {word}", file="scpatch-ld", hint=hint)
