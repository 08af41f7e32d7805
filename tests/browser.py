"""A headless Chromium for tests of pages: what it shows, what it says in its console, and what axe-core says of it.

It is driven through a pair of pipes in its own language, the Chrome DevTools Protocol: a JSON message, then a zero byte.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
AXE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "harness/axe/node_modules/axe-core/axe.min.js"
WAIT_S = 60.0  # for a machine that is busy with other tests; a condition that holds is seen at once

needs_browser = pytest.mark.skipif(not CHROMIUM, reason="no chromium: scripts/install-browser")
needs_axe = pytest.mark.skipif(not AXE.exists(), reason="no axe-core: scripts/install-browser")


class Browser:
    """One window."""

    def __init__(self, reader: int, writer: int) -> None:
        self.reader, self.writer, self.sent, self.buffer, self.session = reader, writer, 0, b"", ""
        self.said: list[str] = []
        target = self.cdp("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.cdp("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.cdp(f"{domain}.enable")

    def cdp(self, method: str, **params: Any) -> Any:
        """A command of the protocol; its result."""
        self.sent += 1
        message = {"id": self.sent, "method": method, "params": params} | ({"sessionId": self.session} if self.session else {})
        os.write(self.writer, json.dumps(message).encode() + b"\0")
        while (heard := self.hear()).get("id") != self.sent:
            self.note(heard)
        assert "error" not in heard, (method, heard["error"])
        return heard["result"]

    def hear(self) -> dict[str, Any]:
        """The next message."""
        end = time.monotonic() + WAIT_S
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.reader], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            data = os.read(self.reader, 1 << 20)
            assert data, "the browser is gone"
            self.buffer += data
        message, _, self.buffer = self.buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def note(self, heard: dict[str, Any]) -> None:
        """Remember what would stand in the console."""
        method, params = heard.get("method"), heard.get("params", {})
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.said.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled":
            self.said.append(" ".join(str(each.get("value", each.get("description"))) for each in params["args"]))
        elif method == "Log.entryAdded":
            self.said.append(params["entry"]["text"])

    def js(self, code: str, *arguments: Any) -> Any:
        """The body of a function with `args`; what it returns, as JSON. It may wait for promises."""
        expression = f"(async (...args) => {{{code}}})({','.join(map(json.dumps, arguments))})"
        found = self.cdp("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def view(self, width: int = 1280, height: int = 900, dark: bool = False, media: str = "") -> None:
        """The size of the window, and what a person has set."""
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.cdp("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def open(self, path: Path, fragment: str = "") -> None:
        """Open a report, and wait until its script is through."""
        self.goto("about:blank")
        self.said.clear()
        self.goto(path.as_uri() + (f"#{fragment}" if fragment else ""))
        self.until(lambda: self.js("return document.documentElement.dataset.ready"), lambda: self.said)

    def goto(self, address: str) -> None:
        """Load a page, without waiting for what its scripts do."""
        self.cdp("Page.navigate", url=address)
        self.until(lambda: self.js("return location.href + document.readyState") == f"{address}complete")

    def until(self, condition: Callable[[], Any], told: Callable[[], Any] = lambda: "") -> Any:
        """Wait for a condition, whatever the machine is busy with."""
        end = time.monotonic() + WAIT_S
        while not (found := condition()):
            assert time.monotonic() < end, f"it did not come to pass: {told()}"
            time.sleep(0.05)
        return found

    def texts(self, selector: str) -> list[str]:
        """The text of each element."""
        return list(self.js("return [...document.querySelectorAll(args[0])].map((each) => each.textContent.trim())", selector))

    def faults(self) -> list[str]:
        """What axe-core finds serious or critical."""
        self.cdp("Runtime.evaluate", expression=AXE.read_text())
        found = self.js("return (await axe.run({ resultTypes: ['violations'] })).violations")
        serious = [each for each in found if each["impact"] in ("serious", "critical")]
        return [f"{each['id']}: {[node['html'][:200] for node in each['nodes'][:3]]}" for each in serious]


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser with the folder `profile` to itself."""
    assert CHROMIUM
    (their_in, our_out), (our_in, their_out) = os.pipe(), os.pipe()
    flags = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking"]
    flags += ["--remote-debugging-pipe", f"--user-data-dir={profile}", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    # It reads descriptor 3 and writes 4; a shell puts them there, since ours may have any number.
    argv = ["bash", "-c", f'exec 3<&{their_in} 4>&{their_out}; exec "$0" "$@"', CHROMIUM, *flags]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(argv, pass_fds=(their_in, their_out), **quiet) as process:  # type: ignore[call-overload]
        os.close(their_in)
        os.close(their_out)
        try:
            found = Browser(our_in, our_out)
            yield found
            found.session = ""
            found.cdp("Browser.close")
        finally:
            process.terminate()
            process.wait()
            os.close(our_out)
            os.close(our_in)
