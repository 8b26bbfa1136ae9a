"""A real browser: Debian's Chromium, headless, driven by browser.mjs."""

import json
import os
import select
import shutil
import subprocess
from pathlib import Path

from support.proxy import ROOT
from support.wait import until

HOME = ROOT / "target" / "browser"
SHOTS = ROOT / "target" / "screenshots"
DRIVER = Path(__file__).parent / "browser.mjs"

# What the browser itself writes when a server is gone or refuses; the page says it in words of its own.
REFUSED = "console: Failed to load resource"


class Browser:
    """One browser for a test run; each page has a profile of its own."""

    def __init__(self, folder: Path) -> None:
        program = os.environ.get("CHROMIUM") or shutil.which("chromium")
        assert program, "chromium is missing: run scripts/setup-test"
        for name in ("playwright-core", "axe-core"):
            assert (HOME / "node_modules" / name).is_dir(), f"{HOME} has no {name}: run scripts/setup-test"
        self._err = (folder / "browser.err").open("w+b")
        clean = {name: value for name, value in os.environ.items() if not name.upper().endswith("_PROXY")}
        self.child = subprocess.Popen(
            ["node", str(DRIVER), str(HOME), program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._err,
            env={**clean, "HOME": str(folder)},
        )

    def call(self, do: str, deadline_s: float = 30.0, **parameters):
        """One command; what went wrong there fails the test here."""
        line = json.dumps({"do": do, **parameters}).encode() + b"\n"
        try:
            self.child.stdin.write(line)
            self.child.stdin.flush()
            ready, _, _ = select.select([self.child.stdout], [], [], deadline_s)
            answer = self.child.stdout.readline() if ready else b""
        except BrokenPipeError:
            answer = b""
        if not answer:
            self._err.seek(0)
            raise AssertionError(f"the browser says nothing to {do}: {self._err.read()[-4000:].decode(errors='replace')}")
        document = json.loads(answer)
        assert "error" not in document, f"{do}: {document.get('error')}"
        return document["value"]

    def open(
        self, url: str, *, width: int = 1440, height: int = 900, scheme: str = "dark", scripts: bool = True
    ) -> "Page":
        return Page(self, self.call("open", url=url, width=width, height=height, scheme=scheme, scripts=scripts))

    def stop(self) -> None:
        """Its end of input ends the driver, which ends the browser."""
        self.child.stdin.close()
        try:
            self.child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait(timeout=10)
        self.child.stdout.close()
        self._err.close()


class Page:
    """One page, with all that went wrong in it."""

    def __init__(self, browser: Browser, opened: dict) -> None:
        self._browser, self._number, self.status = browser, opened["number"], opened["status"]

    def _call(self, do: str, **parameters):
        return self._browser.call(do, page=self._number, **parameters)

    def text(self, selector: str = "body") -> str:
        """What a person can read there."""
        return self._call("text", selector=selector)

    def eval(self, code: str, value=None):
        """The value of a function, written in the page's language, for one argument."""
        return self._call("eval", code=code, value=value)

    def has(self, selector: str) -> bool:
        return self.eval("selector => document.querySelector(selector) !== null", selector)

    def press(self, *keys: str) -> None:
        for key in keys:
            self._call("press", keys=key)

    def type(self, text: str) -> None:
        self._call("type", text=text)

    def focus(self, selector: str) -> None:
        self._call("focus", selector=selector)

    def click(self, selector: str) -> None:
        self._call("click", selector=selector)

    def wait_ready(self, deadline_s: float = 10.0) -> "Page":
        """Returns once it shows a snapshot."""
        until(lambda: self.has("#ready"), "the page shows a snapshot", deadline_s, every_s=0.05)
        return self

    def shows(self, *words: str, selector: str = "body", deadline_s: float = 10.0) -> str:
        """Returns what can be read, once it holds all of these."""
        text = ""

        def is_there() -> bool:
            nonlocal text
            text = self.text(selector)
            return all(word in text for word in words)

        try:
            until(is_there, "shown", deadline_s, every_s=0.1)
        except AssertionError:
            missing = [word for word in words if word not in text]
            raise AssertionError(f"not within {deadline_s} s: {missing}, but:\n{text[:3000]}") from None
        return text

    def hides(self, word: str, selector: str = "body", deadline_s: float = 10.0) -> None:
        """Returns once it cannot be read any more."""
        until(lambda: word not in self.text(selector), f"{word!r} is gone", deadline_s, every_s=0.1)

    def problems(self, *expected: str) -> list[str]:
        """Console errors, exceptions, dialogs and violations of the policy so far, but for those that begin like this."""
        return [problem for problem in self._call("problems") if not problem.startswith(expected or ("\0",))]

    def off_host(self, origin: str) -> list[str]:
        """Requests to anywhere else."""
        return [url for url in self._call("requests") if not url.startswith((f"{origin}/", "data:"))]

    def overflow(self) -> int:
        """How many pixels it can be scrolled sideways."""
        return self.eval("() => Math.max(0, document.documentElement.scrollWidth - innerWidth)")

    def axe(self, *without: str) -> list[str]:
        """What axe finds, without these rules."""
        return self._call("axe", without=list(without))

    def shot(self, name: str, *, full: bool = True) -> Path:
        """A picture for people, in target/screenshots."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        path = SHOTS / f"{name}.png"
        self._call("shot", path=str(path), full=full)
        return path

    def close(self) -> None:
        self._call("close")
