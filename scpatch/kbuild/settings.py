"""The options of the build step, from SCPATCH_FLAGS and from the LD string."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from scpatch import __version__, strategies
from scpatch import options as o
from scpatch.kbuild.record import digest, identity
from scpatch.options import Parameter, UsageError, Values
from scpatch.sites.choices import Hoist, Undefined

if TYPE_CHECKING:
    from scpatch.rewriter import Options

_ASM_OFFSETS = Path("include/generated/asm-offsets.h")
"""Relative to the object tree, where Kbuild links."""

OPTIONS: Final = (
    Parameter(
        "warn_only",
        "Leave refused call sites as they are, instead of ending the build. For bring-up only: "
        "such calls lose r2.",
    ),
    o.TRAMPOLINES._replace(short=""),
    o.UNDEFINED,
    o.NO_NOP,
    # What is built here is a kernel: no function of it is preempted.
    o.HOIST._replace(default=Hoist.KERNEL),
    o.STRATEGY,
    o.STRATEGY._replace(
        name="module_strategy",
        help="How to preserve r2 in modules, if not as in vmlinux.",
        default=None,
        shown_default="--strategy's, or what it names for modules",
    ),
    o.ASM_OFFSETS._replace(shown_default=str(_ASM_OFFSETS)),
    o.PACA_TOC_OFFSET,
    o.UNMARK,
    o.EMIT_SITES._replace(
        help="Add the table of call sites, .static_call_sites, for a kernel with "
        "HAVE_STATIC_CALL_INLINE."
    ),
    Parameter("prelink", "Link vmlinux from one rewritten object, not from an archive."),
)
"""What `scpatch-ld` takes before the linker, as --NAME or --NAME=VALUE."""


class Settings(Values):
    """The values of OPTIONS, by their names."""

    @property
    def image_options(self) -> Options:
        """How the library rewrites what is linked into vmlinux. Raises UsageError.

        If one input does not define a trampoline, another input does: no module loader will look
        for the nop after its calls.
        """
        if self.undefined is Undefined.AUTO:
            return self._options(undefined=Undefined.REWRITE)
        return self._options()

    @property
    def module_options(self) -> Options:
        """How the library rewrites modules. Raises UsageError."""
        strategy = self.module_strategy or strategies.for_modules(self.strategy)
        return self._options()._replace(strategy=strategy)

    def _options(self, **more: object) -> Options:
        header = self.asm_offsets or (_ASM_OFFSETS if _ASM_OFFSETS.exists() else None)
        return o.library_options(Values(**{**vars(self), "asm_offsets": header}), **more)

    @property
    def key(self) -> str:
        """What the copies depend on apart from their sources: scpatch, the options, and the
        kernel's offsets, even if no object was compiled again for them.

        A checkout or a reinstallation can change the code and keep the version.
        """
        code = package_digest(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        offsets = identity(str(self.asm_offsets or _ASM_OFFSETS))
        values = [f"{name}={value}" for name, value in vars(self).items() if name != "prelink"]
        return repr((__version__, code, offsets, values))


def package_digest(folder: str) -> str:
    """Tells a package from one with other files, or with other contents of files."""
    parts: list[bytes] = []
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(names):
            with open(os.path.join(path, name), "rb", buffering=0) as file:
                content = file.read()
            relative = os.path.relpath(os.path.join(path, name), folder)
            parts += [os.fsencode(relative), b"\0%d\0" % len(content), content]
    return digest(b"".join(parts))


def parse(words: Sequence[str]) -> Settings:
    """The settings for the options `--NAME` and `--NAME=VALUE`.

    The last value of an option counts, but all of a repeatable one. Raises UsageError.
    """
    known = {option.flag: option for option in OPTIONS}
    values: dict[str, Any] = {option.name: option.initial for option in OPTIONS}
    for word in words:
        flag, equals, text = word.partition("=")
        option = known.get(flag)
        try:
            if option is None:
                raise UsageError(f"unknown option {word}")
            if (option.kind is bool) == bool(equals):
                raise option.wrong("it takes none" if equals else "there is none")
            value = not equals or option.read(text)
        except UsageError as error:
            hint = "the options are " + ", ".join(map(spelling, OPTIONS))
            raise UsageError(error.message, file="scpatch-ld", hint=hint) from error
        values[option.name] = (*values[option.name], value) if option.repeatable else value
    return Settings(**values)


def spelling(option: Parameter) -> str:
    """An option as it is written before the linker."""
    return option.flag if option.kind is bool else f"{option.flag}={option.value_name}"
