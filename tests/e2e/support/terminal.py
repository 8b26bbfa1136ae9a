"""A command in a terminal of its own, with what its screen shows."""

import fcntl
import os
import signal
import struct
import subprocess
import termios

import pyte

from support.proxy import binary
from support.wait import until


class Terminal:
    """Starts the executable in a pseudo-terminal; `text` is what a person would see."""

    def __init__(self, *arguments: str, columns: int = 80, rows: int = 24, env: dict[str, str] | None = None) -> None:
        environment = {**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8"}
        for name in ("NO_COLOR", "LC_ALL", "LC_CTYPE", "COLUMNS", "LINES"):
            environment.pop(name, None)
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.bytes = b""
        # Its own end stays open here, so that its modes can be asked for when the command has ended.
        self._master, self._slave = os.openpty()
        os.set_blocking(self._master, False)
        self._set_size(columns, rows)
        self._before = termios.tcgetattr(self._slave)
        self.child = subprocess.Popen(
            [str(binary()), *arguments],
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            cwd="/",
            env={**environment, **(env or {})},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self) -> None:
        """Takes what has been written."""
        while True:
            try:
                data = os.read(self._master, 65536)
            except BlockingIOError:
                return
            self.bytes += data
            self._stream.feed(data)

    def text(self) -> str:
        """The screen as text."""
        self.read()
        return "\n".join(line.rstrip() for line in self.screen.display)

    def shows(self, *words: str, deadline_s: float = 10.0) -> str:
        """Waits until all of these are on the screen."""
        try:
            until(lambda: all(word in self.text() for word in words), f"the screen shows {words}", deadline_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.text()}") from None
        return self.text()

    def hides(self, word: str, deadline_s: float = 10.0) -> str:
        """Waits until it is not on the screen."""
        until(lambda: word not in self.text(), f"the screen no longer shows {word}", deadline_s)
        return self.text()

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        self.read()
        self.screen.resize(rows, columns)
        self._set_size(columns, rows)

    def signal(self, number: signal.Signals) -> None:
        self.child.send_signal(number)

    def exit_code(self) -> int:
        """The exit code, once it has ended."""
        until(lambda: self.read() or self.child.poll() is not None, "the command ends", 10.0)
        self.read()
        return self.child.returncode

    def is_restored(self) -> bool:
        """The modes of the terminal are what they were, the cursor is seen, the other screen is left."""
        self.read()
        left = self.bytes.rfind(b"\x1b[?1049l") > self.bytes.rfind(b"\x1b[?1049h")
        seen = self.bytes.rfind(b"\x1b[?25h") > self.bytes.rfind(b"\x1b[?25l")
        return left and seen and termios.tcgetattr(self._slave) == self._before

    def stop(self) -> None:
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait(timeout=10)
        os.close(self._master)
        os.close(self._slave)
