"""An HTTP/2 client whose streams can be cancelled one by one, which httpx cannot."""

import socket
from types import TracebackType

import h2.config
import h2.connection
import h2.errors
import h2.events


class H2Client:
    """One connection with prior knowledge. `open` begins a request, `finish` reads its answer, `cancel` resets it."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._sock = socket.create_connection(address, timeout=10)
        self._connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._connection.initiate_connection()
        self._flush()

    def __enter__(self) -> "H2Client":
        return self

    def __exit__(self, _kind: type | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self._sock.close()

    def _flush(self) -> None:
        self._sock.sendall(self._connection.data_to_send())

    def open(self, path: str) -> int:
        """Sends a GET and returns its stream."""
        stream = self._connection.get_next_available_stream_id()
        fields = [(":method", "GET"), (":path", path), (":scheme", "http"), (":authority", "app.example")]
        self._connection.send_headers(stream, fields, end_stream=True)
        self._flush()
        return stream

    def cancel(self, stream: int) -> None:
        """RST_STREAM(CANCEL)."""
        self._connection.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        self._flush()

    def finish(self, stream: int) -> int:
        """Reads until the stream ends and returns its status."""
        status = 0
        while True:
            data = self._sock.recv(65536)
            assert data, "the connection ended"
            for event in self._connection.receive_data(data):
                if getattr(event, "stream_id", None) != stream:
                    continue
                if isinstance(event, h2.events.ResponseReceived):
                    status = int(dict(event.headers)[":status"])
                elif isinstance(event, h2.events.StreamReset):
                    raise AssertionError(f"stream {stream} was reset: {event.error_code}")
                elif isinstance(event, h2.events.StreamEnded):
                    self._flush()
                    return status
            self._flush()
