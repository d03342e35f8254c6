"""The command line: ``gunicorn-asgi``, or ``python -m gunicorn_asgi``.

Exit status: 0 yes, 1 no, 2 wrong arguments, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence

import gunicorn

import gunicorn_asgi
from gunicorn_asgi.worker.command.check import check
from gunicorn_asgi.worker.command.dump import dump
from gunicorn_asgi.worker.command.metrics import metrics
from gunicorn_asgi.worker.command.output import complain
from gunicorn_asgi.worker.command.run import run
from gunicorn_asgi.worker.command.status import status
from gunicorn_asgi.worker.command.target import NoMaster, Target, read_pid
from gunicorn_asgi.worker.command.verdict import reload, wait_ready

__all__ = ["build_parser", "main"]

PROG = "gunicorn-asgi"

# Seconds. A little more than the default of asgi_boot_timeout, so that a boot that is too slow
# is reported as what it is.
_RELOAD_TIMEOUT = 330.0
_READY_TIMEOUT = 60.0
_DUMP_TIMEOUT = 5.0

_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main(argv: Sequence[str] | None = None) -> int:
    """Runs in: command line and master. Do what the arguments say; the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        # These two leave all further arguments, --help included, to Gunicorn's parser.
        if arguments[:1] == ["run"]:
            return run(f"{PROG} run", arguments[1:])
        if arguments[:1] == ["check"]:
            return check(f"{PROG} check", arguments[1:])
        return _ask(build_parser().parse_args(arguments))
    except NoMaster as exc:
        complain(f"{PROG}: {exc}")
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Nobody reads on, as in `status | head -1`. The interpreter must not try to flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _ask(options: argparse.Namespace) -> int:
    if options.command == "wait-ready":
        patient = options.pidfile is not None
        return wait_ready(lambda: _find(options), options.timeout, patient=patient)
    target = _find(options)
    if options.command == "dump":
        return dump(target, options.worker, options.timeout)
    if options.command == "reload":
        return reload(target, options.timeout)
    if options.command == "metrics":
        return metrics(target, openmetrics=options.openmetrics)
    return status(target, watch=options.watch, json=options.json, requests=options.requests)


def _find(options: argparse.Namespace) -> Target:
    return Target(options.pid if options.pidfile is None else read_pid(options.pidfile))


def build_parser() -> argparse.ArgumentParser:
    """Runs in: command line. The parser of everything but what Gunicorn parses."""
    parser = argparse.ArgumentParser(PROG, description="Run and look after gunicorn_asgi.")
    version = (
        f"{PROG} {gunicorn_asgi.__version__} "
        f"(gunicorn {gunicorn.__version__}, Python {platform.python_version()})"
    )
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    # Only for the list of commands: main() never lets these two get here.
    commands.add_parser("run", help="serve: Gunicorn, with our settings as flags")
    commands.add_parser("check", help="check configuration, TLS and application; serve nothing")
    asked = commands.add_parser("status", help="show what the workers do")
    _add_target(asked)
    asked.add_argument("--watch", action="store_true", help="again every second")
    asked.add_argument("--json", action="store_true", help="for scripts")
    asked.add_argument("--requests", action="store_true", help="open requests, too")
    asked = commands.add_parser("metrics", help="write the metrics, as Prometheus reads them")
    _add_target(asked)
    asked.add_argument("--openmetrics", action="store_true", help="as OpenMetrics has them")
    asked = commands.add_parser("dump", help="show what the workers run at this moment")
    _add_target(asked)
    asked.add_argument("--worker", type=_pid, metavar="PID", help="only this one")
    _add_timeout(asked, _DUMP_TIMEOUT)
    asked = commands.add_parser("reload", help="send HUP; fail if the new generation does")
    _add_target(asked)
    _add_timeout(asked, _RELOAD_TIMEOUT)
    asked = commands.add_parser("wait-ready", help="wait until all workers are ready")
    _add_target(asked)
    _add_timeout(asked, _READY_TIMEOUT)
    return parser


def _add_target(parser: argparse.ArgumentParser) -> None:
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--pid", type=_pid, help="of the master")
    target.add_argument("--pidfile", metavar="FILE", help="that Gunicorn writes")


def _add_timeout(parser: argparse.ArgumentParser, default: float) -> None:
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=default,
        metavar="SECONDS",
        help="wait no longer (%(default)g)",
    )


def _pid(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no pid")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds, 0 or more")
    return seconds
