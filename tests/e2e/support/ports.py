"""Free ports below the range that the kernel gives to outgoing connections, so that none is taken meanwhile."""

import random
import socket

_given: set[int] = set()


def free_port() -> int:
    """A TCP port on which nothing listens, and which this run has not handed out before."""
    for _ in range(1000):
        port = random.randint(15_000, 31_000)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise RuntimeError("no free port between 15000 and 31000")
