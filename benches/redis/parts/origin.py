"""The backend: answers every path with 2 KB of its own, `/slow/...` after 300 ms, and counts. Run as a program: PORT."""

import asyncio
import sys
from collections import Counter

SIZE = 2048
SLOW_S = 0.3


def body(path):
    """The right answer to a path."""
    text = f"{path};".encode()
    return (text * (SIZE // len(text) + 1))[:SIZE]


class Origin(asyncio.Protocol):
    """One connection. Requests have no bodies here, so that a head is a request."""

    counts = Counter()

    def connection_made(self, transport):
        self.transport, self.buffer = transport, b""

    def data_received(self, data):
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
            path = head.split(b" ", 2)[1].decode("latin-1")
            if path.startswith("/count"):
                self.answer(str(self.counts[path.removeprefix("/count")]).encode())
                continue
            self.counts[path] += 1
            if path.startswith("/slow/"):
                asyncio.get_running_loop().call_later(SLOW_S, self.answer, body(path))
            else:
                self.answer(body(path))

    def answer(self, data):
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (len(data), data))


async def serve(port):
    """Listens until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Origin, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
