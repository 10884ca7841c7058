"""Holds rewriter and proof against each other on a folder of kernel modules.

`python -m tests.bench.modules FOLDER` takes every `.ko` below a folder, without its signature, and
calls of common functions as if they were static calls. Each module is rewritten twice: as a module,
whose undefined trampolines are the loader's, and with `--undefined rewrite`. Prints the states of
the call sites, and each module that the proof does not agree on. Exit status 1: there is one.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from scpatch.errors import ScpatchError
from scpatch.rewriter import Options, plan_file, write
from scpatch.verifier.proof import prove

PATTERNS = ("_printk", "kfree", "mutex_*", "*alloc*", "*lock*")
_SIGNED = b"~Module signature appended~\n"
_TRAILER = 12
"""Bytes of struct module_signature (include/linux/module_signature.h); the last four are the size
of the signature before it, big-endian."""


def unsigned(data: bytes) -> bytes:
    """A module's content without the signature behind it."""
    if not data.endswith(_SIGNED):
        return data
    end = len(data) - len(_SIGNED)
    size = int.from_bytes(data[end - 4 : end], "big")
    return data[: end - _TRAILER - size]


def disagreement(path: Path, undefined: str, states: Counter[str]) -> str:
    """What the proof says against the rewritten module; empty for nothing. Counts its sites."""
    after = path.with_suffix(".new")
    after.unlink(missing_ok=True)
    try:
        plan = plan_file(path, Options(trampolines=PATTERNS, undefined=undefined), after)
        write([plan], allow_refused=True)
    except ScpatchError as error:
        return str(error)
    for site in plan.objects[0].plan.sites:
        states[f"{site.state.value} {site.code}".rstrip()] += 1
    return "; ".join(prove(path, after, PATTERNS).errors[:2])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.modules", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, help="so many modules, chosen at random (seed 1)")
    given = parser.parse_args()
    paths = sorted(given.folder.rglob("*.ko"))
    random.Random(1).shuffle(paths)
    states: Counter[str] = Counter()
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "module.ko"
        for path in paths[: given.count]:
            copy.write_bytes(unsigned(path.read_bytes()))
            for undefined in ("auto", "rewrite"):
                if said := disagreement(copy, undefined, states):
                    bad += 1
                    print(f"{path} ({undefined}): {said}")
    print(f"{len(paths[: given.count]):,} modules, {states.total():,} call sites")
    for state, count in states.most_common():
        print(f"  {state}: {count:,}")
    print(f"the proof disagrees on {bad}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
