"""The coach: chat in one answer, chat as a stream of events, assessments, and a WebSocket."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field, StringConstraints

from coach import store

router = APIRouter()

_REPLIES = (
    "Start smaller than you think you should. What would five per cent of that look like?",
    "You noticed it yourself, and that is the hard part. Try it once more today, with a different person.",
    "Notice what your shoulders do just before you speak. Let them drop, then say the first sentence.",
    "Good. Write down what went well before you write down what did not.",
)


class Message(BaseModel):
    """What a user says to the coach."""

    message: Annotated[str, StringConstraints(min_length=1, max_length=4000)]
    user_id: str = "anonymous"


class Answers(BaseModel):
    """The answers to the assessment, from 1 (never) to 5 (always)."""

    user_id: str
    answers: Annotated[list[Annotated[int, Field(ge=1, le=5)]], Field(min_length=1, max_length=50)]


def reply_to(message: str) -> str:
    """The coach's words. Equal messages get equal words, so that people can compare runs."""
    return _REPLIES[sum(message.encode()) % len(_REPLIES)]


@router.post("/coach/chat")
async def chat(said: Message) -> dict:
    """One answer, once the coach has thought it over."""
    await asyncio.sleep(random.uniform(0.3, 0.6))
    return {"reply": reply_to(said.message), "user_id": said.user_id, "timestamp": store.now()}


@router.post("/coach/chat/stream")
async def chat_stream(said: Message) -> StreamingResponse:
    """The answer word by word, as server-sent events."""
    return StreamingResponse(
        _words(reply_to(said.message)),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


async def _words(text: str) -> AsyncIterator[str]:
    words = text.split(" ")
    for number, word in enumerate(words):
        await asyncio.sleep(random.uniform(0.02, 0.06))
        yield f"id: {number}\nevent: word\ndata: {json.dumps({'text': word})}\n\n"
    yield f"event: done\ndata: {json.dumps({'words': len(words)})}\n\n"


@router.get("/coach/sessions/{user_id}")
async def sessions(user_id: str) -> dict:
    """The last talks of a user with the coach."""
    found = await store.coach_sessions(user_id)
    return {"user_id": user_id, "sessions": found, "count": len(found)}


@router.post("/coach/assessment")
async def assessment(given: Answers) -> dict:
    """Turns the answers into an archetype and a first step."""
    await asyncio.sleep(random.uniform(0.5, 0.9))
    mean = sum(given.answers) / len(given.answers)
    archetype = "explorer" if mean < 2.5 else "builder" if mean < 4 else "leader"
    return {
        "user_id": given.user_id,
        "confidence": round(mean * 20, 1),
        "archetype": archetype,
        "next_step": reply_to(archetype),
        "timestamp": store.now(),
    }


@router.websocket("/ws/coach")
async def live(socket: WebSocket) -> None:
    """A live line to the coach: JSON with a `message` gets a reply, anything else comes back as it was.

    `{"close": CODE, "reason": TEXT}` hangs up with that code.
    """
    offered = socket.scope.get("subprotocols", [])
    await socket.accept(subprotocol="coach.v1" if "coach.v1" in offered else None)
    try:
        while True:
            received = await socket.receive()
            if received["type"] == "websocket.disconnect":
                return
            if (data := received.get("bytes")) is not None:
                await socket.send_bytes(data)
                continue
            text = received["text"]
            wish = _as_object(text)
            if "close" in wish:
                await socket.close(int(wish["close"]), str(wish.get("reason", "")))
                return
            if "message" in wish:
                text = json.dumps({"reply": reply_to(str(wish["message"]))})
            await socket.send_text(text)
    except WebSocketDisconnect:
        return


def _as_object(text: str) -> dict:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
