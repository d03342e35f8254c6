"""Logs as JSON: ``logger_class = "gunicorn_asgi.logs.JSONLogger"``; see docs/observability.md."""

from __future__ import annotations

from gunicorn_asgi.worker.jsonlog import JSONFormatter, JSONLogger, JSONStatsdLogger

__all__ = ["JSONFormatter", "JSONLogger", "JSONStatsdLogger"]
