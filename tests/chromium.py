"""A Chromium without a window, driven by its DevTools protocol over a pair of pipes: what a page logs, asks for and looks like."""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PATIENCE_S = 120
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium():
    """The path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


# the protocol reads from 3 and writes to 4, which may be one of ours
STARTING = """
import fcntl, os, sys
high = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 100) for number in sys.argv[1:3]]
os.dup2(high[0], 3)
os.dup2(high[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One page at a time. `complaints` are what its console says and what fails, `requests` the addresses that it asks for."""

    def __init__(self, path):
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        reading, to_browser = os.pipe()
        from_browser, writing = os.pipe()
        self._out, self._in = to_browser, from_browser
        options = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--hide-scrollbars",
        ]
        options += [
            "--disable-background-networking",
            "--remote-debugging-pipe",
            f"--user-data-dir={self._profile.name}",
        ]
        command = [sys.executable, "-I", "-c", STARTING, str(reading), str(writing), path, *options]
        self._process = subprocess.Popen(
            command,
            pass_fds=(reading, writing),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )
        os.close(reading)
        os.close(writing)
        self._rest, self._numbers, self._session = b"", itertools.count(1), None
        self.complaints, self.requests, self._events = [], [], []
        try:
            self._attach()
        except BaseException:
            self.__exit__()
            raise

    def _attach(self):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Performance.enable", timeDomain="threadTicks")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._process.terminate()
        self._process.wait(timeout=PATIENCE_S)
        os.close(self._out)
        os.close(self._in)
        self._profile.cleanup()

    def call(self, method, **options):
        """Returns what a method of the protocol answers."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": options}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def _read(self):
        """The next message; events are noted on the way."""
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], PATIENCE_S)
            assert ready, "the browser says nothing"
            piece = os.read(self._in, 2**20)
            assert piece, "the browser has ended"
            self._rest += piece
        message, _, self._rest = self._rest.partition(b"\0")
        found = json.loads(message)
        self._note(found.get("method"), found.get("params", {}))
        return found

    def _note(self, event, facts):
        self._events.append(event)
        if event == "Runtime.exceptionThrown":
            self.complaints.append(facts["exceptionDetails"]["text"])
        elif event == "Runtime.consoleAPICalled" and facts["type"] in ("error", "warning", "assert"):
            self.complaints.append(str(facts["args"]))
        elif event == "Log.entryAdded" and facts["entry"]["level"] in ("error", "warning"):
            self.complaints.append(facts["entry"]["text"])
        elif event == "Network.requestWillBeSent":
            self.requests.append(facts["request"]["url"])

    def open(self, path, *, width=1280, height=900, is_dark=False):
        """Open a file in a window of this size; returns the seconds until it was loaded."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.complaints, self.requests, self._events = [], [], []
        began = time.monotonic()
        self.call("Page.navigate", url=Path(path).resolve().as_uri())
        while "Page.loadEventFired" not in self._events:
            self._read()
        return time.monotonic() - began

    def run(self, script):
        """Returns the value of an expression, awaited where it is a promise."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def cpu_s(self):
        """The seconds of a processor that this page has had so far, which other programs take nothing from."""
        told = self.call("Performance.getMetrics")["metrics"]
        return next(metric["value"] for metric in told if metric["name"] == "ThreadTime")

    def point(self, x, y, kind="mouseMoved", **options):
        """Move the mouse to a place in the window, or press or release its button there."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **options)

    def drag(self, first, last):
        """Press the mouse at one place in the window and release it at another."""
        held = {"button": "left", "buttons": 1, "clickCount": 1}
        self.point(*first)
        self.point(*first, "mousePressed", **held)
        for part in (0.3, 0.7, 1.0):
            self.point(*(a + part * (b - a) for a, b in zip(first, last, strict=True)), **held)
        self.point(*last, "mouseReleased", button="left", clickCount=1)

    def click(self, selector):
        """Press and release the mouse in the middle of an element."""
        element = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{element}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        x, y = self.run(f"(r => [r.x + r.width / 2, r.y + r.height / 2])({element}.getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            self.point(x, y, kind, button="left", clickCount=1)

    def shoot(self, path, *, whole=True):
        """Write a picture of the page, or of what the window shows."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        Path(path).write_bytes(base64.b64decode(answer["data"]))
