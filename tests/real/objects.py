"""Real objects that the cross compiler's packages bring along."""

from __future__ import annotations

from pathlib import Path

from tests.tools import CROSS, LIBC, run


def libc_object(folder: Path) -> Path:
    """Half of the C library as one object: a few hundred members, linked by `ld -r`."""
    members = run(CROSS + "ar", "t", LIBC).stdout.split()[::8]
    unique = sorted(name for name in set(members) if name.endswith(".o"))
    work = folder / "members"
    work.mkdir()
    run(CROSS + "ar", "x", LIBC, *unique, cwd=work)
    whole = folder / "libc.o"
    run(CROSS + "ld", "-r", "-o", whole, *sorted(work.glob("*.o")))
    return whole
