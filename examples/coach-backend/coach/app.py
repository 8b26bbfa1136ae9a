"""The application: `uvicorn coach.app:app`."""

import os

from fastapi import FastAPI

from coach import api, store, talk, testing

app = FastAPI(title="Coach", version="1.0.0", description="A small coaching backend to try things with.")
app.include_router(api.router)
app.include_router(talk.router)


@app.get("/")
async def root() -> dict:
    """Says what this is."""
    return {"message": "Coach backend", "docs": "/docs"}


@app.get("/health")
async def health() -> dict:
    """Whether the backend works, and which features are on."""
    return {
        "status": "healthy",
        "timestamp": store.now(),
        "message": "Coach backend is running",
        "environment": os.environ.get("COACH_ENVIRONMENT", "development"),
        "features": {"matching_enabled": True, "ai_coaching_enabled": True, "challenges_catalog_enabled": True},
    }


# The fault routes are for test runs alone: they let a caller choose delays, statuses and headers.
if os.environ.get("COACH_TEST_ROUTES") == "1":
    testing.attach(app)
