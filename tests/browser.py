"""A real browser, asked through its DevTools protocol over pipes: what it complains of, how wide a
page is, and what it looks like."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "microsoft-edge")
LACKING = "no browser here: apt-get install -y chromium, or put one of " + ", ".join(NAMES)


def found() -> str | None:
    """The program, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One tab of a browser that has started.

    Attributes:
      complaints: what its console has said since the last `open`.
    """

    def __init__(self, send: int, receive: int):
        self._send, self._receive = send, os.fdopen(receive, "rb", buffering=0)
        self._number, self._rest, self._session = 0, b"", ""
        self.complaints: list[str] = []
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self._ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._ask(f"{domain}.enable")

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        said: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        said |= {"sessionId": self._session} if self._session else {}
        os.write(self._send, json.dumps(said).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = self._receive.read(1 << 20)
            assert part, "the browser has gone"
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(line)
        self._listen(message.get("method", ""), message.get("params", {}))
        return message

    def _listen(self, event: str, of: dict[str, Any]) -> None:
        if event == "Log.entryAdded":
            self.complaints.append(of["entry"]["text"])
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(str(of["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled":
            self.complaints.append(str(of["args"]))
        elif event == "Network.requestWillBeSent" and not of["request"]["url"].startswith("file:"):
            self.complaints.append(f"loads {of['request']['url']}")

    def open(self, page: Path, width: int, dark: bool = False) -> None:
        """Opens a file in a window of a width, and waits until it is there."""
        self.complaints.clear()
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self._ask("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._ask("Emulation.setEmulatedMedia", features=[scheme])
        self._ask("Page.navigate", url=page.absolute().as_uri())
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def asked(self, expression: str) -> Any:
        """The value of an expression in the page."""
        found = self._ask("Runtime.evaluate", expression=expression, returnByValue=True)
        return found["result"].get("value")

    def screenshot(self, file: Path) -> None:
        """Of the whole page, as a PNG."""
        shot = self._ask("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))


@contextlib.contextmanager
def started(program: str, folder: Path, seconds: float = 120) -> Iterator[Browser]:
    """A browser with a profile of its own in a folder; it is killed after so many seconds."""
    (out_read, out_write), (in_read, in_write) = os.pipe(), os.pipe()
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
             "--no-first-run", "--disable-dev-shm-usage", "--remote-debugging-pipe"]  # fmt: skip
    # It reads from 3 and writes to 4, which bash gives it.
    command = [program, *flags, f"--user-data-dir={folder / 'profile'}", "about:blank"]
    process = subprocess.Popen(
        ["bash", "-c", f'exec "$@" 3<&{in_read} 4>&{out_write}', "bash", *command],
        pass_fds=(in_read, out_write),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(in_read)
    os.close(out_write)
    clock = threading.Timer(seconds, process.kill)
    clock.start()
    try:
        yield Browser(in_write, out_read)
    finally:
        clock.cancel()
        process.kill()
        process.wait()
        os.close(in_write)
