"""A headless Chromium that tests drive through its debugging pipe (Chrome DevTools Protocol)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

_COMMAND = (
    *("chromium-headless-shell", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"),
)


class Tab:
    """A page, and what its console and the network have said since it was opened."""

    def __init__(self, requests: int, answers: int) -> None:
        self._requests, self._answers = os.fdopen(requests, "wb"), os.fdopen(answers, "rb")
        self._numbers, self._unread = count(1), b""
        self.events: list[dict[str, Any]] = []
        self._session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            data = os.read(self._answers.fileno(), 1 << 20)
            assert data, "the browser has ended"
            self._unread += data
        message, _, self._unread = self._unread.partition(b"\0")
        answer = json.loads(message)
        assert isinstance(answer, dict)
        return answer

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._requests.write(json.dumps(message).encode() + b"\0")
        self._requests.flush()
        while (answer := self._read()).get("id") != number:
            self.events.append(answer)
        assert "error" not in answer, answer
        result = answer["result"]
        assert isinstance(result, dict)
        return result

    def open(self, path: Path, fragment: str = "") -> None:
        """Opens a file; returns when it is loaded and its script has run."""
        # From one fragment of a file to another is no load.
        for address in ("about:blank", path.as_uri() + fragment):
            self.events.clear()
            self.call("Page.navigate", url=address)
            while not any(event["method"] == "Page.loadEventFired" for event in self.events):
                self.events.append(self._read())

    def value(self, expression: str) -> Any:
        """The value of an expression of JavaScript in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def look(self, width: int, *, dark: bool = False, media: str = "") -> None:
        """Makes the window `width` pixels wide, with a light or dark theme, on screen or paper."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])

    @property
    def complaints(self) -> list[str]:
        """Errors of scripts and of the content security policy."""
        names = ("Log.entryAdded", "Runtime.exceptionThrown")
        return [json.dumps(event) for event in self.events if event["method"] in names]

    @property
    def requested(self) -> list[str]:
        """The addresses of everything that was fetched."""
        sent = (e for e in self.events if e["method"] == "Network.requestWillBeSent")
        return [event["params"]["request"]["url"] for event in sent]


@contextmanager
def browser(folder: Path) -> Iterator[Tab]:
    """A tab of a new browser, whose profile is in `folder`."""
    down, up = os.pipe(), os.pipe()
    # Chromium reads from descriptor 3 and writes to 4.
    script = "import os, sys; os.dup2({}, 3); os.dup2({}, 4); os.execvp(sys.argv[1], sys.argv[1:])"
    start = [sys.executable, "-c", script.format(down[0], up[1])]
    command = [*start, *_COMMAND, f"--user-data-dir={folder}"]
    process = subprocess.Popen(command, pass_fds=(down[0], up[1]), stderr=subprocess.DEVNULL)
    os.close(down[0])
    os.close(up[1])
    try:
        tab = Tab(down[1], up[0])
        yield tab
        tab.call("Page.close")
    finally:
        process.terminate()
        process.wait()
