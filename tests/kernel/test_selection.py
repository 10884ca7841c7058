"""Which tests `--linux` selects."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

import pytest

from tests.debian import ALL, Lists, Package
from tests.kernel.linux import Linux, select
from tests.kernel.selection import SHORT, Plugin
from tests.kernel.selection import THOROUGH as _THOROUGH
from tests.kernel.store import KernelError
from tests.tools import ROOT, run

ALWAYS = "test_every_case_passes[rewritten-"
IN_FULL = "test_a_module_reads_the_wrong_data["
THOROUGH = "test_a_kernel_in_which_only_static_calls_patch_code["


def collected(*words: str) -> str:
    command = [sys.executable, "-m", "pytest", "tests/kernel", "--collect-only", "-q", *words]
    return run(*command, cwd=ROOT).stdout


def kernels(text: str, test: str) -> list[str]:
    return re.findall(rf"{re.escape(test)}(.+)\]$", text, re.MULTILINE)


def test_the_newest_is_tested_in_full_and_the_others_by_a_short_list() -> None:
    text = collected()
    versions = [linux.version for linux in select().every]
    assert len(versions) > 1
    assert kernels(text, IN_FULL) == versions[:1]
    assert sorted(kernels(text, ALWAYS)) == sorted(versions)
    assert kernels(text, THOROUGH) == []
    for version in versions[1:]:
        assert re.search(
            rf"^Linux {version}\..*: \d+ tests\n  without \d+ more: is not", text, re.M
        )


@pytest.mark.parametrize(("words", "count"), [("all", len(select().every)), ("6.1,6.12", 2)])
def test_those_that_are_asked_for_are_tested_in_full(words: str, count: int) -> None:
    text = collected(f"--linux={words}")
    for test in (IN_FULL, ALWAYS, THOROUGH):
        assert len(kernels(text, test)) == count
    assert SHORT not in text
    assert _THOROUGH not in text


def test_a_kernel_that_no_release_has() -> None:
    with pytest.raises(KernelError, match=r"none of bookworm.* has linux-source-5\.99"):
        select("5.99")


class Marked:
    """A test of one kernel with a mark."""

    def __init__(self, *marks: pytest.Mark) -> None:
        self.marks = marks

    def get_closest_marker(self, name: str) -> None:
        assert name

    def iter_markers(self, name: str) -> Sequence[pytest.Mark]:
        return [mark for mark in self.marks if mark.name == name]


def test_what_is_left_out_says_why() -> None:
    linux = Linux(Package("linux-source-6.1", "6.1.1-1", Lists("bookworm", ALL)))
    plugin = Plugin(select("6.1"))
    mark = pytest.mark.unless.with_args(lambda linux: f"not for {linux.version}").mark
    assert plugin._why_not(Marked(mark), linux) == "not for 6.1"  # type: ignore[arg-type]
