"""The worker process: boots, serves, and leaves when it is told to without losing a request."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from types import FrameType
from typing import Any

from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers import base

from gunicorn_asgi.aio.compat import single_callable
from gunicorn_asgi.aio.lifespan import Lifespan
from gunicorn_asgi.aio.listener import Listener
from gunicorn_asgi.aio.loop import end_tasks, new_event_loop
from gunicorn_asgi.aio.readycheck import ready_check
from gunicorn_asgi.aio.server import Server
from gunicorn_asgi.aio.state import ServerState
from gunicorn_asgi.protocol.lifecycle import (
    Cause,
    Lifecycle,
    Verdict,
    WorkerEvent,
    WorkerState,
)
from gunicorn_asgi.protocol.limits import DrainSchedule
from gunicorn_asgi.worker import arbiter, boot, heap, loading, reloading, signals
from gunicorn_asgi.worker.gate import Gate, Order, master_has_closed
from gunicorn_asgi.worker.hooks import Hooks
from gunicorn_asgi.worker.meter import install
from gunicorn_asgi.worker.obituary import tell_of_the_lost
from gunicorn_asgi.worker.recycle import Recycler
from gunicorn_asgi.worker.scoreboard import Cell, Header
from gunicorn_asgi.worker.statusdesk import StatusDesk
from gunicorn_asgi.worker.systemd import Notifier
from gunicorn_asgi.worker.tls import CertificateWatch, equip
from gunicorn_asgi.worker.vitals import Vitals
from gunicorn_asgi.worker.watchdog import Watchdog

__all__ = ["Worker"]

# RFC 6455 7.4.1 and the IANA registry: "going away", "service restart".
_GOING_AWAY = 1001
_SERVICE_RESTART = 1012

_QUICK = frozenset({Cause.QUIT, Cause.RELOAD})
# Others of us go on serving, so that a WebSocket client may come back at once.
_RESTARTS = frozenset({Cause.RELOAD, Cause.RECYCLE, Cause.SUCCEEDED, Cause.ROLLBACK})

# How often (seconds) the board is looked at while something is being waited for.
_WATCH = 0.05


class Worker(base.Worker):  # type: ignore[misc]  # Gunicorn is not typed
    """Runs in: master and worker. The worker class: ``gunicorn -k gunicorn_asgi.Worker``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Runs in: master. Just before the fork."""
        super().__init__(*args, **kwargs)
        self.settings, self._board, self._slot = arbiter.berth(self.cfg, self.log, self.age)
        arbiter.note_listener(self._board, self.sockets)
        if self.settings.values["asgi_reload_guard"]:
            arbiter.guard_reload(self.app, self.log)
        self._life = Lifecycle()
        self._cause: Cause | None = None
        self._aborting = False
        self._told_in_boot = False
        self._armed = False
        self._watching: asyncio.TimerHandle | None = None
        self._certificates: CertificateWatch | None = None

    @classmethod
    def check_config(cls, cfg: Config, log: Logger) -> None:
        """Runs in: master. Once, before the first fork; see ``arbiter.check``."""
        arbiter.check(cfg, log)

    # Boot

    def init_process(self) -> None:
        """Runs in: worker. Right after the fork; returns when the worker has left.

        Raises:
            SystemExit: the boot has failed; see ``boot``.
        """
        self._slot.put(Cell.PID, os.getpid())
        values, timeout = self.settings.values, self.cfg.timeout
        self._watchdog = Watchdog(self.log, self._slot, values, timeout, self.app)
        self._limit = self._watchdog.limit
        try:
            # First of all: the arbiter's handlers, which the fork inherits, lose a signal.
            self.init_signals()
            self._init_process()
        except BaseException as exc:
            if self._life.state is WorkerState.BOOTING and not self._told_in_boot:
                self._boot_failed(exc)
            raise

    def _init_process(self) -> None:
        heap.begin()
        shown = self.settings.values["asgi_open_requests"]
        tell_of_the_lost(self._board, self._slot, self.log, shown=shown)
        self._loop = new_event_loop(self.settings.values["asgi_loop"])
        asyncio.set_event_loop(self._loop)
        self._leaving = asyncio.Event()
        self._quitting = asyncio.Event()
        self._recalled = asyncio.Event()
        self._gate = Gate(self._board, self._slot, self._master_is_stopping)
        self._recycler = Recycler(self._board, self._slot, self.ppid, self.log)
        self._notifier = Notifier(self._board, self._slot, self._gate, self.ppid, self.log)
        super().init_process()

    def _boot_failed(self, exc: BaseException) -> None:
        """Say why, and end without halting the arbiter if this server has served."""
        self._limit.stop()
        boot.record_failure(self._slot, exc)
        self._life.fire(WorkerEvent.BOOT_FAILED)
        if self._board.has_served:
            boot.end_softly(self._board, self._slot, self.log, exc)
        boot.let_the_first_go(self._board, self._slot, self._master_is_stopping)
        boot.end_with_its_line(self.log, exc)
        if isinstance(exc, Exception) and not self.booted:
            return  # Gunicorn's own words, and its own exit codes
        self.log.error("Application startup failed: %s", exc, exc_info=exc)
        sys.exit(Arbiter.WORKER_BOOT_ERROR)

    def init_signals(self) -> None:
        """Runs in: worker. Handlers for the time until the loop runs; idempotent."""
        if self._armed:
            return
        self._armed = True
        reopen = self._watchdog.reopen_logs
        signals.install_boot_handlers(self._quit_in_boot, reopen, self._abort)
        if self._master_is_stopping():
            # Told before there was a handler: the fork still has the arbiter's own, which only
            # queues, and Arbiter.stop tells everybody once.
            self._quit_in_boot("SIGTERM")
            sys.exit(0)
        self._watchdog.start()

    def load_wsgi(self) -> None:
        """Runs in: worker. Import the application; with ``reload`` its errors are survived."""
        try:
            self.wsgi = single_callable(loading.load(self.app))
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
        reopen = self._watchdog.reopen_logs
        signals.install_loop_handlers(self._loop, self._on_term, self._on_quit, reopen)
        self._loop.add_reader(self.PIPE[0], self._on_pipe)
        settings, values = self.settings, self.settings.values
        state = ServerState(self.wsgi, self.log, settings.limits, settings.policy)
        Hooks(self, state, self._slot.get(Cell.GENERATION)).install()
        state.enough, state.on_enough = self.max_requests, self._reached_max_requests
        self._state = state
        desk = StatusDesk(self, self._board, self._slot, self._leaving, self._master_is_stopping)
        self._watchdog.see(state)
        self._vitals = Vitals(self._slot, state, install(self._slot, state, values))
        self._beat()
        lifespan = Lifespan(self.wsgi, self.log, values["asgi_lifespan"])
        if await self._start(lifespan):
            await self._serve(lifespan)
        await desk.close()
        self._vitals.take(self._state.requests)
        self._set_state(WorkerEvent.GONE)

    async def _start(self, lifespan: Lifespan) -> bool:
        """Bring the application up; False if the worker was told to leave before it was.

        Raises:
            LifespanFailed, NotReady, BootTimeout: it cannot serve.
        """
        starting = self._loop.create_task(self._start_app(lifespan))
        leaving = self._loop.create_task(self._leaving.wait())
        both = {starting, leaving}
        self._limit.leave_to_loop()
        limit = self._limit.remaining
        await asyncio.wait(both, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        if not starting.done():
            starting.cancel()
            lifespan.cancel()
            if not self._leaving.is_set():
                raise boot.BootTimeout("lifespan startup or ready check took too long")
            return False
        self._limit.stop()
        starting.result()
        return not self._leaving.is_set()

    async def _start_app(self, lifespan: Lifespan) -> None:
        values = self.settings.values
        if values["asgi_lifespan"] != "off":
            await lifespan.startup()
            self._state.lifespan_state = lifespan.scope_state
        if values["asgi_ready_check"]:
            await ready_check(self._state, values["asgi_ready_check"])

    async def _serve(self, lifespan: Lifespan) -> None:
        listeners = [Listener(each.sock) for each in self.sockets]
        self._certificates = equip(self.cfg, self.settings, listeners, self.log)
        shared = self.cfg.workers > 1 and not self.cfg.reuse_port
        server = Server(self._state, listeners, shared=shared)
        server.start()
        self._ready()
        while True:
            await self._leaving.wait()
            if await self._end(server):
                break
        await self._stop_lifespan(lifespan)

    def _ready(self) -> None:
        # In front of the state, which lets another worker leave: its line is to stand behind this.
        self.log.info("Worker ready (pid: %s)", self.pid)
        self._set_state(WorkerEvent.BOOTED)
        heap.freeze()
        # The first beat arms the arbiter's timeout; until now a slow start was not its business.
        self.notify()
        self._watchdog.guard_loop()
        self._vitals.ready()
        age = self.settings.values["asgi_max_age"]
        if age:
            # Jitter: workers that were forked together must not age together.
            delay = age * random.uniform(1.0, 1.1)
            self._loop.call_later(delay, self._recycler.want, "asgi_max_age")
        self._watch()

    # Serve

    def _beat(self) -> None:
        """The heartbeat. From the loop, never from a thread: a stuck loop must look stuck."""
        if os.getppid() != self.ppid:
            self._leave(Cause.ORPHAN)
        if self._life.state is not WorkerState.BOOTING:
            self.notify()
        self.nr = self._state.requests
        self._vitals.take(self.nr)
        self._notifier.beat()
        if self._vitals.rss > (self.settings.values["asgi_max_rss"] or sys.maxsize):
            self._recycler.want("asgi_max_rss")
        if self._certificates is not None:
            self._certificates.look()
        self._vitals.show_title(self.cfg.proc_name, self._life.state)
        interval = min(1.0, self.cfg.timeout / 3 or 1.0)
        self._vitals.expect(interval)
        self._loop.call_later(interval, self._beat)

    def _reached_max_requests(self) -> None:
        self._recycler.want("max_requests")
        self._watch()

    def _set_state(self, event: WorkerEvent) -> None:
        self._slot.put(Cell.STATE, self._life.fire(event))
        self._vitals.show_title(self.cfg.proc_name, self._life.state)

    # Watch the board

    def _watch(self) -> None:
        """Look at the board, and again soon while something is awaited."""
        if self._watching is not None:
            self._watching.cancel()
        soon = self._look()
        self._notifier.tell()
        self._watching = self._loop.call_later(_WATCH if soon else 1.0, self._watch)

    def _look(self) -> bool:
        """Act on what the board says; whether more is expected soon."""
        state = self._life.state
        if state is WorkerState.HOLDING:
            return self._look_while_holding()
        if state is WorkerState.DRAINING:
            if self._cause is Cause.SUCCEEDED and self._gate.nobody_serves():
                self._recall()
            return self._cause is Cause.SUCCEEDED
        if state is not WorkerState.READY:
            return False
        if self._gate.successors_failed():
            # They may be gone before the arbiter has told anybody to leave.
            self._gate.tell_rollback(self.log)
        if self._recycler.may_leave():
            self._leave(Cause.SUCCEEDED if self._recycler.recalled else Cause.RECYCLE)
        elif not self._gate.confirm() and self._gate.must_give_way():
            self._leave(Cause.ROLLBACK)
        return bool(self._recycler.wanted) or not self._slot.get(Cell.CONFIRMED)

    def _look_while_holding(self) -> bool:
        verdict = self._gate.while_holding()
        if verdict is Verdict.DRAIN:
            self._leave(Cause.SUCCEEDED if self._gate.has_successor() else Cause.TERM)
        elif verdict is Verdict.STAY:
            self._set_state(WorkerEvent.STAY)
            self._gate.tell_rollback(self.log)
        return True

    def _recall(self) -> None:
        """The successors are gone and the arbiter does not look: serve again."""
        self.log.warning("Nobody serves any more: accepting again (pid: %s)", self.pid)
        self._cause = None
        self.alive = True
        signals.disarm_exit_alarm()
        self._leaving.clear()
        self._recalled.set()
        self._recycler.want_successor()

    # Leave

    def _master_is_stopping(self) -> bool | None:
        inode = self._board.get(Header.LISTENER)
        return master_has_closed(self.ppid, frozenset({inode})) if inode else None

    def _on_term(self) -> None:
        if self._cause is not None:
            return  # it leaves already: an arbiter that repeats itself costs no look around
        state = self._life.state
        order = Order.LEAVE if state is WorkerState.BOOTING else self._gate.on_term()
        if order is Order.LEAVE:
            self._leave(Cause.TERM)
        elif order is Order.HOLD and state is WorkerState.READY:
            self._set_state(WorkerEvent.HOLD)
            self.log.info("Worker holding (pid: %s): its successors are not ready", self.pid)
            self._watch()

    def _quit_in_boot(self, name: str) -> None:
        """Runs in: signal handler. TERM, INT or QUIT before the loop ran."""
        self._told_in_boot = True
        self._slot.put(Cell.STOPPED, 1)
        self._slot.put(Cell.STATE, WorkerState.EXITED)
        if name != "SIGTERM":
            self._run_worker_int()

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
        # Whoever leaves for another reason than the application's own has not failed.
        if cause is not Cause.EXIT and not self._slot.get(Cell.CONFIRMED):
            self._slot.put(Cell.STOPPED, 1)
        self.alive = False
        self._left_at = self._loop.time()
        self._state.begin_drain()
        signals.arm_exit_alarm(self.settings.graceful_timeout)
        self.log.info("Worker leaving (pid: %s): %s", self.pid, cause.value)
        self._slot.put(Cell.STATE, self._life.state)
        self._leaving.set()
        self._watch()

    async def _end(self, server: Server) -> bool:
        """Drain within the schedule; a quick cause, at any time, replaces it.

        Returns:
            Whether it is over; False if the worker was recalled and serves on.
        """
        if self._cause is Cause.TERM and await self._delay_term():
            self.log.info("Worker stops accepting (pid: %s)", self.pid)
        code = _SERVICE_RESTART if self._cause in _RESTARTS else _GOING_AWAY
        left = self.settings.graceful_timeout - (self._loop.time() - self._left_at)
        server.suspend()
        self._close_listeners(server)
        self._recalled.clear()
        ending = self._loop.create_task(server.end(DrainSchedule.graceful(left), code))
        recalled = self._loop.create_task(self._recalled.wait())
        await self._first_of(ending, recalled)
        recalled.cancel()
        if not ending.done():
            ending.cancel()
            if self._recalled.is_set() and not self._quitting.is_set():
                self._set_state(WorkerEvent.STAY)
                server.resume()
                self._watch()
                return False
            await server.end(DrainSchedule.quick(), code)
        self._set_state(WorkerEvent.DRAINED)
        return True

    async def _delay_term(self) -> bool:
        """asgi_term_delay: accept on, for those who learn of the end later than we do."""
        delay = self.settings.values["asgi_term_delay"]
        if delay:
            await self._first_of(seconds=delay)
        return bool(delay)

    def _close_listeners(self, server: Server) -> None:
        """Let nobody wait here in vain: who comes now is another's, or is refused at once.

        With reuse_port the socket is ours alone, and on a stop nobody else is left: whoever waits
        in the backlog is ours to serve then. An open listener would also hold the address against
        a new master, once this one's is gone.
        """
        if self._cause is Cause.SUCCEEDED and not self.cfg.reuse_port:
            return  # this worker may be recalled, see _recall
        ours = self.cfg.reuse_port or self._cause not in _RESTARTS
        if ours and not self._quitting.is_set():
            server.take_waiting()
        for listener in self.sockets:
            listener.close()

    async def _first_of(self, *tasks: asyncio.Task[Any], seconds: float | None = None) -> None:
        """Wait for one of ``tasks``, for a quick cause, or until ``seconds`` are over."""
        quitting = self._loop.create_task(self._quitting.wait())
        every = {quitting, *tasks}
        await asyncio.wait(every, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        quitting.cancel()

    async def _stop_lifespan(self, lifespan: Lifespan) -> None:
        """lifespan.shutdown, always, within what is left of the schedule."""
        limit = DrainSchedule.graceful(self.settings.graceful_timeout).leave
        limit = max(0.1, limit - (self._loop.time() - self._left_at))
        shutdown = self._loop.create_task(lifespan.shutdown())
        await self._first_of(shutdown, seconds=limit)
        if self._quitting.is_set():
            await asyncio.wait({shutdown}, timeout=DrainSchedule.quick().leave)
        if not shutdown.done():
            self.log.error("lifespan.shutdown took too long and was given up")
            lifespan.cancel()
        self._recycler.give_back()

    def _close_loop(self) -> None:
        """Let cancelled tasks run their finally blocks, briefly, and close the loop."""
        loop = self._loop
        if self._aborting:
            return  # the loop is stuck, which is why we are here
        end_tasks(loop)
        if self._cause is not None:
            signals.ignore_further_signals(loop)
        loop.close()
        self._watchdog.stop()

    # Hooks and signals

    def _run_worker_int(self) -> None:
        self.cfg.worker_int(self)

    def _abort(self, frame: FrameType | None) -> None:
        """Runs in: signal handler. SIGABRT: the arbiter has given this worker up."""
        self._aborting = True
        self.alive = False
        self._watchdog.tell_abort(frame)
        self.cfg.worker_abort(self)
        if hasattr(self, "_loop") and self._loop.is_running():
            self._loop.stop()
        sys.exit(1)
