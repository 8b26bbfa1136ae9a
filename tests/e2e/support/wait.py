"""Waiting: always for a condition, always with a deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], what: str, deadline_s: float = 5.0, every_s: float = 0.005) -> T:
    """Calls `condition` until it is true, and returns its value. Says `what` did not happen otherwise."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s} s: {what}")
        time.sleep(every_s)


def settled(read: Callable[[], T], what: str, quiet_s: float = 0.4, deadline_s: float = 10.0) -> T:
    """Reads a value until it has not changed for `quiet_s`, and returns it."""
    end = time.monotonic() + deadline_s
    last, since = read(), time.monotonic()
    while time.monotonic() - since < quiet_s:
        if time.monotonic() > end:
            raise AssertionError(f"still changing after {deadline_s} s: {what}")
        time.sleep(0.02)
        value = read()
        if value != last:
            last, since = value, time.monotonic()
    return last
