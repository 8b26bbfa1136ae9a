"""An admin listener that says what a test tells it to, in the shape of `/api/v1`; for what no real one can be brought to."""

import json
import threading
import time
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

FIXTURES = Path(__file__).resolve().parents[3] / "src" / "cli" / "live" / "fixtures"


def fixture(name: str):
    """A state, as the unit tests know it."""
    return json.loads((FIXTURES / f"{name}.json").read_text())


class FakeAdmin:
    """Serves a state, a change of it each tenth of a second, and requests. `stop` cuts every stream."""

    def __init__(self, state: dict | None = None, port: int = 0) -> None:
        self.state = state or fixture("busy")
        self.tails = fixture("tails")
        self.seen: list[str] = []
        self.stopped = threading.Event()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_) -> None:
                pass

            def do_GET(self) -> None:
                owner.seen.append(self.path)
                url = urlsplit(self.path)
                handler = {
                    "/api/v1/snapshot": self.snapshot,
                    "/api/v1/events": self.events,
                    "/api/v1/tail": self.tail,
                    "/api/v1/route": self.route,
                }.get(url.path)
                if handler is None:
                    self.document(404, {"detail": "no such path"})
                    return
                try:
                    handler(parse_qs(url.query))
                except OSError:
                    pass  # The viewer has left.
                self.close_connection = True

            def document(self, status: int, body) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def chosen(self, query: dict) -> dict:
                state = deepcopy(owner.state)
                state["meta"]["window"] = query.get("window", ["5m"])[0]
                return state

            def snapshot(self, query: dict) -> None:
                self.document(200, self.chosen(query))

            def stream(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Connection", "close")
                self.end_headers()

            def event(self, name: str, body) -> None:
                self.wfile.write(f"event: {name}\ndata: {json.dumps(body)}\n\n".encode())
                self.wfile.flush()

            def events(self, query: dict) -> None:
                self.stream()
                self.event("snapshot", self.chosen(query))
                while not owner.stopped.wait(0.1):
                    self.event("change", {"seq": 1, "at": owner.state["at"], "tiles": owner.state["tiles"]})

            def tail(self, _: dict) -> None:
                self.stream()
                for line in owner.tails:
                    self.event("line", line)
                self.event("dropped", {"count": 120})
                while not owner.stopped.wait(0.05):
                    self.event("line", owner.tails[0])

            def route(self, _: dict) -> None:
                self.document(200, fixture("detail"))

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        self.address = f"127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self.stopped.set()
        self.server.shutdown()
        self.server.server_close()
        time.sleep(0.15)  # The streams look at `stopped` each tenth of a second.
