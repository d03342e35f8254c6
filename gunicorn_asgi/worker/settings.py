"""Our settings: defined once, resolved once for each of Gunicorn's Config objects.

A worker class is imported after Gunicorn has parsed its command line and config file, so a
setting of ours cannot be a Gunicorn setting at the first start, and Gunicorn drops names it
does not know without a word. So values are looked up here, in this order:

1. the environment, ``GUNICORN_`` and the name in capitals (``-e NAME=VALUE`` and ``raw_env``
   count: the arbiter has exported them by then);
2. Gunicorn's own Config, where this Gunicorn knows the name (``asgi_loop`` from 24 on);
3. the config file that Gunicorn has executed;
4. the default.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from gunicorn.config import Config

from gunicorn_asgi.protocol.limits import Limits

__all__ = ["DEFINITIONS", "Definition", "SettingError", "Settings"]

# Gunicorn's own worker takes 0, and what is larger, as this number (gunicorn/http/message.py).
_MAX_FIELDS = 32768


class SettingError(RuntimeError):
    """Runs in: master. A value is not allowed; the message has name, value and what is allowed.

    A RuntimeError, because that is what Gunicorn turns into ``Error: ...`` and exit code 1.
    """


def _choice(*allowed: str) -> Callable[[object], str]:
    def validate(value: object) -> str:
        if isinstance(value, str) and value.strip().lower() in allowed:
            return value.strip().lower()
        raise ValueError(f"one of {', '.join(allowed)}")

    return validate


def _number(value: object) -> float:
    """``value`` as a number, a negative one if it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return -1.0
    try:
        return float(value)
    except (ValueError, OverflowError):
        return -1.0


def _seconds(value: object) -> float:
    seconds = _number(value)
    if not 0 <= seconds < float("inf"):
        raise ValueError("a number of seconds, 0 or more")
    return seconds


def _size(value: object) -> int:
    size = _number(value)
    if size < 0 or not size.is_integer():
        raise ValueError("a whole number of bytes, 0 or more")
    return int(size)


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = value.strip().lower() if isinstance(value, str) else ""
    if text in ("true", "1", "yes", "on"):
        return True
    if text in ("false", "0", "no", "off"):
        return False
    raise ValueError("true or false")


def _path(value: object) -> str:
    path = value.strip() if isinstance(value, str) else "?"
    if path and not path.startswith("/"):
        raise ValueError('a path that begins with "/", or nothing')
    return path


def _mount(value: object) -> str:
    return _path(value).rstrip("/")


@dataclass(frozen=True)
class Definition:
    """Runs in: master. One setting.

    Attributes:
        name: as in a config file.
        validate: turns a value, a str if it comes from the environment, into the right type;
            raises ValueError with a text that completes "... is not ".
        default: and why it is that, is said in ``description``.
        description: for the reference.
        since: the version that brought it.
    """

    name: str
    validate: Callable[[object], object]
    default: object
    description: str
    since: str = "0.1.0"

    @property
    def variable(self) -> str:
        """Runs in: master. The environment variable that sets it."""
        return "GUNICORN_" + self.name.upper()


DEFINITIONS: tuple[Definition, ...] = (
    Definition(
        "asgi_loop",
        _choice("auto", "uvloop", "asyncio"),
        "auto",
        "The event loop. auto takes uvloop where it is installed. Gunicorn's own setting from 24 "
        "on, with the same values.",
    ),
    Definition(
        "asgi_lifespan",
        _choice("auto", "on", "off"),
        "auto",
        "The ASGI lifespan protocol. auto serves an application that does not know it without; "
        "with on such an application does not start; off never asks. Gunicorn's own setting from "
        "24 on, with the same values.",
    ),
    Definition(
        "asgi_disconnect_grace_period",
        _seconds,
        3.0,
        "Seconds that an application may run on after its client has left, before its task is "
        "cancelled; 0 cancels at once. Gunicorn's own setting from 25 on, whose default it keeps.",
    ),
    Definition(
        "websocket_max_message_size",
        _size,
        16 * 1024 * 1024,
        "Largest WebSocket message in bytes; a larger one closes the connection with 1009. 0 is "
        "no limit. Gunicorn's own setting from 26.3 on, whose default it keeps.",
    ),
    Definition(
        "root_path",
        _mount,
        "",
        "Where the application is mounted, for scope['root_path']; scope['path'] always begins "
        "with it. Gunicorn's own setting from 24 on.",
    ),
    Definition(
        "asgi_drain_linger",
        _seconds,
        5.0,
        "Seconds that an idle keep-alive connection is kept, at the most, while the worker "
        "drains: a request that arrives on it in time is still answered. The connection's own "
        "keepalive ends it earlier; 5 s covers Gunicorn's default of 2 s and most proxies.",
    ),
    Definition(
        "asgi_boot_timeout",
        _seconds,
        300.0,
        "Seconds that a worker may take to import the application, to start its lifespan and to "
        "answer asgi_ready_check. One that takes longer has failed to boot; its stack is logged. "
        "0 is no limit. Gunicorn's own timeout does not watch a boot. The default leaves room for "
        "the loading of large models.",
    ),
    Definition(
        "asgi_ready_check",
        _path,
        "",
        "A path that a new worker asks its own application for, in process, after lifespan "
        "startup. An answer of 500 or more, or none within asgi_boot_timeout, is a failed boot. "
        "Nothing by default: an application that has started is taken for ready.",
    ),
    Definition(
        "asgi_reload_guard",
        _flag,
        True,
        "Keep serving with the configuration there is if the new one cannot be loaded at HUP. It "
        "replaces one method of Gunicorn's application object; off restores Gunicorn's own way, "
        "which is to end the server.",
    ),
    Definition(
        "asgi_term_delay",
        _seconds,
        0.0,
        "Seconds that a worker goes on accepting after the server was told to stop, with "
        "Connection: close in every answer. For load balancers and Kubernetes, which learn of the "
        "end later than the server does. Part of graceful_timeout, so it has to be shorter.",
    ),
    Definition(
        "asgi_max_rss",
        _size,
        0,
        "Resident memory in bytes at which a worker is replaced, as at max_requests. 0 is no "
        "limit.",
    ),
    Definition(
        "asgi_max_age",
        _seconds,
        0.0,
        "Seconds after which a worker is replaced, as at max_requests, and with as much jitter as "
        "a tenth of it. 0 is no limit.",
    ),
)


@dataclass(frozen=True)
class Settings:
    """Runs in: master and worker. Every value that our code reads, resolved and checked.

    Attributes:
        values: our settings by name.
        limits: the numbers for the rooms below.
        graceful_timeout: Gunicorn's setting, in seconds.
    """

    values: MappingProxyType[str, Any]
    limits: Limits
    graceful_timeout: float

    @classmethod
    def resolve(cls, cfg: Config) -> Settings:
        """Runs in: master. The settings that belong to ``cfg``.

        Raises:
            SettingError: a value is not allowed.
        """
        namespace = _namespace(cfg)
        values = {definition.name: _value(definition, cfg, namespace) for definition in DEFINITIONS}
        resolved = MappingProxyType(values)
        _check_term_delay(resolved, cfg.graceful_timeout)
        return cls(resolved, _limits(cfg, values), float(cfg.graceful_timeout))

    @staticmethod
    def misspelt(cfg: Config) -> Iterator[str]:
        """Runs in: master. A sentence for each unknown ``asgi_`` name in the config file.

        Gunicorn skips unknown names in silence, so a typo would go unnoticed.
        """
        known = {definition.name for definition in DEFINITIONS} | set(cfg.settings)
        for name in sorted(_namespace(cfg)):
            if name.startswith("asgi_") and name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                yield f"unknown setting {name} in the config file is ignored{hint}"


def _namespace(cfg: Config) -> dict[str, Any]:
    """The names of the config file as Gunicorn has executed it (``app/base.py``)."""
    location = cfg.config or ""
    is_module = location.startswith("python:")
    module = sys.modules.get(location[len("python:") :] if is_module else "__config__")
    if module is None:
        return {}
    # Gunicorn forgets nothing: the file it executed last may have been removed before a reload.
    return vars(module) if is_module or os.path.exists(module.__file__ or "") else {}


def _value(definition: Definition, cfg: Config, namespace: dict[str, Any]) -> object:
    name = definition.name
    value, source = definition.default, "default"
    if definition.variable in os.environ:
        value, source = os.environ[definition.variable], definition.variable
    elif name in cfg.settings:
        value, source = cfg.settings[name].get(), "Gunicorn's configuration"
    elif name in namespace:
        value, source = namespace[name], "the config file"
    try:
        return definition.validate(value)
    except ValueError as exc:
        raise SettingError(f"{name} is {value!r} ({source}), which is not {exc}") from None


def _check_term_delay(values: Mapping[str, Any], graceful_timeout: int) -> None:
    delay = values["asgi_term_delay"]
    if delay and delay >= graceful_timeout:
        raise SettingError(
            f"asgi_term_delay is {delay:g}, which is not less than graceful_timeout "
            f"({graceful_timeout})"
        )


def _limits(cfg: Config, values: dict[str, Any]) -> Limits:
    return Limits(
        request_line=cfg.limit_request_line,
        request_fields=min(cfg.limit_request_fields or _MAX_FIELDS, _MAX_FIELDS),
        request_field_size=cfg.limit_request_field_size,
        connections=cfg.worker_connections,
        keep_alive=cfg.keepalive,
        disconnect_grace=values["asgi_disconnect_grace_period"],
        drain_linger=values["asgi_drain_linger"],
        websocket_message=values["websocket_max_message_size"],
    )
