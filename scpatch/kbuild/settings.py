"""The options of the build step, from SCPATCH_FLAGS and from the LD string."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from scpatch import __version__, strategies
from scpatch import options as o
from scpatch.options import Parameter, UsageError, Values
from scpatch.sites.choices import Hoist, Undefined

if TYPE_CHECKING:
    from scpatch.rewriter import Check, Options

_ASM_OFFSETS = Path("include/generated/asm-offsets.h")
"""The kernel's own, relative to the object tree."""
_OBJECT_TREE = "objtree"
"""The variable with its path. Kbuild links in the object tree, but since Linux 6.13 it links an
external module in the module's folder."""

OPTIONS: Final = (
    Parameter(
        "warn_only",
        "Leave refused call sites as they are, instead of ending the build. For bring-up only: "
        "such calls lose r2.",
        group=o.Group.STRATEGY,
    ),
    o.TRAMPOLINES._replace(short=""),
    o.UNDEFINED,
    o.NO_NOP,
    # What is built here is a kernel: no function of it is preempted.
    o.HOIST._replace(default=Hoist.KERNEL),
    o.STRATEGY._replace(
        help="How to preserve r2: a strategy (`scpatch explain NAME`). auto: what costs least in "
        f"vmlinux, {strategies.DEFAULT} in modules.",
        default=strategies.AUTO,
        choices=lambda: (strategies.AUTO, *strategies.names()),
    ),
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
    o.SYNC._replace(
        help="Wait until the files that scpatch writes are on the disk.",
        shown_default="",
    ),
    o.VERIFY,
    Parameter(
        "prelink",
        "Link vmlinux from one rewritten object, not from an archive.",
        group=o.Group.STRATEGY,
    ),
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
        undefined = Undefined.REWRITE if self.undefined is Undefined.AUTO else self.undefined
        options = self._options()._replace(undefined=undefined)
        if self.strategy != strategies.AUTO:
            return options
        return options._replace(strategy=strategies.for_images(options.choices, options.offsets))

    @property
    def module_options(self) -> Options:
        """How the library rewrites modules. Raises UsageError."""
        strategy = self.module_strategy or strategies.for_modules(self.strategy)
        return self._options()._replace(strategy=strategy)

    def check_of(self, options: Options) -> Check | None:
        """What proves new files that were made with these options, if that is wanted."""
        if not self.verify:
            return None
        from functools import partial

        from scpatch.proving import prove

        return partial(prove, options=options)

    def check(self, command: Sequence[str] = ()) -> None:
        """Raises UsageError if options do not go together, ScpatchError for a file without offsets,
        or SCP301 if --verify lacks a program: the first link comes after all is compiled. The file
        of --asm-offsets may be one that the build makes. `command` is one of the linker."""
        header = self.asm_offsets
        missing = header is not None and not header.exists()
        known = Settings(**{**vars(self), "asm_offsets": None}) if missing else self
        for _ in (known.image_options, known.module_options):
            pass
        if self.verify:
            from scpatch.proving import check_tools

            check_tools(command)

    def _options(self) -> Options:
        header = self.asm_offsets or (_asm_offsets() if _asm_offsets().exists() else None)
        strategy = strategies.DEFAULT if self.strategy == strategies.AUTO else self.strategy
        values = {**vars(self), "asm_offsets": header, "strategy": strategy}
        return o.library_options(Values(**values))

    @property
    def key(self) -> str:
        """What the copies depend on apart from their sources: scpatch, the options, and the
        kernel's offsets, even if no object was compiled again for them.

        A checkout or a reinstallation can change the code and keep the version.
        """
        from scpatch.kbuild.record import identity, package_digest  # not for the link of a module

        code = package_digest(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        offsets = identity(str(self.asm_offsets or _asm_offsets()))
        others = ("prelink", "sync")  # they change no copy
        values = [f"{name}={value}" for name, value in vars(self).items() if name not in others]
        return repr((__version__, code, offsets, values))


def _asm_offsets() -> Path:
    return Path(os.environ.get(_OBJECT_TREE, ""), _ASM_OFFSETS)


def split(words: Sequence[str], flags: str = "") -> tuple[Settings, tuple[str, ...]]:
    """The settings for SCPATCH_FLAGS and the options at the start of `words`; and what follows.

    The value of an option follows after `=` or is the next word. The last value of an option
    counts, but all of a repeatable one. Raises UsageError.
    """
    values: dict[str, Any] = {option.name: option.initial for option in OPTIONS}
    if rest := _read(flags.split(), values):
        raise _error(f"{rest[0]} in SCPATCH_FLAGS is no option and no value of one")
    rest = _read(words, values)
    return Settings(**values), rest


def parse(words: Sequence[str]) -> Settings:
    """The settings for options alone. Raises UsageError."""
    settings, rest = split(words)
    if rest:
        raise _error(f"{rest[0]} is no option and no value of one")
    return settings


def _read(words: Sequence[str], values: dict[str, Any]) -> tuple[str, ...]:
    """Puts the values of the options at the start of `words` into `values`. Returns the rest."""
    known = {option.flag: option for option in OPTIONS}
    rest = list(words)
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        flag, equals, text = word.partition("=")
        option = known.get(flag)
        try:
            if option is None:
                raise UsageError(f"unknown option {word}", hint=o.suggestion(flag, known))
            if option.kind is bool and equals:
                raise option.wrong("it takes none")
            if option.kind is not bool and not equals:
                if not rest or rest[0].startswith("-"):
                    raise option.wrong("there is none")
                text = rest.pop(0)
            value = option.kind is bool or option.read(text)
        except UsageError as error:
            raise _error(error.message, error.hint) from error
        values[option.name] = (*values[option.name], value) if option.repeatable else value
    return tuple(rest)


def _error(message: str, hint: str = "") -> UsageError:
    every = "the options are " + ", ".join(map(spelling, OPTIONS))
    return UsageError(message, file="scpatch-ld", hint=hint or every)


def spelling(option: Parameter) -> str:
    """An option as it is written before the linker."""
    return option.flag if option.kind is bool else f"{option.flag}={option.value_name}"
