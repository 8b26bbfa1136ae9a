"""A receiver of webhooks that keeps what it was sent, and answers as it is told."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from support.ports import free_port


class Webhook:
    """Listens on a port of its own; `messages` are the documents that it got, in order."""

    def __init__(self) -> None:
        self.messages: list[dict] = []
        # The status of its answers.
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.messages.append(json.loads(body))
                self.send_response(outer.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def told(self) -> list[tuple[str, str]]:
        """The state and the name of every alert of every message, in order."""
        return [
            (alert["status"], alert["labels"]["alertname"])
            for message in list(self.messages)
            for alert in message["alerts"]
        ]

    def stop(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()
