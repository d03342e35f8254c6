"""A greeting by FastAPI, as its own documentation writes it."""

from __future__ import annotations

from fastapi import FastAPI

__all__ = ["app"]

app = FastAPI()


@app.get("/")
async def hello() -> dict[str, str]:
    """Answer in JSON."""
    return {"message": "Hello, world!"}
