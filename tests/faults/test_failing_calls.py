"""Each system call of the write path fails once: the file is old or new, and nothing is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from scpatch.files import output
from tests.faults.support import (
    FINE,
    REFUSED_TO_WRITE,
    Files,
    calls_of,
    fail_at,
    make_files,
    traced,
)

_ERRORS = {
    "openat": "EMFILE",
    "open": "EMFILE",
    "ftruncate": "ENOSPC",
    "truncate": "ENOSPC",
    "copy_file_range": "ENOSPC",
    "pwrite64": "ENOSPC",
    "write": "ENOSPC",
    "fsync": "EIO",
    "fdatasync": "EIO",
    "fchmod": "EPERM",
    "fchown": "EPERM",
    "link": "ENOSPC",
    "linkat": "ENOSPC",
    "rename": "EACCES",
    "mkdir": "ENOSPC",
    "read": "EIO",
}
"""What can fail on a system in trouble, and the error that it then gives."""


@pytest.mark.parametrize(("named", "backup"), [(False, True), (True, False)])
def test_each_system_call_fails_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool, backup: bool
) -> None:
    if named:
        monkeypatch.setattr(output, "_DESCRIPTORS", tmp_path / "no-proc")

    def fresh(number: int) -> Files:
        return make_files(tmp_path / str(number), "sites.o", backup=backup)

    calls = [call for call in calls_of(fresh(0).write, tmp_path / "log") if call.name in _ERRORS]
    wanted = {"openat", "copy_file_range", "pwrite64", "fsync", "fchmod", "rename", "read"}
    assert wanted <= {call.name for call in calls}
    ends = []
    for number, call in enumerate(calls, 1):
        files = fresh(number)
        ends.append(traced(files.write, tmp_path / "log", *fail_at(call, _ERRORS[call.name])))
        assert ends[-1] in (FINE, REFUSED_TO_WRITE), call
        assert files.check() == set(), call
        assert files.are_old() is (ends[-1] != FINE), call
        assert "INJECTED" in (tmp_path / "log").read_text()
    assert REFUSED_TO_WRITE in ends
    print(f"{len(calls)} failures, {ends.count(FINE)} of them got over")
