"""The plain JSON routes: challenges, reputation, sessions and uploads."""

from hashlib import sha256
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, HTTPException, Request, UploadFile
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from coach import store

router = APIRouter()
bearer = HTTPBearer(auto_error=False)


async def signed_in(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> str:
    """The user of a bearer token. In this example the token is the user's name: do not do that at home."""
    if credentials is None or not credentials.credentials.strip():
        raise HTTPException(
            status_code=401,
            detail="Authentication required. Please log in to access this resource.",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return credentials.credentials


User = Annotated[str, Depends(signed_in)]


@router.get("/api/challenges")
async def challenges(difficulty: Literal["beginner", "intermediate", "advanced"] | None = None) -> dict:
    """What to practise, optionally of one difficulty."""
    found = await store.challenges(difficulty)
    return {
        "challenges": found,
        "count": len(found),
        "difficulty_filter": difficulty,
        "cached": False,
        "timestamp": store.now(),
    }


@router.get("/api/user/reputation/{user_id}")
async def reputation(user_id: str) -> dict:
    """The public standing of a user."""
    return await store.reputation(user_id)


@router.get("/api/session/{session_id}")
async def session(session_id: str, user: User) -> dict:
    """One session, for the user who is signed in."""
    return await store.session(session_id, user)


@router.post("/api/session/{session_id}/confirm")
async def confirm(session_id: str) -> dict:
    """Says that a session took place."""
    await store.confirm(session_id)
    return {"session_id": session_id, "confirmed": True, "timestamp": store.now()}


@router.post("/api/uploads")
async def upload_form(file: UploadFile) -> dict:
    """Takes one file of a form and says what arrived, as a receipt."""
    digest, size = sha256(), 0
    while block := await file.read(64 * 1024):
        digest.update(block)
        size += len(block)
    return {"name": file.filename, "type": file.content_type, "bytes": size, "sha256": digest.hexdigest()}


@router.put("/api/uploads/{name}")
async def upload_raw(name: str, request: Request) -> dict:
    """Takes a bare body of any length without keeping it, and answers with its receipt."""
    digest, size = sha256(), 0
    async for block in request.stream():
        digest.update(block)
        size += len(block)
    return {"name": name, "type": request.headers.get("content-type"), "bytes": size, "sha256": digest.hexdigest()}
