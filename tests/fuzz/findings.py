"""The faults of a fuzzer: an input of each kind, with the words that distinguish it."""

from __future__ import annotations

import re
import traceback
from collections import Counter
from hashlib import blake2b
from pathlib import Path

from tests.fuzz.exercise import FaultError

_NUMBER = re.compile(r"0x[0-9a-f]+|\d+|\b[0-9a-f]{12}\b")
_NAMES = re.compile(r"(in|symbol|section) \S+")
_SHOWN = 100


def kind_of(error: BaseException) -> str:
    """One line for all inputs that fail alike: the text without its numbers and names, or where an
    exception came from."""
    if isinstance(error, FaultError):
        return _NAMES.sub(r"\1 X", _NUMBER.sub("N", str(error)))[:_SHOWN]
    stack = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in stack if "scpatch/" in frame.filename]
    place = (own or stack)[-1]
    return f"{type(error).__name__} in {Path(place.filename).name}, {place.name}"


class Findings:
    """Keeps the first input of each kind in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.kinds: Counter[str] = Counter()
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, error: BaseException, data: bytes) -> str:
        """Counts an error, and keeps the input of the first of its kind. Returns the kind."""
        kind = kind_of(error)
        self.kinds[kind] += 1
        path = self._folder / blake2b(kind.encode(), digest_size=6).hexdigest()
        if not path.exists():
            path.write_bytes(data)
            text = "".join(traceback.format_exception(error))
            path.with_suffix(".txt").write_text(f"{kind}\n\n{text}", errors="backslashreplace")
        return kind
