"""Every relocation of code is read, or the file is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from scpatch.errors import ScpatchError
from scpatch.rewriter import plan_file
from tests.relocated import READ, UNREAD, data
from tests.tools import options, rewritten, scan_file


@pytest.mark.parametrize("name", UNREAD)
def test_what_is_not_read_is_refused(tmp_path: Path, name: str) -> None:
    elf, code, word = UNREAD[name]
    path = tmp_path / "x.o"
    path.write_bytes(data(elf))
    with pytest.raises(ScpatchError) as caught:
        plan_file(path, options())
    assert caught.value.code == code
    assert word in caught.value.message


@pytest.mark.parametrize("name", READ)
def test_the_call_is_found(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.o"
    path.write_bytes(data(READ[name]))
    assert [site.state for site in scan_file(path).sites] == ["rewrite"]
    new = rewritten(path)
    assert [site.state for site in scan_file(new).sites] == ["done"]
