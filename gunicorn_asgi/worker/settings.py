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

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from gunicorn.config import Config

from gunicorn_asgi.aio.state import Policy
from gunicorn_asgi.protocol.forwarded import ForwardedPolicy, Networks
from gunicorn_asgi.protocol.limits import Limits
from gunicorn_asgi.protocol.proxy import ProxyPolicy
from gunicorn_asgi.worker.definitions import DEFINITIONS, Definition
from gunicorn_asgi.worker.values import is_field_name

__all__ = ["SettingError", "Settings"]

# Gunicorn's own worker takes 0, and what is larger, as this number (gunicorn/http/message.py).
_MAX_FIELDS = 32768
# And this is its longest request line.
_MAX_LINE = 8190

# Gunicorn's proxy_protocol, and the versions of the PROXY protocol that it means. A flag up to
# Gunicorn 24.0, whose parser knows version 1 only; one of the words from 24.1 on.
_PROXY_VERSIONS: dict[object, frozenset[int]] = {
    False: frozenset(),
    True: frozenset({1}),
    "off": frozenset(),
    "v1": frozenset({1}),
    "v2": frozenset({2}),
    "auto": frozenset({1, 2}),
}


class SettingError(RuntimeError):
    """Runs in: master. A value is not allowed; the message has name, value and what is allowed.

    A RuntimeError, because that is what Gunicorn turns into ``Error: ...`` and exit code 1.
    """


@dataclass(frozen=True)
class Settings:
    """Runs in: master and worker. Every value that our code reads, resolved and checked.

    Attributes:
        values: our settings by name.
        limits: the numbers for the rooms below.
        forwarded: which peers are proxies, and which of their fields are believed.
        proxy: which versions of the PROXY protocol are spoken, and with whom.
        sendfile: whether files may be sent by ``sendfile(2)``.
        request_id_response: the field that a request's id is sent in; empty if it is not sent.
        graceful_timeout: Gunicorn's setting, in seconds.
    """

    values: MappingProxyType[str, Any]
    limits: Limits
    forwarded: ForwardedPolicy
    proxy: ProxyPolicy
    sendfile: bool
    request_id_response: bytes
    graceful_timeout: float

    @property
    def policy(self) -> Policy:
        """Runs in: worker. What the connections need of it beside the limits."""
        return Policy(
            self.forwarded,
            self.proxy,
            self.values["root_path"],
            self.sendfile,
            self.request_id_response,
        )

    @classmethod
    def resolve(cls, cfg: Config) -> Settings:
        """Runs in: master. The settings that belong to ``cfg``.

        Raises:
            SettingError: a value is not allowed, or two contradict each other.
        """
        namespace = _namespace(cfg)
        values = {definition.name: _value(definition, cfg, namespace) for definition in DEFINITIONS}
        _check_term_delay(values, cfg.graceful_timeout)
        return cls(
            values=MappingProxyType(values),
            limits=_limits(cfg, values),
            forwarded=_forwarded(cfg, values),
            proxy=_proxy(cfg, values),
            sendfile=cfg.sendfile,
            request_id_response=_request_id_response(values),
            graceful_timeout=float(cfg.graceful_timeout),
        )

    @staticmethod
    def misspelt(cfg: Config) -> Iterator[str]:
        """Runs in: master. A sentence for each unknown name of ours in config file or environment.

        Gunicorn skips unknown names in silence, so a typo would go unnoticed.
        """
        known = {definition.name for definition in DEFINITIONS} | set(cfg.settings)
        for name in sorted(_namespace(cfg)):
            if name.startswith("asgi_") and name not in known:
                yield _unknown(name, "the config file", known)
        variables = {definition.variable for definition in DEFINITIONS}
        for name in sorted(os.environ):
            if name.startswith("GUNICORN_ASGI_") and name not in variables:
                yield _unknown(name, "the environment", variables)


def _unknown(name: str, place: str, known: Iterable[str]) -> str:
    import difflib  # which a start without a mistake does not need

    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"unknown setting {name} in {place} is ignored{hint}"


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
        request_line=min(cfg.limit_request_line, _MAX_LINE),
        request_fields=min(cfg.limit_request_fields or _MAX_FIELDS, _MAX_FIELDS),
        request_field_size=cfg.limit_request_field_size,
        request_body=values["asgi_limit_request_body"],
        connections=cfg.worker_connections,
        first_byte=values["asgi_first_byte_timeout"],
        request_head=values["asgi_request_head_timeout"],
        body=values["asgi_body_timeout"],
        write=values["asgi_write_timeout"],
        min_data_rate=values["asgi_min_data_rate"],
        keep_alive=cfg.keepalive,
        linger=values["asgi_linger_timeout"],
        request=values["asgi_request_timeout"],
        tls_handshake=values["asgi_tls_handshake_timeout"],
        disconnect_grace=values["asgi_disconnect_grace_period"],
        drain_linger=values["asgi_drain_linger"],
        shed_requests=values["asgi_shed_requests"],
        shed_lag=values["asgi_shed_lag"],
        websocket_message=values["websocket_max_message_size"],
        websocket_deflate_level=values["asgi_ws_deflate_level"],
        websocket_deflate_minimum=values["asgi_ws_deflate_minimum"],
        websocket_window_bits=values["asgi_ws_deflate_window"],
        websocket_ping_interval=values["asgi_ws_ping_interval"],
        websocket_ping_timeout=values["asgi_ws_ping_timeout"],
    )


# -- what is in front ------------------------------------------------------------------------------


def _forwarded(cfg: Config, values: Mapping[str, Any]) -> ForwardedPolicy:
    return ForwardedPolicy(
        peers=_networks("forwarded_allow_ips", cfg.forwarded_allow_ips),
        secure_schemes=_secure_schemes(cfg.secure_scheme_headers),
        forwarder_headers=frozenset(
            _field_name("forwarder_headers", name, "*") for name in cfg.forwarder_headers
        ),
        header_map=cfg.header_map,
        fields=frozenset(name.encode() for name in values["asgi_forwarded_fields"]),
        request_id_field=values["asgi_request_id_field"].encode(),
    )


def _proxy(cfg: Config, values: Mapping[str, Any]) -> ProxyPolicy:
    mode = cfg.proxy_protocol
    if mode not in _PROXY_VERSIONS:
        raise SettingError(f"proxy_protocol is {mode!r}, which is not one of off, v1, v2, auto")
    versions = _PROXY_VERSIONS[mode]
    required = values["asgi_proxy_protocol_required"]
    if required and not versions:
        raise SettingError(
            f"asgi_proxy_protocol_required is True, but proxy_protocol is {mode!r}: no connection "
            "could be served"
        )
    return ProxyPolicy(
        versions=versions,
        peers=_networks("proxy_allow_ips", cfg.proxy_allow_ips),
        required=required,
    )


def _networks(name: str, given: Iterable[object]) -> Networks:
    # Texts, but networks in Gunicorn 24.1.0.
    texts = [str(each) for each in given]
    try:
        return Networks.parse(texts)
    except ValueError as exc:
        raise SettingError(
            f"{name} is {','.join(texts)!r}, which is not a list of IP addresses and networks, or "
            f"*: {exc}"
        ) from None


def _secure_schemes(given: Mapping[object, object]) -> dict[bytes, bytes]:
    schemes: dict[bytes, bytes] = {}
    for name, value in given.items():
        field = _field_name("secure_scheme_headers", name)
        if field in schemes:
            raise SettingError(f"secure_scheme_headers has {name!r} in it twice, in other letters")
        if not isinstance(value, str) or not value.isascii():
            raise SettingError(
                f"secure_scheme_headers has {value!r} for {name!r}, which is not a text in ASCII"
            )
        schemes[field] = value.encode()
    return schemes


def _field_name(setting: str, name: object, *others: str) -> bytes:
    """``name`` in lower case, as the fields of a request are compared."""
    if isinstance(name, str) and (name in others or is_field_name(name)):
        return name.lower().encode()
    raise SettingError(f"{setting} has {name!r} in it, which is not a field name")


def _request_id_response(values: Mapping[str, Any]) -> bytes:
    if not values["asgi_request_id_response"]:
        return b""
    if not values["asgi_request_id_field"]:
        raise SettingError(
            "asgi_request_id_response is True, but asgi_request_id_field is '': there is no field "
            "to send it in"
        )
    field: str = values["asgi_request_id_field"]
    return field.encode()
