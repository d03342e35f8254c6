"""The worker process: boots, serves, and leaves when it is told to without losing a request."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import traceback
from types import FrameType
from typing import Any

from gunicorn import util
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers import base

from gunicorn_asgi.aio.lifespan import Lifespan, LifespanFailed
from gunicorn_asgi.aio.loop import new_event_loop
from gunicorn_asgi.aio.server import Listener, Server
from gunicorn_asgi.aio.state import ASGIApp, ServerState
from gunicorn_asgi.protocol.lifecycle import Cause, Lifecycle, WorkerEvent, WorkerState
from gunicorn_asgi.protocol.limits import DrainSchedule
from gunicorn_asgi.worker import arbiter, reloading, signals
from gunicorn_asgi.worker.hooks import Hooks

__all__ = ["Worker"]

# RFC 6455 7.4.1 and the IANA registry: "going away", "service restart".
_GOING_AWAY = 1001
_SERVICE_RESTART = 1012

_QUICK = frozenset({Cause.QUIT, Cause.RELOAD})
_RESTARTS = frozenset({Cause.RELOAD, Cause.RECYCLE})


class Worker(base.Worker):  # type: ignore[misc]  # Gunicorn is not typed
    """Runs in: master and worker. The worker class: ``gunicorn -k gunicorn_asgi.Worker``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Runs in: master. Just before the fork."""
        super().__init__(*args, **kwargs)
        self.settings, self._board, self._generation = arbiter.berth(self.cfg, self.log)
        self._life = Lifecycle()
        self._cause: Cause | None = None
        self._aborting = False
        self._armed = False

    @classmethod
    def check_config(cls, cfg: Config, log: Logger) -> None:
        """Runs in: master. Once, before the first fork; see ``arbiter.check``."""
        arbiter.check(cfg, log)

    # Boot

    def init_process(self) -> None:
        """Runs in: worker. Right after the fork; returns when the worker has left."""
        # First of all: the arbiter's handlers, inherited by the fork, take a signal and lose it.
        self.init_signals()
        if self.cfg.preload_app:
            # What was loaded before the fork will never be garbage: keep the collector from
            # touching, and so copying, its pages.
            gc.freeze()
        self._loop = new_event_loop(self.settings.values["asgi_loop"])
        asyncio.set_event_loop(self._loop)
        self._leaving = asyncio.Event()
        self._quitting = asyncio.Event()
        super().init_process()

    def init_signals(self) -> None:
        """Runs in: worker. Handlers for the time until the loop runs; idempotent."""
        if not self._armed:
            self._armed = True
            signals.install_boot_handlers(self._run_worker_int, self._reopen_logs, self._abort)

    def load_wsgi(self) -> None:
        """Runs in: worker. Import the application; with ``reload`` its errors are survived."""
        try:
            self.wsgi = self.app.wsgi()
        except Exception as exc:
            if not self.cfg.reload:
                raise
            self.log.exception("The application could not be loaded; waiting for a change")
            self.wsgi = reloading.broken_app
            for filename in reloading.files_of(exc):
                self.reloader.add_extra_file(filename)

    def run(self) -> None:
        """Runs in: worker. Serve until told to leave.

        Raises:
            SystemExit: with Gunicorn's WORKER_BOOT_ERROR, if the application cannot start.
        """
        main = self._loop.create_task(self._main())
        try:
            self._run_loop(main)
        finally:
            self._close_loop()

    def _run_loop(self, main: asyncio.Task[None]) -> None:
        while not main.done():
            self._run_until_exit(main)
        main.result()

    def _run_until_exit(self, main: asyncio.Task[None]) -> None:
        try:
            self._loop.run_until_complete(main)
        except (SystemExit, KeyboardInterrupt) as exc:
            if self._aborting or main.done():
                raise
            # asyncio lets these two out of any task, so out of one that the application has
            # started by itself.
            self.log.error("A task of the application raised %r", exc)
            self._leave(Cause.EXIT)
        except RuntimeError:
            if self._aborting:  # the loop was stopped: somebody swallowed the SystemExit
                sys.exit(1)
            raise

    async def _main(self) -> None:
        log = self.log
        signals.install_loop_handlers(
            self._loop, lambda: self._leave(Cause.TERM), self._on_quit, self._reopen_logs
        )
        self._loop.add_reader(self.PIPE[0], self._on_pipe)
        state = ServerState(self.wsgi, log, self.settings.limits, self.settings.values["root_path"])
        Hooks(self, state).install()
        state.count_request = self._count_request
        self._state = state
        self._beat()
        lifespan = await self._start_lifespan(self.wsgi)
        if lifespan is not None and self._life.state is WorkerState.BOOTING:
            if self.settings.values["asgi_lifespan"] != "off":
                state.lifespan_state = lifespan.scope_state
            server = Server(state, self._listeners())
            server.start()
            self._ready()
            await self._leaving.wait()
            await self._end(server)
            await self._stop_lifespan(lifespan)
        self._set_state(WorkerEvent.GONE)

    async def _start_lifespan(self, app: ASGIApp) -> Lifespan | None:
        """The lifespan once it is up, or None if the worker was told to leave before."""
        mode = self.settings.values["asgi_lifespan"]
        lifespan = Lifespan(app, self.log, mode)
        if mode == "off":
            return lifespan
        startup = self._loop.create_task(lifespan.startup())
        leaving = self._loop.create_task(self._leaving.wait())
        await asyncio.wait({startup, leaving}, return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        if not startup.done():
            startup.cancel()
            lifespan.cancel()
            return None
        try:
            startup.result()
        except LifespanFailed as exc:
            self._set_state(WorkerEvent.BOOT_FAILED)
            self.log.error("Application startup failed: %s", exc)
            sys.exit(Arbiter.WORKER_BOOT_ERROR)
        return lifespan

    def _listeners(self) -> list[Listener]:
        context = arbiter.tls_context(self.cfg)
        return [Listener(listener.sock, context) for listener in self.sockets]

    def _ready(self) -> None:
        self._set_state(WorkerEvent.BOOTED)
        # The first beat arms the arbiter's timeout; until now a slow start was not its business.
        self.notify()
        self.log.info("Worker ready (pid: %s)", self.pid)

    # Serve

    def _beat(self) -> None:
        """The heartbeat. From the loop, never from a thread: a stuck loop must look stuck."""
        if os.getppid() != self.ppid:
            self._leave(Cause.ORPHAN)
        if self._life.state is not WorkerState.BOOTING:
            self.notify()
        self._show_title()
        interval = min(1.0, self.cfg.timeout / 3 or 1.0)
        self._loop.call_later(interval, self._beat)

    def _count_request(self) -> None:
        self.nr += 1
        if self.nr == self.max_requests:
            self.log.info("Autorestarting worker after current request.")
            self._leave(Cause.RECYCLE)

    def _show_title(self) -> None:
        state = self._life.state.name.lower()
        connections = len(self._state.connections)
        util._setproctitle(f"worker [{self.cfg.proc_name}] {state}, {connections} connections")

    def _set_state(self, event: WorkerEvent) -> None:
        self._life.fire(event)
        self._show_title()

    # Leave

    def _on_quit(self) -> None:
        first = not self._quitting.is_set()
        self._leave(Cause.QUIT)
        if first:
            self._run_worker_int()

    def _on_pipe(self) -> None:
        """Gunicorn's reloader thread has set ``alive`` and written to the pipe."""
        os.read(self.PIPE[0], 4096)
        if not self.alive:
            self._leave(Cause.RELOAD)

    def _leave(self, cause: Cause) -> None:
        """Begin to leave; idempotent, but a quick cause hastens a graceful one."""
        quick = cause in _QUICK
        self._life.fire(WorkerEvent.QUIT if quick else WorkerEvent.LEAVE)
        if quick:
            self._quitting.set()
        if self._cause is not None:
            return
        self._cause = cause
        self.alive = False
        self._left_at = self._loop.time()
        self._state.begin_drain()
        signals.arm_exit_alarm(self.settings.graceful_timeout)
        self.log.info("Worker leaving (pid: %s): %s", self.pid, cause.value)
        self._leaving.set()

    async def _end(self, server: Server) -> None:
        """Drain within the schedule; a quick cause, at any time, replaces it."""
        code = _SERVICE_RESTART if self._is_restart() else _GOING_AWAY
        schedule = DrainSchedule.graceful(self.settings.graceful_timeout)
        server.suspend()
        self._close_listeners(server)
        ending = self._loop.create_task(server.end(schedule, code))
        if not await self._done_or_quitting(ending, None):
            ending.cancel()
            await server.end(DrainSchedule.quick(), code)
        self._set_state(WorkerEvent.DRAINED)

    def _close_listeners(self, server: Server) -> None:
        """Let nobody wait here in vain: who comes now is another's, or is refused at once.

        With reuse_port the socket is ours alone, and on a stop nobody else is left: whoever waits
        in the backlog is ours to serve then. An open listener would also hold the address against
        a new master, once this one's is gone.
        """
        ours = self.cfg.reuse_port or not self._is_restart()
        if ours and not self._quitting.is_set():
            server.take_waiting()
        for listener in self.sockets:
            listener.close()

    async def _done_or_quitting(self, task: asyncio.Task[None], seconds: float | None) -> bool:
        """Wait for ``task``, for a quick cause or for ``seconds``; whether ``task`` is done."""
        quitting = self._loop.create_task(self._quitting.wait())
        both = {task, quitting}
        await asyncio.wait(both, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        quitting.cancel()
        return task.done()

    def _is_restart(self) -> bool:
        """Whether others of us go on serving, so that a client may come back at once."""
        return self._cause in _RESTARTS or self._board.generation > self._generation

    async def _stop_lifespan(self, lifespan: Lifespan) -> None:
        """lifespan.shutdown, always, within what is left of the schedule."""
        limit = DrainSchedule.graceful(self.settings.graceful_timeout).leave
        limit = max(0.1, limit - (self._loop.time() - self._left_at))
        shutdown = self._loop.create_task(lifespan.shutdown())
        await self._done_or_quitting(shutdown, limit)
        if self._quitting.is_set():
            await asyncio.wait({shutdown}, timeout=DrainSchedule.quick().leave)
        if not shutdown.done():
            self.log.error("lifespan.shutdown took too long and was given up")
            lifespan.cancel()

    def _close_loop(self) -> None:
        """Let cancelled tasks run their finally blocks, briefly, and close the loop."""
        loop = self._loop
        if self._aborting:
            return  # the loop is stuck, which is why we are here
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=0.2))
        loop.run_until_complete(loop.shutdown_asyncgens())
        if self._cause is not None:
            signals.ignore_further_signals(loop)
        loop.close()

    # Hooks and signals

    def _run_worker_int(self) -> None:
        self.cfg.worker_int(self)

    def _reopen_logs(self) -> None:
        self.log.reopen_files()

    def _abort(self, frame: FrameType | None) -> None:
        """Runs in: signal handler. SIGABRT: the arbiter has given this worker up."""
        self._aborting = True
        self.alive = False
        stack = "".join(traceback.format_stack(frame)) if frame else ""
        self.log.critical("Worker aborted (pid: %s), blocked here:\n%s", self.pid, stack)
        self.cfg.worker_abort(self)
        if hasattr(self, "_loop") and self._loop.is_running():
            self._loop.stop()
        sys.exit(1)
