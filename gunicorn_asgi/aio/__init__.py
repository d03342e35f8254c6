"""Room 2, asyncio: sockets, tasks and timers of one event loop; knows no process and no Gunicorn."""

__all__: list[str] = []
