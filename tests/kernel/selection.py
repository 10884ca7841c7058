"""Repeats each test for the kernels of the run that it holds for, and says which were left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kernel.linux import Linux, Selection
from tests.kernel.toolchain import no_llvm
from tests.kernel.variants import Variant

_LEFT_OUT = "scpatch-linux"
SHORT = "is not in the short list"
THOROUGH = "takes so long that it needs --linux"


class Plugin:
    """A process of a run: with pytest-xdist the workers collect, and one of them tells the main
    process what it has left out."""

    def __init__(self, selected: Selection) -> None:
        self.selected = selected
        self.counts: Counter[str] = Counter()
        """The tests of each kernel, by its version."""
        self.left_out: dict[str, list[str]] = {}
        """Versions with the reason, and the tests for which it holds."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "linux" in metafunc.fixturenames:
            every = self.selected.every
            ids = [linux.version for linux in every]
            metafunc.parametrize("linux", every, ids=ids, indirect=True, scope="session")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Takes out the tests that a kernel is not for."""
        out = []
        for item in list(items):
            linux = _linux(item)
            if linux is None:
                continue
            if reason := self._why_not(item, linux):
                self.left_out.setdefault(f"{linux.version}: {reason}", []).append(item.nodeid)
                items.remove(item)
                out.append(item)
            else:
                self.counts[linux.version] += 1
        config.hook.pytest_deselected(items=out)

    def _why_not(self, item: pytest.Item, linux: Linux) -> str:
        if linux in self.selected.short and item.get_closest_marker("short") is None:
            return SHORT
        if not self.selected.thorough and item.get_closest_marker("thorough") is not None:
            return THOROUGH
        reasons = [str(mark.args[0](linux)) for mark in item.iter_markers("unless")]
        if any(isinstance(value, Variant) and value.llvm for value in _parameters(item).values()):
            reasons.append(no_llvm(linux))
        return next(filter(None, reasons), "")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
        if output is not None:
            output[_LEFT_OUT] = (dict(self.counts), self.left_out)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        output = getattr(node, "workeroutput", None) or {}
        if _LEFT_OUT in output:
            counts, self.left_out = output[_LEFT_OUT]
            self.counts = Counter(counts)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("kernels")
        for line in self.lines():
            terminalreporter.write_line(line)

    def lines(self) -> Iterator[str]:
        for linux in self.selected.every:
            yield f"{linux}: {self.counts[linux.version]} tests"
            start = f"{linux.version}: "
            for known, tests in self.left_out.items():
                if known.startswith(start):
                    names = sorted({name.split("::")[-1].split("[")[0] for name in tests})
                    which = "" if known.endswith(SHORT) else f" ({', '.join(names)})"
                    yield f"  without {len(tests)} more: {known.removeprefix(start)}{which}"


def _linux(item: pytest.Item) -> Linux | None:
    linux = _parameters(item).get("linux")
    return linux if isinstance(linux, Linux) else None


def _parameters(item: pytest.Item) -> dict[str, object]:
    return dict(item.callspec.params) if hasattr(item, "callspec") else {}
