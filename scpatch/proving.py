"""`--verify`: proves and executes a new file before it has its name.

An error of `prove` keeps the file out (see `rewriter.staged`). It is called in the process that has
written the file, so that all processors prove.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scpatch.api import Source, verify
from scpatch.errors import ScpatchError
from scpatch.files.inputs import THIN_ARCHIVE
from scpatch.report.verify import VerifyReport
from scpatch.rewriter import Options, Output

_ADVICE = ", or leave out --verify"


def check_tools(linker_arguments: Sequence[str] = ()) -> None:
    """Whether `prove` can run code of what a linker makes with these arguments; if they do not say
    its byte order, code of either one.

    Raises SCP301 for a program that is missing, and SCP303.
    """
    from scpatch.verifier.tools import MACHINES, find_tools

    orders = [order for order in MACHINES if MACHINES[order].is_linked_by(linker_arguments)]
    errors = []
    for order in orders or MACHINES:
        try:
            find_tools(advice=_ADVICE, byte_order=order)
            return
        except ScpatchError as error:
            errors.append(error)
    raise errors[0]


def prove(output: Output, path: Path, options: Options) -> None:
    """Proves and executes the content of `path`, which is to be `output`. A thin archive holds no
    code; its members are outputs of their own.

    Raises SCP304 if a call is not proven, and what `api.verify` raises.
    """
    content = path.read_bytes()
    if not content.startswith(THIN_ARCHIVE):
        prove_content(output.source, content, str(output.target), options)


def prove_content(source: Source, content: bytes, label: str, options: Options) -> None:
    """The same for the new content of a source. Messages call it `label`."""
    verdicts = verify(source, content, options, label=label, advice=_ADVICE)
    wrong = [verdict for verdict in verdicts if not verdict.proven]
    if not wrong:
        return
    first, *rest = VerifyReport(wrong).findings()
    more = f", and {len(rest):,} more" if rest else ""
    message = f"not proven{more}: {first.message}"
    raise ScpatchError("SCP304", message, file=first.file, where=first.where)
