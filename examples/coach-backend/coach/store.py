"""What the coach knows, and how long it takes to look it up.

There is no database: the rows are made up from their ids. The waiting is real, though: each query sleeps
as long as the same query takes against a hosted PostgreSQL a few milliseconds away.
"""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from hashlib import sha256

EPOCH = datetime(2025, 1, 1, tzinfo=UTC)

_CATALOGUE = {
    "beginner": [
        ("Say hello first", "Greet three people you do not know before noon.", 10),
        ("One honest compliment", "Tell a stranger something you truly like about what they do.", 10),
        ("Ask for directions", "Ask somebody the way, and one question more.", 10),
    ],
    "intermediate": [
        ("Five minutes", "Keep a conversation going for five minutes without looking at your phone.", 20),
        ("Join a table", "Ask to sit with people you have not met.", 25),
        ("The second question", "In every conversation today, ask the question after the first one.", 20),
    ],
    "advanced": [
        ("Invite somebody", "Invite a new acquaintance to something concrete, with a day and an hour.", 40),
        ("Tell the story", "Tell a story about yourself to a group of four or more.", 35),
        ("Take the no", "Ask for something you expect to be refused, and thank them for the answer.", 50),
    ],
}

DIFFICULTIES = tuple(_CATALOGUE)

# Milliseconds, lower and upper bound of what a query of each kind takes.
_QUERY_MS = {
    "challenges": (60, 90),
    "reputation": (40, 70),
    "session": (25, 45),
    "coach_sessions": (30, 50),
    "insert": (15, 30),
}


def now() -> str:
    """The current time as ISO 8601 with an explicit offset."""
    return datetime.now(UTC).isoformat()


async def query(kind: str) -> None:
    """Waits as long as a query of this kind takes."""
    low, high = _QUERY_MS[kind]
    await asyncio.sleep(random.uniform(low, high) / 1000)


async def challenges(difficulty: str | None) -> list[dict]:
    """The challenges of one difficulty, or all of them."""
    await query("challenges")
    wanted = [difficulty] if difficulty else DIFFICULTIES
    return [
        {
            "id": f"00000000-0000-4000-8000-{DIFFICULTIES.index(level):06d}{number:06d}",
            "difficulty": level,
            "title": title,
            "description": description,
            "points": points,
            "created_at": (EPOCH + timedelta(days=number)).isoformat(),
        }
        for level in wanted
        for number, (title, description, points) in enumerate(_CATALOGUE[level])
    ]


async def reputation(user_id: str) -> dict:
    """How reliable a user has been. The same id always gives the same figures."""
    await query("reputation")
    digest = sha256(user_id.encode()).digest()
    completed, missed = digest[0] % 40, digest[1] % 5
    score = min(20, max(-5, completed - 5 * missed))
    colour = "gold" if score >= 10 else "green" if score >= 0 else "red"
    return {
        "user_id": user_id,
        "score": score,
        "badge_color": colour,
        "completed_sessions": completed,
        "no_shows": missed,
        "computed_at": now(),
    }


async def session(session_id: str, user: str) -> dict:
    """One meeting of two people who practise together, as its participant sees it."""
    await query("session")
    return {
        "session_id": session_id,
        "participant": user,
        "status": "confirmed" if session_id in _confirmed else "scheduled",
        "scheduled_for": (EPOCH + timedelta(days=len(session_id))).isoformat(),
        "venue": "Café Central",
    }


_confirmed: set[str] = set()


async def confirm(session_id: str) -> None:
    """Marks a session as held. The ids are kept until the process ends; there are few."""
    await query("insert")
    if len(_confirmed) < 10_000:
        _confirmed.add(session_id)


async def coach_sessions(user_id: str) -> list[dict]:
    """The last talks of a user with the coach."""
    await query("coach_sessions")
    count = 1 + sha256(user_id.encode()).digest()[2] % 4
    return [
        {
            "id": f"{user_id}-talk-{number}",
            "started_at": (EPOCH + timedelta(days=7 * number)).isoformat(),
            "messages": 4 + 3 * number,
        }
        for number in range(count)
    ]
