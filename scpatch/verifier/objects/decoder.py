"""The text of instructions, by capstone; by GNU objdump if capstone is not installed, which has no
wheels for ppc64le.

objdump is a program, so it reads many instructions at once: `prepare` tells it which.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from functools import cache
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Final

from scpatch.errors import ScpatchError
from scpatch.verifier.tools import USUAL, Toolchain, find

if TYPE_CHECKING:
    from capstone import Cs

_OPTIONS: Final = (
    *("-D", "-z", "-b", "binary", "-m", "powerpc:common64", "-EL", "--no-show-raw-insn"),
    *("-M", "power9"),  # later ones join a prefix of Power10 and the next word
)
_LINE: Final = re.compile(r" *[0-9a-f]+:\t(\S+) *(\S*).*")
_BYTE_ORDER: Final = "little"
"""In which words are given to the disassembler, whatever the file's is: their text is the same."""
_texts: Final[dict[int, str]] = {}
"""What objdump makes of the words that it was given."""
_chosen: Final = [USUAL]
"""Where to look for objdump."""


def choose(toolchain: Toolchain) -> None:
    """Says where this process is to look for objdump."""
    _chosen[0] = toolchain


@cache
def capstone() -> Cs | None:
    """The disassembler; None if the package is not installed."""
    try:
        import capstone
    except ImportError:
        return None
    return capstone.Cs(capstone.CS_ARCH_PPC, capstone.CS_MODE_64 | capstone.CS_MODE_LITTLE_ENDIAN)


def name() -> str:
    """The disassembler in use and its version."""
    if capstone() is not None:
        from capstone import __version__

        return f"capstone {__version__}"
    return _version(_objdump())


def prepare(words: Iterable[int]) -> None:
    """Has objdump read words that `decode` will be asked for, if there is no capstone.

    Raises ScpatchError (SCP301) if there is no objdump either.
    """
    if capstone() is None and (new := {word for word in words if word not in _texts}):
        _texts.update(zip(new, _read(list(new)), strict=True))


def decode(word: int) -> str:
    """What the disassembler makes of a word, `ld r2, 0x18(r1)` or `ld r2,24(r1)`; empty for what
    it cannot decode."""
    if (engine := capstone()) is not None:
        for _, _, mnemonic, operands in engine.disasm_lite(word.to_bytes(4, _BYTE_ORDER), 0):
            return f"{mnemonic} {operands}".rstrip()
        return ""
    if word not in _texts:
        prepare([word])
    return _texts[word]


def _read(words: list[int]) -> list[str]:
    with NamedTemporaryFile(prefix="scpatch-words-") as file:
        file.write(b"".join(word.to_bytes(4, _BYTE_ORDER) for word in words))
        file.flush()
        listing = _run(_objdump(), *_OPTIONS, file.name)
    matches = filter(None, map(_LINE.fullmatch, listing.splitlines()))
    texts = [f"{match[1]} {match[2]}".rstrip() for match in matches]
    return ["" if text.startswith(".long") else text for text in texts]


def _objdump() -> str:
    return find(
        "objdump",
        toolchain=_chosen[0],
        purpose="to decode instructions, since capstone is not installed",
        or_=", or pip install capstone",
    )


@cache
def _version(objdump: str) -> str:
    """`GNU objdump 2.40`"""
    first = _run(objdump, "--version").partition("\n")[0]
    return f"GNU objdump {first.split()[-1]}"


def _run(*command: str) -> str:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = done.stderr.strip() or f"exit status {done.returncode}"
        raise ScpatchError("SCP302", f"{command[0]} does not disassemble: {reason}")
    return done.stdout
