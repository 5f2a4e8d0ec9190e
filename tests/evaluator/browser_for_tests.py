"""A real Chromium, headless, for the tests of the pages: Debian's, spoken to over a pipe, so that nothing listens.

    with Browser() as browser:
        page = browser.open(path, width=390, dark=True)
        page.evaluate("document.title")
        page.screenshot(Path("phone.png"))

    python tests/evaluator/browser_for_tests.py PAGE FOLDER             # screenshots of a page, to look at
    python tests/evaluator/browser_for_tests.py PAGE FOLDER axe.min.js  # and what axe-core finds in it

The protocol is Chromium's own (DevTools). Whatever a page logs, throws or asks of the network is kept: `page.troubles`
and `page.requests`. All names resolve to nothing, so a page that asked the network for something would not get it.
"""

import base64
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

PROGRAMS, PACKAGES = ("chromium",), ("chromium",)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--host-resolver-rules=MAP * ~NOTFOUND", "--force-prefers-reduced-motion", "--hide-scrollbars",
    "--remote-debugging-pipe",
)  # fmt: skip
PATIENCE = 60.0
"""Seconds for an answer: other tests may have the machine."""


class Browser:
    """Chromium, from `__enter__` to `__exit__`."""

    def __enter__(self) -> "Browser":
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()

        def as_3_and_4() -> None:
            # First out of the way: one of the two may be 3 or 4 itself.
            ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_browser, from_browser)]
            for number, end in zip((3, 4), ends):
                os.dup2(end, number)

        self._process = subprocess.Popen(
            [shutil.which("chromium"), *FLAGS, f"--user-data-dir={self._profile.name}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=as_3_and_4,
            close_fds=False,
            start_new_session=True,
        )
        os.close(to_browser)
        os.close(from_browser)
        os.set_blocking(self._in, False)
        self._number, self._rest, self._pages = 0, b"", {}
        return self

    def __exit__(self, *exception) -> None:
        with contextlib.suppress(OSError, AssertionError):
            self.call("Browser.close")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)
        self._profile.cleanup()

    def open(
        self, path: Path, *, width: int = 1280, height: int = 900, dark: bool = False, script: bool = True
    ) -> "Page":
        """A page of its own that shows the file, loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, target, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.call("Emulation.setScriptExecutionDisabled", value=not script)
        page.call("Emulation.setFocusEmulationEnabled", enabled=True)
        page.resize(width, height)
        page.media(dark=dark)
        page.call("Page.navigate", url=path.resolve().as_uri())
        self._wait(lambda: page.loaded)
        return page

    def call(self, method: str, session: str | None = None, **parameters) -> dict:
        """Ask the browser, or one of its pages, and return what it answers."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        answer = self._wait(lambda number=self._number: self._answers.pop(number, None))
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    _answers: dict

    def _wait(self, condition):
        """Read what the browser says until `condition()` is true, and return what it gave."""
        until = time.monotonic() + PATIENCE
        self._answers = getattr(self, "_answers", {})
        while not (value := condition()):
            assert time.monotonic() < until and self._process.poll() is None, "Chromium does not answer"
            try:
                self._rest += os.read(self._in, 1 << 20)
            except BlockingIOError:
                time.sleep(0.005)
                continue
            *messages, self._rest = self._rest.split(b"\0")
            for message in map(json.loads, messages):
                if "id" in message:
                    self._answers[message["id"]] = message
                elif message.get("sessionId") in self._pages:
                    self._pages[message["sessionId"]].hear(message["method"], message["params"])
        return value


class Page:
    """One page in the browser."""

    def __init__(self, browser: Browser, target: str, session: str):
        self._browser, self._target, self._session = browser, target, session
        self.loaded = False
        self.troubles: list[str] = []
        """What was logged as a warning or an error, or thrown."""
        self.requests: list[str] = []
        """Addresses that were asked for, the page's own first."""

    def hear(self, event: str, content: dict) -> None:
        """Keep what the page has to say."""
        if event == "Page.loadEventFired":
            self.loaded = True
        elif event == "Network.requestWillBeSent":
            self.requests.append(content["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            self.troubles.append(json.dumps(content["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled" or event == "Log.entryAdded":
            self.troubles.append(json.dumps(content))

    def call(self, method: str, **parameters) -> dict:
        """Ask the page by a command of the protocol."""
        return self._browser.call(method, self._session, **parameters)

    def evaluate(self, expression: str):
        """Value of a JavaScript expression; a promise is waited for."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def until(self, expression: str):
        """Wait until a JavaScript expression is true."""
        until = time.monotonic() + PATIENCE
        while not (value := self.evaluate(f"!!({expression})")):
            assert time.monotonic() < until, f"never true: {expression}"
            time.sleep(0.02)
        return value

    def resize(self, width: int, height: int = 900) -> None:
        """Give the page this size, in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def media(self, *, dark: bool = False, kind: str = "", forced: bool = False) -> None:
        """Emulate light or dark, `print`, and a reader's own few colours (forced ones)."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        colors = {"name": "forced-colors", "value": "active" if forced else "none"}
        self.call("Emulation.setEmulatedMedia", media=kind, features=[scheme, colors])

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key: Tab, Enter, Escape, a space or an arrow."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowLeft": 37, "ArrowRight": 39}
        code = codes[key]
        text = {"Enter": "\r", " ": " "}.get(key, "")
        common = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": code}
        common["modifiers"] = 8 if shift else 0
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def click(self, selector: str) -> None:
        """Click with the mouse in the middle of an element, which comes into view first."""
        place = self.evaluate(
            f"(() => {{ const one = document.querySelector({json.dumps(selector)});"
            "one.scrollIntoView({block: 'center', inline: 'center'}); const box = one.getBoundingClientRect();"
            "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def drag(self, selector: str, *shares: tuple[float, float]) -> None:
        """Point at places of an element, shares of its width and height; with the button down if there are several."""
        box = self.evaluate(
            f"(() => {{ const one = document.querySelector({json.dumps(selector)});"
            "one.scrollIntoView({block: 'center'}); const box = one.getBoundingClientRect();"
            "return [box.x, box.y, box.width, box.height]; })()"
        )
        first, *others = [(box[0] + x * box[2], box[1] + y * box[3]) for x, y in shares]
        steps = [("mouseMoved", first, 0)]
        if others:
            moves = [("mouseMoved", other, 1) for other in others]
            steps += [("mousePressed", first, 1), *moves, ("mouseReleased", others[-1], 0)]
        for kind, (x, y), buttons in steps:
            button = {"mouseMoved": "left" if buttons else "none"}.get(kind, "left")
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, buttons=buttons, clickCount=1)

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Write a PNG of the page, all of it or what is in view."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self, path: Path) -> None:
        """Write the page as it is printed."""
        path.write_bytes(base64.b64decode(self.call("Page.printToPDF", preferCSSPageSize=True)["data"]))

    def close(self) -> None:
        """Close the page."""
        self._browser.call("Target.closeTarget", targetId=self._target)


if __name__ == "__main__":
    import sys

    shown, folder = map(Path, sys.argv[1:3])
    axe = Path(sys.argv[3]).read_text(encoding="utf-8") if len(sys.argv) > 3 else ""
    widths = {f"{width}px": {"width": width, "height": height} for width, height in
              ((360, 800), (390, 844), (768, 1024), (1440, 900), (2560, 1300))}  # fmt: skip
    with Browser() as browser:
        for name, options in {**widths, "dark": {"width": 1440, "dark": True}}.items():
            page = browser.open(shown, **options)
            page.screenshot(folder / f"{name}-first.png", whole=False)
            page.screenshot(folder / f"{name}.png")
            page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
            time.sleep(1)
            print(name, page.requests, page.troubles[:3])
            if axe:
                page.evaluate(f"{axe};0")
                found = page.evaluate(
                    "axe.run().then((done) => done.violations.map((one) => [one.id, one.nodes.length]))"
                )
                print("  axe-core:", found or "nothing found")
            page.close()
        browser.open(shown).pdf(folder / "print.pdf")
