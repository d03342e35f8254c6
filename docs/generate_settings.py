"""Writes docs/settings.md out of the definitions in the code, and of the two tables here.

    python docs/generate_settings.py

Every setting of Gunicorn stands in exactly one of four tables: HONOURED and ARBITER below,
NOT_HONOURED and the refused ones in ``gunicorn_asgi/worker/arbiter.py``. A Gunicorn with a setting
that is in none of them fails tests/worker/test_arbiter.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gunicorn_asgi.worker.arbiter import NOT_HONOURED, REFUSED
from gunicorn_asgi.worker.definitions import DEFINITIONS, Definition

__all__ = ["ARBITER", "HONOURED", "REFUSED_VALUES", "page"]

# What our code reads, or makes true: the name and how.
HONOURED: dict[str, str] = {
    "access_log_format": "every atom, written after the response",
    "accesslog": "one line for each request, two for each WebSocket, through Gunicorn's logger",
    "asgi_disconnect_grace_period": "see above",
    "asgi_lifespan": "see above",
    "asgi_loop": "see above",
    "ca_certs": "as Gunicorn's `sock.ssl_context` takes it",
    "cert_reqs": "as Gunicorn's `sock.ssl_context` takes it",
    "certfile": "a context that cannot be built refuses the start",
    "ciphers": "as Gunicorn's `sock.ssl_context` takes it",
    "disable_redirect_access_to_syslog": "through Gunicorn's logger",
    "dogstatsd_tags": "through Gunicorn's logger",
    "forwarded_allow_ips": "the proxies whose X-Forwarded-For and `secure_scheme_headers` are "
    "believed: addresses and networks, and every unix socket, as in Gunicorn",
    "forwarder_headers": "from such a proxy SCRIPT_NAME becomes `root_path`, and the others pass, "
    "whatever `header_map` says",
    "graceful_timeout": "the whole drain, lifespan.shutdown included, lies inside it",
    "header_map": "for names with an underscore, which frameworks may take for others",
    "keepalive": "idle time between two requests; 0 closes after each response",
    "keyfile": "as `certfile`",
    "limit_request_field_size": "the line with its CRLF, counted as it comes in; beyond it 431",
    "limit_request_fields": "counted as they come in; beyond it 431; 0 means 32768, as in Gunicorn",
    "limit_request_line": "the whole line without its CRLF, counted as it comes in; beyond it 414; "
    "at most 8190, as in Gunicorn",
    "logconfig": "through Gunicorn's logger",
    "logconfig_dict": "through Gunicorn's logger",
    "logconfig_json": "through Gunicorn's logger",
    "logger_class": "its `access()` is called as Gunicorn's own workers call it",
    "max_requests": "requests and WebSocket handshakes count; the replacement is ready before",
    "max_requests_jitter": "as Gunicorn adds it",
    "post_request": "after each response, and at the end of each WebSocket; an exception is logged",
    "post_worker_init": "after the import, before lifespan.startup",
    "pre_request": "before the application; an exception is answered with 500",
    "preload_app": "the application is loaded in the master, the loop is made after the fork",
    "proc_name": "in the process title, with state, generation and number of connections",
    "proxy_allow_ips": "the proxies whose PROXY header is taken, and every unix socket, as in "
    "Gunicorn; others that send one are refused",
    "proxy_protocol": "v1, v2 or auto, on TCP and unix sockets; True is v1 up to Gunicorn 24.0, "
    "and auto from 24.1 on, as there",
    "reload": "also while the application cannot be imported: 500 until it can",
    "reload_engine": "as Gunicorn's",
    "reload_extra_files": "as Gunicorn's",
    "root_path": "see above",
    "secure_scheme_headers": "from a proxy in `forwarded_allow_ips`; a contradiction gets 400",
    "sendfile": "off if it is set to anything, as in Gunicorn; else as SENDFILE in the environment "
    "says, else on",
    "ssl_context": "called in the master, to check it, in each worker, and at each renewal",
    "statsd_host": "through Gunicorn's logger",
    "statsd_prefix": "through Gunicorn's logger",
    "syslog": "through Gunicorn's logger",
    "timeout": "the heartbeat comes from the event loop, from the end of the startup on",
    "websocket_max_message_size": "see above",
    "worker_abort": "on SIGABRT, in a stuck loop too",
    "worker_connections": "at that many open connections the worker stops accepting",
    "worker_exit": "after lifespan.shutdown",
    "worker_int": "on INT and QUIT",
}

# What Gunicorn does by itself, in the master or in the base class of all workers.
ARBITER: tuple[str, ...] = (
    "backlog",
    "bind",
    "capture_output",
    "chdir",
    "check_config",
    "child_exit",
    "config",
    "control_socket",
    "control_socket_disable",
    "control_socket_mode",
    "daemon",
    "default_proc_name",
    "dirty_apps",
    "dirty_graceful_timeout",
    "dirty_post_fork",
    "dirty_threads",
    "dirty_timeout",
    "dirty_worker_exit",
    "dirty_worker_init",
    "dirty_workers",
    "enable_backlog_metric",
    "enable_stdio_inheritance",
    "errorlog",
    "group",
    "initgroups",
    "loglevel",
    "nworkers_changed",
    "on_dirty_starting",
    "on_exit",
    "on_reload",
    "on_starting",
    "paste",
    "pidfile",
    "post_fork",
    "pre_exec",
    "pre_fork",
    "print_config",
    "pythonpath",
    "raw_env",
    "raw_paste_global_conf",
    "reuse_port",
    "spew",
    "syslog_addr",
    "syslog_facility",
    "syslog_prefix",
    "umask",
    "user",
    "when_ready",
    "worker_class",
    "worker_tmp_dir",
    "workers",
    "wsgi_app",
)


def _allowed(values: frozenset[object]) -> str:
    return ", ".join(sorted(f"`{str(each).lower()}`" for each in values))


# check() refuses these by name: REFUSED, and http_protocols, whose value is a list.
REFUSED_VALUES: dict[str, tuple[str, str]] = {
    **{name: (_allowed(values), reason) for name, values, reason in REFUSED},
    "http_protocols": ("`h1`", "HTTP/2 is not served"),
}

_HEAD = """\
# Settings

<!-- Written by docs/generate_settings.py; edit the definitions there and in the code. -->

## Ours

Each setting is looked up in this order; the first hit wins:

1. the environment variable `GUNICORN_` and the name in capitals (`-e NAME=VALUE` and `raw_env`
   count);
2. Gunicorn's own setting of that name, where this Gunicorn has one: command line,
   `GUNICORN_CMD_ARGS`, config file, default;
3. the config file (`gunicorn.conf.py`, `-c FILE`, `-c python:MODULE`);
4. the default.

A value that is not allowed stops the start with exit status 1 and a line that names the setting,
the value, where it came from and what is allowed. After HUP it is logged as an error, and the
settings before it stay in force. So with a configuration that Gunicorn itself rejects at HUP,
unless `asgi_reload_guard` is off: then it ends the master.

A name in the config file that begins with `asgi_` and that nobody knows gets a warning, with the
nearest known name. HUP does not read a `python:` config again: Python imports a module once.

`gunicorn --check-config` and `gunicorn --print-config` do not load the worker class, so they
neither check nor show the settings that Gunicorn does not have itself.
"""


def _definition(definition: Definition) -> str:
    default = repr(definition.default).replace("'", '"')
    return (
        f"### `{definition.name}`\n\n"
        f"{definition.description}\n\n"
        f"Default: `{default}`. Environment: `{definition.variable}`. "
        f"New in {definition.since}.\n"
    )


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def page() -> str:
    """The whole of docs/settings.md."""
    refused = [(f"`{n}`", values, why) for n, (values, why) in sorted(REFUSED_VALUES.items())]
    return (
        "\n".join(
            [
                _HEAD,
                *map(_definition, DEFINITIONS),
                "## Gunicorn's, honoured\n",
                _table(
                    ("setting", "here"),
                    [(f"`{name}`", how) for name, how in sorted(HONOURED.items())],
                ),
                "## Gunicorn's, done by Gunicorn\n",
                "The worker class has nothing to do with these: "
                + ", ".join(f"`{name}`" for name in ARBITER)
                + ".\n",
                "## Gunicorn's, not honoured\n",
                "Each of these that differs from its default gets one warning at the "
                "start, and none at HUP.\n",
                _table(
                    ("setting", "why not"),
                    [(f"`{name}`", why) for name, why in sorted(NOT_HONOURED.items())],
                ),
                "## Gunicorn's, refused\n",
                "With any other value Gunicorn does not start: exit status 1, and the reason.\n",
                _table(("setting", "allowed", "why"), refused),
            ]
        ).rstrip()
        + "\n"
    )


if __name__ == "__main__":
    Path(__file__).with_name("settings.md").write_text(page())
