"""Reads as much of a linker's command line as the build step needs. No I/O.

GNU ld and lld spell most options alike: a long option takes one dash or two; its value follows
after `=` or is the next argument (ldlex.h and lexsup.c in binutils, Options.td in lld).
"""

import os
import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import NamedTuple, Self

from scpatch.options import UsageError

_SHORT = frozenset("AFGILORTYabcefhlmouyz")
"""Short options. The value is the rest of the argument or, if that is empty, the next one."""

_LONG_NAMES = (
    "Map Tbss Tdata Tdata-segment Tldata-segment Trodata-segment Ttext Ttext-segment assert "
    "audit auxiliary default-script defsym dependency-file depaudit dynamic-linker "
    "dynamic-list entry exclude-libs filter fini format gpsize init just-symbols "
    "library library-path mri-script oformat output plugin plugin-opt require-defined "
    "retain-symbols-file rpath rpath-link script section-start soname sort-section "
    "spare-dynamic-tags sysroot task-link trace-symbol undefined undefined-version "
    "unresolved-symbols version-script wrap"
)
_LONG = frozenset(_LONG_NAMES.split())
"""Long options whose value may be the next argument."""

_MADE_BY_A_PASS = r"\.btf\.|\.tmp_vmlinux(?!0\.kallsyms)"
"""Starts the names of objects that Kbuild makes from an earlier link of the same image: its symbols
for kallsyms, and BTF (scripts/link-vmlinux.sh). Linux 6.10 and later make an empty table of symbols
for the first link, .tmp_vmlinux0.kallsyms.o."""


_LAST_IMAGES = frozenset({"vmlinux", "vmlinux.unstripped"})
"""What Kbuild calls the image; the second name is that of Linux 6.18 and later."""
_PASS = ".tmp_vmlinux"
"""Starts the names of the images that Kbuild links for kallsyms and BTF."""


class Link(Enum):
    """The links that the build step takes part in, and those that it must not pass on."""

    VMLINUX = "vmlinux"
    MODULE = "module"
    UNKNOWN = "unknown"
    """It looks like a link of vmlinux, but its linker script is not that of powerpc."""


class Command(NamedTuple):
    """A linker and its arguments, and what the build step has to know of these."""

    linker: str
    arguments: tuple[str, ...]
    inputs: tuple[int, ...] = ()
    """The indices of the arguments that name files to link."""
    output: str = "a.out"
    output_at: tuple[int, str] | None = None
    """The index of the argument that ends with the output's name, and what precedes the name."""
    scripts: tuple[str, ...] = ()
    relocatable: bool = False

    @property
    def link(self) -> Link | None:
        """Which link this is; None: one to pass on.

        Any sign is enough. Linker scripts are in other places in a distribution's headers package
        (arch/powerpc/module.lds), and a link that is not recognised would lose its r2 in silence.
        `scpatch-ld` passes on at once only calls without any of these signs.
        """
        scripts = [os.path.normpath(f"/{script}") for script in self.scripts]
        if self.relocatable:
            by_script = any(os.path.basename(script) == "module.lds" for script in scripts)
            by_input = any(name.endswith(".mod.o") for name in self.files)
            module = by_script or by_input or self.output.endswith(".ko")
            return Link.MODULE if module else None
        if any(script.endswith("/arch/powerpc/kernel/vmlinux.lds") for script in scripts):
            return Link.VMLINUX
        if any(os.path.basename(script) == "vmlinux.lds" for script in scripts):
            return Link.UNKNOWN
        name = os.path.basename(self.output)
        return Link.UNKNOWN if name in _LAST_IMAGES or name.startswith(_PASS) else None

    @property
    def saves_command(self) -> bool:
        """Whether Kbuild saves the command of the link: not for the passes of kallsyms."""
        name = os.path.basename(self.output)
        return self.link is Link.MODULE or (self.link is Link.VMLINUX and name in _LAST_IMAGES)

    @property
    def files(self) -> list[str]:
        """The names of the files to link, each once."""
        return list(dict.fromkeys(self.arguments[index] for index in self.inputs))

    @property
    def is_first(self) -> bool:
        """Whether no earlier link of the same image has made one of the files."""
        return not any(re.match(_MADE_BY_A_PASS, os.path.basename(name)) for name in self.files)

    @property
    def renames(self) -> bool:
        """Whether an option may direct a name elsewhere than to what the inputs define under it."""
        options = {word.lstrip("-").partition("=")[0] for word in self.arguments if word[:1] == "-"}
        return not options.isdisjoint(("wrap", "defsym"))

    def with_output(self, path: str) -> Self:
        """The same link with another output. Raises UsageError if the command names none."""
        if self.output_at is None:
            raise UsageError("a module's link without -o", file=self.linker)
        index, prefix = self.output_at
        return self._replaced({index: prefix + path})._replace(output=path)

    def with_inputs(self, paths: Mapping[str, str]) -> Self:
        """The same link with other files for some inputs."""
        names = {index: self.arguments[index] for index in self.inputs}
        return self._replaced({i: paths[name] for i, name in names.items() if name in paths})

    def _replaced(self, changes: Mapping[int, str]) -> Self:
        arguments = tuple(changes.get(i, word) for i, word in enumerate(self.arguments))
        return self._replace(arguments=arguments)


def read(words: Sequence[str]) -> Command:
    """The command in `words`, the linker first."""
    arguments = tuple(words[1:])
    command = Command(words[0], arguments)
    inputs: list[int] = []
    index = 0
    while index < len(arguments):
        word = arguments[index]
        if not word.startswith("-") or word == "-":
            inputs.append(index)
        name, prefix = _option(word)
        if name is not None and prefix is None:
            index += 1
            prefix = ""
        if name is not None and index < len(arguments):
            command = _with_option(command, name, index, prefix or "")
        elif word in ("-r", "--relocatable", "-relocatable", "-i"):
            command = command._replace(relocatable=True)
        index += 1
    return command._replace(inputs=tuple(inputs))


def _option(word: str) -> tuple[str | None, str | None]:
    """The name of an option that takes a value, and what precedes the value in the argument: None
    if the value is the next argument."""
    if not word.startswith("-") or len(word) < 2:
        return None, None
    long, equals, _ = word.lstrip("-").partition("=")
    # GNU ld reads `-oX` as a short option, even if a long one starts with the same letter.
    if long in _LONG and (word.startswith("--") or long[0] != "o"):
        return long, word[: word.index("=") + 1] if equals else None
    if word[1] in _SHORT and word[1] != "-":
        return word[1], word[:2] if len(word) > 2 else None
    return None, None


def _with_option(command: Command, name: str, index: int, prefix: str) -> Command:
    value = command.arguments[index][len(prefix) :]
    if name in ("o", "output"):
        return command._replace(output=value, output_at=(index, prefix))
    if name in ("T", "script"):
        return command._replace(scripts=(*command.scripts, value))
    return command
