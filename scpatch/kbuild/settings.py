"""The options of the build step, from SCPATCH_FLAGS and from the LD string."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from scpatch import __version__
from scpatch.errors import Exit, ScpatchError
from scpatch.rewrite import Options
from scpatch.staticcall.classify import Choices
from scpatch.staticcall.strategies import STRATEGIES

_VALUES = {
    "--strategy": tuple(STRATEGIES),
    "--undefined": ("auto", "rewrite", "skip"),
    "--no-nop": ("refuse", "thunk"),
}


class UsageError(ScpatchError):
    """A wrong option or a missing linker; ends with exit code 2."""

    status = Exit.USAGE


class Settings(NamedTuple):
    options: Options = Options()
    prelink: bool = False
    """Whether vmlinux is linked from one object instead of vmlinux.a."""
    warn_only: bool = False
    """Whether a refused site is left as it is, with a message, instead of ending the build."""

    @property
    def key(self) -> str:
        """What the rewritten files depend on beside their sources."""
        options = self.options
        return repr((__version__, options.strategy, *options.choices, self.warn_only))


def parse(words: Sequence[str]) -> Settings:
    """The settings that the options `--prelink`, `--warn-only` and `--NAME=VALUE` stand for.

    The last one of a name counts, but every `--trampoline` does. Raises UsageError.
    """
    values = {"--strategy": "callsite", "--undefined": "auto", "--no-nop": "refuse"}
    trampolines: list[str] = []
    flags = dict.fromkeys(("--prelink", "--warn-only"), False)
    for word in words:
        name, equals, value = word.partition("=")
        if word in flags:
            flags[word] = True
        elif name == "--trampoline" and value:
            trampolines.append(value)
        elif equals and value in _VALUES.get(name, ()):
            values[name] = value
        else:
            raise _wrong(word, name)
    choices = Choices(undefined=values["--undefined"], no_nop=values["--no-nop"])
    if trampolines:
        choices = choices._replace(trampolines=tuple(trampolines))
    return Settings(Options(values["--strategy"], choices), *flags.values())


def _wrong(word: str, name: str) -> UsageError:
    if name in _VALUES:
        hint = f"write {name}=" + " or ".join(_VALUES[name])
    elif name == "--trampoline":
        hint = "write --trampoline=GLOB"
    else:
        hint = "the options are --warn-only, --prelink, --trampoline=GLOB, " + ", ".join(
            f"{one}={'|'.join(values)}" for one, values in _VALUES.items()
        )
    return UsageError("SCP401", f"wrong option {word}", file="scpatch-ld", hint=hint)
