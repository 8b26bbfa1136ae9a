"""A TCP proxy that misbehaves on demand, also on connections that are open already."""

import asyncio
import os
import socket
import struct
import threading
import time

from support.ports import free_port


class FaultProxy:
    """Stands before `target`. Set `mode` at any time:

    - `pass`: bytes go through, each `delay_s` late on the way back;
    - `hang`: accepted, then nothing is read and nothing is sent;
    - `refuse`: closed with a reset as it is accepted; open ones stay;
    - `garbage`: what comes is answered with bytes that are no protocol;
    - `cut`: an answer breaks off in its middle, and the connection with it.

    `drop` ends all open connections with a reset.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.port = free_port()
        self.mode = "pass"
        self.delay_s = 0.0
        self.accepted = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=1024)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def drop(self) -> None:
        """Resets every open connection."""
        asyncio.run_coroutine_threadsafe(self._drop(), self._loop).result(5)

    def stop(self) -> None:
        async def end() -> None:
            self._server.close()
            await self._drop()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._loop.call_soon(self._loop.stop)

        asyncio.run_coroutine_threadsafe(end(), self._loop)
        self._thread.join(5)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, sock=self._listener))
        self._loop.run_forever()
        self._loop.close()

    async def _drop(self) -> None:
        for writer in list(self._writers):
            _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self.mode == "refuse":
            _reset(writer)
            return
        self._writers.add(writer)
        there = None
        try:
            await self._while_hanging()
            back, there = await asyncio.open_connection(*self.target)
            self._writers.add(there)
            await asyncio.gather(self._forth(reader, there, writer), self._back(back, writer))
        except (OSError, asyncio.CancelledError):
            pass  # One side is gone, or the test is over.
        finally:
            for one in (writer, there):
                if one is not None:
                    self._writers.discard(one)
                    one.close()

    async def _while_hanging(self) -> None:
        while self.mode == "hang":
            await asyncio.sleep(0.01)

    async def _forth(
        self, reader: asyncio.StreamReader, there: asyncio.StreamWriter, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(65536):
            await self._while_hanging()
            if self.mode == "garbage":
                writer.write(b"?no protocol\r\n" + os.urandom(64))
                continue
            there.write(data)
            await there.drain()
        there.close()

    async def _back(self, back: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        sender = asyncio.ensure_future(self._send(late, writer))
        try:
            while data := await back.read(65536):
                await late.put((time.monotonic() + self.delay_s, data))
            await late.put((time.monotonic() + self.delay_s, b""))
            await sender
        finally:
            sender.cancel()

    async def _send(self, late: asyncio.Queue, writer: asyncio.StreamWriter) -> None:
        while True:
            due, data = await late.get()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await self._while_hanging()
            if not data:
                writer.close()
                return
            if self.mode == "cut" and len(data) > 1:
                writer.write(data[: len(data) // 2])
                writer.close()
                return
            writer.write(data)
            await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
    writer.transport.abort()
