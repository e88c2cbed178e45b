"""A real browser for tests: headless chromium, driven over its DevTools protocol."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from npm_packages import npm_file
from waiting import PATIENCE_S, wait_until
from websockets.sync.client import connect

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

#: axe-core, which is loaded into a page by `violations` (Mozilla Public License 2.0).
_AXE = (
    "axe-core",
    "4.14.1",
    "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745",
    "axe.min.js",
)
#: Codes and texts of keys.
_KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), "Space": (32, " ")}


class Browser:
    """One window. Ends its process on exit."""

    def __init__(self, folder: Path) -> None:
        assert PROGRAM is not None
        self._numbers = itertools.count(1)
        self._process = subprocess.Popen(
            [
                PROGRAM,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--remote-debugging-port=0",
                "--remote-allow-origins=*",
                "--window-size=1000,800",
                f"--user-data-dir={folder}",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        port_file = folder / "DevToolsActivePort"

        def there() -> bool:
            assert self._process.poll() is None, "the browser ended"
            return port_file.exists() and bool(port_file.read_text().strip())

        wait_until("the browser starts", there)
        port = port_file.read_text().split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
            page = next(one for one in json.load(answer) if one["type"] == "page")
        self._open = ExitStack()
        self._line = self._open.enter_context(connect(page["webSocketDebuggerUrl"], max_size=None))
        self.call("Page.enable")
        self.call("Log.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        self._process.terminate()
        self._process.wait(PATIENCE_S)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._line.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            told = json.loads(self._line.recv(timeout=PATIENCE_S))
            if told.get("id") == number:
                assert "error" not in told, told["error"]
                found: dict[str, Any] = told["result"]
                return found

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        told = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def go(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def until(self, script: str) -> None:
        """Wait until an expression holds."""
        wait_until(lambda: f"{script}; the page says {self.text()!r}", lambda: self.run(f"Boolean({script})"))

    def press(self, key: str) -> None:
        """Press a key as a person does: `Tab`, `Enter` or `Space`."""
        code, text = _KEYS[key]
        about = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def write(self, text: str) -> None:
        """Write into what has the focus."""
        self.call("Input.insertText", text=text)

    def look(self, *, width: int, height: int, theme: str = "light") -> None:
        """Take a size, in pixels, and a theme: `light` or `dark`."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])

    def violations(self) -> list[str]:
        """Let axe-core look at the page, and return what it finds, with the first element of each."""
        self.run(npm_file(*_AXE) + "; true")
        found = self.run("axe.run(document).then((result) => result.violations)")
        return [f"{one['id']}: {one['help']}: {one['nodes'][0]['html']}" for one in found]

    def text(self) -> str:
        return str(self.run("document.body.innerText"))

    def picture(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
