"""Routes that misbehave on demand, and a record of what the server saw. On only with `COACH_TEST_ROUTES=1`.

Whoever tests a proxy in front of this application asks here for delays, statuses, odd framings and headers,
and reads at `/test/seen` (past the proxy) what really arrived: fields, body bytes, and when a caller left.
Times are `time.monotonic()`, which all processes of one machine share.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from hashlib import sha256

from fastapi import APIRouter, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

router = APIRouter(prefix="/test")

ANY_METHOD = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
GATE_DEADLINE_S = 15.0
# The coach's old clients know a stream whose events end in backslash and n as four plain characters.
FRAMINGS = {"lf": "\n", "crlf": "\r\n", "cr": "\r", "literal": "\\n"}


class Seen:
    """An ASGI layer that notes every request and WebSocket outside `/test/seen` and `/test/gates`."""

    def __init__(self, app: ASGIApp, record: deque) -> None:
        self.app = app
        self.record = record

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or scope["path"].startswith(("/test/seen", "/test/gates")):
            await self.app(scope, receive, send)
            return
        entry = {
            "method": scope.get("method", "WEBSOCKET"),
            "path": scope["raw_path"].decode("latin-1"),
            "query": scope["query_string"].decode("latin-1"),
            "http_version": scope["http_version"],
            "client": list(scope.get("client") or ()),
            "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
            "started": time.monotonic(),
            "body_bytes": 0,
            "sent_bytes": 0,
            "ended": None,
            "disconnected": None,
            "close_code": None,
        }
        self.record.append(entry)

        async def noting_receive() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                entry["body_bytes"] += len(message.get("body", b""))
            elif message["type"] == "websocket.disconnect":
                entry["close_code"] = message.get("code")
            elif message["type"] == "http.disconnect" and entry["ended"] is None:
                entry["disconnected"] = entry["disconnected"] or time.monotonic()
            return message

        async def noting_send(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.body":
                entry["sent_bytes"] += len(message.get("body", b""))
                if not message.get("more_body", False):
                    entry["ended"] = time.monotonic()

        await self.app(scope, noting_receive, noting_send)


class Gates:
    """Named counters that a test raises and a stream waits for: an order of events without a sleep."""

    def __init__(self) -> None:
        self.opened: dict[str, int] = defaultdict(int)
        self.changed = asyncio.Condition()

    async def open(self, name: str) -> int:
        async with self.changed:
            self.opened[name] += 1
            self.changed.notify_all()
            return self.opened[name]

    async def passed(self, name: str, count: int) -> None:
        async with asyncio.timeout(GATE_DEADLINE_S), self.changed:
            await self.changed.wait_for(lambda: self.opened[name] >= count)


def attach(app: FastAPI) -> None:
    """Adds the routes and the record to an application."""
    app.state.seen = deque(maxlen=20_000)
    app.state.gates = Gates()
    app.add_middleware(Seen, record=app.state.seen)
    app.include_router(router)


@router.get("/seen")
async def seen(request: Request, path: str | None = None) -> dict:
    """Every request so far, or those of one path, oldest first."""
    entries = [entry for entry in request.app.state.seen if path is None or entry["path"] == path]
    return {"count": len(entries), "requests": entries}


@router.post("/gates/{name}")
async def open_gate(name: str, request: Request) -> dict:
    """Lets the stream behind this gate take one more step."""
    return {"opened": await request.app.state.gates.open(name)}


@router.api_route("/echo", methods=ANY_METHOD)
@router.api_route("/echo/{rest:path}", methods=ANY_METHOD)
async def echo(request: Request) -> dict:
    """What the server got, line by line."""
    digest, size = sha256(), 0
    async for block in request.stream():
        digest.update(block)
        size += len(block)
    return {
        "method": request.method,
        "path": request.scope["raw_path"].decode("latin-1"),
        "query": request.scope["query_string"].decode("latin-1"),
        "http_version": request.scope["http_version"],
        "client": list(request.scope.get("client") or ()),
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.scope["headers"]],
        "body_bytes": size,
        "body_sha256": digest.hexdigest(),
    }


@router.api_route("/answer", methods=ANY_METHOD)
@router.api_route("/answer/{rest:path}", methods=ANY_METHOD)
async def answer(
    status: int = 200,
    body: str = "ok",
    header: list[str] = Query(default=[]),
) -> Response:
    """An answer made to measure; each `header` is `Name: value`."""
    response = Response(body, status_code=status, media_type="text/plain")
    for line in header:
        name, _, value = line.partition(":")
        response.headers.append(name.strip(), value.strip())
    return response


@router.api_route("/status/{code}", methods=ANY_METHOD)
async def status(code: int) -> Response:
    """An answer with this status."""
    return Response(None if code in (204, 304) else f"status {code}\n", status_code=code)


@router.get("/boom")
async def boom() -> None:
    """A bug: the handler raises."""
    raise RuntimeError("this route always fails")


@router.api_route("/slow", methods=ANY_METHOD)
@router.api_route("/slow/{rest:path}", methods=ANY_METHOD)
async def slow(request: Request, ms: int = Query(default=1000, ge=0, le=120_000)) -> dict:
    """Answers after this many milliseconds, or stops at once when the caller leaves."""
    async for _ in request.stream():
        pass
    work = asyncio.ensure_future(asyncio.sleep(ms / 1000))
    gone = asyncio.ensure_future(request.receive())
    await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
    left = gone.done() and not work.done()
    for task in (work, gone):
        task.cancel()
    if left:
        raise HTTPException(status_code=499, detail="the caller left")
    return {"waited_ms": ms}


def pattern(size: int) -> bytes:
    """Bytes that tell their own place, so that a lost or doubled block shows."""
    block = b"".join(b"%07d\n" % number for number in range(size // 8 + 1))
    return block[:size]


@router.get("/bytes/{size}")
async def some_bytes(size: int, chunked: bool = False) -> Response:
    """A body of this size, with a Content-Length or in chunks."""
    if not 0 <= size <= 64 * 1024 * 1024:
        raise HTTPException(status_code=422, detail="between 0 and 64 MiB")
    body = pattern(size)
    if not chunked:
        return Response(body, media_type="application/octet-stream")
    step = 50_000
    return StreamingResponse(
        (body[at : at + step] for at in range(0, size, step)), media_type="application/octet-stream"
    )


@router.get("/endless")
async def endless() -> StreamingResponse:
    """A body that never ends. A reader that stops reading must stop this writer too."""

    async def blocks() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536
            await asyncio.sleep(0)

    return StreamingResponse(blocks(), media_type="application/octet-stream")


@router.get("/gated/{gate}")
async def gated(gate: str, request: Request, events: int = Query(default=3, ge=1, le=100)) -> StreamingResponse:
    """Events of which each but the first waits until its gate was opened once more."""

    async def stream() -> AsyncIterator[str]:
        for number in range(events):
            if number:
                await request.app.state.gates.passed(gate, number)
            yield f"data: {number}\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream")


def sse_text(framing: str, events: int) -> str:
    """The exact text of `/test/sse`."""
    end = FRAMINGS[framing]
    lines = [": comment with ünïcode ☕", ""]
    for number in range(events):
        lines += [f"id: {number}", "event: word", f'data: {{"n": {number}}}', "data: two\tlines", ""]
    return end.join(lines) + end


@router.get("/sse")
async def sse(
    framing: str = Query(default="lf", pattern="^(lf|crlf|cr|literal)$"),
    events: int = Query(default=5, ge=1, le=1000),
) -> StreamingResponse:
    """The same events in one of four line endings, sent in pieces that split lines and characters."""
    data = sse_text(framing, events).encode()

    async def stream() -> AsyncIterator[bytes]:
        step = 7
        for at in range(0, len(data), step):
            yield data[at : at + step]
            await asyncio.sleep(0.001)

    return StreamingResponse(stream(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
