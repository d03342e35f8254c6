"""Room 2, asyncio: sockets, tasks and timers of one loop; knows no process, no Gunicorn."""

__all__: list[str] = []
