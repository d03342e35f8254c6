"""The status application: ``gunicorn_asgi.status:app``, a plain ASGI application to be mounted.

It knows only the board of the server that it runs in.
"""

from __future__ import annotations

from gunicorn_asgi.status.app import app

__all__ = ["app"]
