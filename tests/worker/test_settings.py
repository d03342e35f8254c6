"""Our settings: where a value comes from, which are taken, and what is said of the others."""

from __future__ import annotations

import sys
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest
from gunicorn.config import Config

from configs import ConfigFile, forget_the_machine, gunicorn_config
from gunicorn_asgi.protocol.limits import Limits
from gunicorn_asgi.worker.definitions import DEFINITIONS
from gunicorn_asgi.worker.settings import SettingError, Settings

if TYPE_CHECKING:
    from pathlib import Path

__all__: list[str] = []

NAMES = [definition.name for definition in DEFINITIONS]
BY_NAME = {definition.name: definition for definition in DEFINITIONS}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the machine's and no config file of another test speaks here."""
    forget_the_machine(monkeypatch)


@pytest.fixture
def config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ConfigFile:
    """Nothing is said yet."""
    return ConfigFile(tmp_path / "gunicorn.conf.py", monkeypatch)


def resolved(cfg: Config, name: str) -> object:
    return Settings.resolve(cfg).values[name]


# -- defaults --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_without_a_word_the_default_holds(name: str) -> None:
    """On a Gunicorn that knows the setting too, its own default is the same."""
    assert resolved(gunicorn_config(), name) == BY_NAME[name].default
    assert resolved(Config(), name) == BY_NAME[name].default


@pytest.mark.parametrize("name", NAMES)
def test_a_default_is_a_value_that_its_own_validation_allows(name: str) -> None:
    """And leaves as it is."""
    definition = BY_NAME[name]
    assert definition.validate(definition.default) == definition.default
    assert definition.description
    assert definition.since


def test_no_name_is_defined_twice() -> None:
    """The later one would win without a word."""
    assert len(NAMES) == len(set(NAMES))


def test_the_variables_are_named_after_the_settings() -> None:
    """GUNICORN_ and the name in capitals."""
    assert BY_NAME["asgi_drain_linger"].variable == "GUNICORN_ASGI_DRAIN_LINGER"
    assert BY_NAME["root_path"].variable == "GUNICORN_ROOT_PATH"


# -- sources ---------------------------------------------------------------------------------------

# Three values for each setting: by the environment (text), by Gunicorn, by the config file.
THREE: dict[str, tuple[str, object, object]] = {
    "asgi_loop": ("asyncio", "uvloop", "auto"),
    "asgi_lifespan": ("off", "on", "auto"),
    "asgi_disconnect_grace_period": ("1", 2, 4),
    "websocket_max_message_size": ("1", 2, 4),
    "asgi_ws_ping_interval": ("1", 2, 4),
    "asgi_ws_ping_timeout": ("1", 2, 4),
    "asgi_ws_deflate_level": ("1", 2, 3),
    "asgi_ws_deflate_window": ("9", 10, 11),
    "asgi_ws_deflate_minimum": ("1", 2, 4),
    "root_path": ("/env", "/gunicorn", "/file"),
    "asgi_drain_linger": ("1", 2, 4),
    "asgi_boot_timeout": ("1", 2, 4),
    "asgi_ready_check": ("/env", "/gunicorn", "/file"),
    "asgi_reload_guard": ("yes", False, False),
    "asgi_term_delay": ("1", 2, 4),
    "asgi_max_rss": ("1", 2, 4),
    "asgi_max_age": ("1", 2, 4),
    "asgi_limit_request_body": ("1", 2, 4),
    "asgi_first_byte_timeout": ("1", 2, 4),
    "asgi_request_head_timeout": ("1", 2, 4),
    "asgi_body_timeout": ("1", 2, 4),
    "asgi_write_timeout": ("1", 2, 4),
    "asgi_min_data_rate": ("1", 2, 4),
    "asgi_linger_timeout": ("1", 2, 4),
    "asgi_request_timeout": ("1", 2, 4),
    "asgi_tls_handshake_timeout": ("1", 2, 4),
    "asgi_shed_requests": ("1", 2, 4),
    "asgi_shed_lag": ("1", 2, 4),
    "asgi_forwarded_fields": ("forwarded", ("x-forwarded-host",), ("x-forwarded-port",)),
    "asgi_proxy_protocol_required": ("no", False, False),
    "asgi_request_id_field": ("x-env", "x-gunicorn", "x-file"),
    "asgi_request_id_response": ("yes", False, True),
    "asgi_stall_warning": ("0.5", 2, 4),
    "asgi_metrics": ("yes", False, False),
    "asgi_open_requests": ("yes", False, False),
    "asgi_status_bind": ("127.0.0.1:1", "127.0.0.1:2", "unix:/run/status.sock"),
    "asgi_status_allow": ("192.0.2.1", ("192.0.2.2",), ("192.0.2.0/24", "::1")),
    "asgi_tls_reload": ("yes", False, False),
}


def test_every_setting_has_its_three_sources_tested() -> None:
    """A new definition needs a line above."""
    assert list(THREE) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_environment_goes_before_gunicorn_and_gunicorn_before_the_config_file(
    name: str, config_file: ConfigFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Take one source away after the other."""
    text, own, file = THREE[name]
    config_file.says({name: file})
    monkeypatch.setenv(BY_NAME[name].variable, text)
    validate = BY_NAME[name].validate
    assert resolved(gunicorn_config({name: own}), name) == validate(text)
    monkeypatch.delenv(BY_NAME[name].variable)
    assert resolved(gunicorn_config({name: own}), name) == own
    assert resolved(gunicorn_config(), name) == file
    monkeypatch.delitem(sys.modules, "__config__")
    assert resolved(gunicorn_config(), name) == BY_NAME[name].default


def test_an_empty_variable_is_a_value() -> None:
    """Not the same as none: an empty root_path is allowed, an empty number is not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GUNICORN_ROOT_PATH", "")
        assert resolved(gunicorn_config({"root_path": "/own"}), "root_path") == ""
        patch.setenv("GUNICORN_ASGI_DRAIN_LINGER", "")
        with pytest.raises(SettingError):
            Settings.resolve(gunicorn_config())


def test_a_python_config_is_read_from_its_module(config_file: ConfigFile) -> None:
    """``-c python:NAME``: the module, and not what an older file has left behind."""
    config_file.says({"asgi_drain_linger": 7})
    config_file.says({"asgi_drain_linger": 8}, "our.settings")
    cfg = gunicorn_config(config="python:our.settings")
    assert resolved(cfg, "asgi_drain_linger") == 8


def test_a_python_config_that_is_not_imported_says_nothing() -> None:
    """Gunicorn would have failed before."""
    cfg = gunicorn_config(config="python:no.such.module")
    assert resolved(cfg, "asgi_drain_linger") == BY_NAME["asgi_drain_linger"].default


@pytest.mark.parametrize("location", ["", None])
def test_no_location_is_the_default_file(location: str | None, config_file: ConfigFile) -> None:
    """Gunicorn looks for ./gunicorn.conf.py then."""
    config_file.says({"asgi_drain_linger": 7})
    assert resolved(gunicorn_config(config=location), "asgi_drain_linger") == 7


def test_a_config_file_that_was_removed_before_a_reload_says_nothing(
    config_file: ConfigFile,
) -> None:
    """Gunicorn goes back to its defaults, and leaves the module of the old file behind."""
    config_file.says({"asgi_drain_linger": 7})
    config_file.path.unlink()
    assert resolved(gunicorn_config(), "asgi_drain_linger") == 5.0


# -- values ----------------------------------------------------------------------------------------

GOOD: list[tuple[str, object, object]] = [
    ("asgi_loop", " UVLOOP ", "uvloop"),
    ("asgi_loop", "asyncio", "asyncio"),
    ("asgi_lifespan", "On", "on"),
    ("asgi_lifespan", "off", "off"),
    ("asgi_disconnect_grace_period", 0, 0.0),
    ("asgi_disconnect_grace_period", "0.5", 0.5),
    ("asgi_drain_linger", 1e9, 1e9),
    ("websocket_max_message_size", 0, 0),
    ("websocket_max_message_size", "1048576", 1048576),
    ("websocket_max_message_size", 16e6, 16000000),
    ("asgi_ws_ping_interval", 0, 0.0),
    ("asgi_ws_ping_timeout", "0.5", 0.5),
    ("asgi_ws_deflate_level", 0, 0),
    ("asgi_ws_deflate_level", "9", 9),
    ("asgi_ws_deflate_window", 9.0, 9),
    ("asgi_ws_deflate_window", " 15 ", 15),
    ("asgi_ws_deflate_minimum", 0, 0),
    ("root_path", "", ""),
    ("root_path", "/", ""),
    ("root_path", " /api/ ", "/api"),
    ("root_path", "/a/b", "/a/b"),
    ("asgi_boot_timeout", 0, 0.0),
    ("asgi_boot_timeout", "2.5", 2.5),
    ("asgi_ready_check", "", ""),
    ("asgi_ready_check", "/", "/"),
    ("asgi_ready_check", " /ready/?full=1 ", "/ready/?full=1"),
    ("asgi_reload_guard", True, True),
    ("asgi_reload_guard", " TRUE ", True),
    ("asgi_reload_guard", "1", True),
    ("asgi_reload_guard", "on", True),
    ("asgi_reload_guard", False, False),
    ("asgi_reload_guard", "0", False),
    ("asgi_reload_guard", "No", False),
    ("asgi_reload_guard", "off", False),
    ("asgi_term_delay", "29.9", 29.9),
    ("asgi_max_rss", "500000000", 500000000),
    ("asgi_max_age", 3600, 3600.0),
    ("asgi_limit_request_body", "1048576", 1048576),
    ("asgi_first_byte_timeout", 0, 0.0),
    ("asgi_shed_requests", "100", 100),
    ("asgi_shed_requests", 1e2, 100),
    ("asgi_min_data_rate", "0", 0),
    ("asgi_shed_lag", "0.25", 0.25),
    ("asgi_forwarded_fields", "", ()),
    ("asgi_forwarded_fields", [], ()),
    (
        "asgi_forwarded_fields",
        " X-Forwarded-Host, x-forwarded-port,",
        ("x-forwarded-host", "x-forwarded-port"),
    ),
    ("asgi_forwarded_fields", ["Forwarded"], ("forwarded",)),
    ("asgi_forwarded_fields", ("X-Forwarded-Prefix",), ("x-forwarded-prefix",)),
    ("asgi_request_id_field", " X-Correlation-ID ", "x-correlation-id"),
    ("asgi_request_id_field", "", ""),
    ("asgi_status_bind", "", ""),
    ("asgi_status_bind", " [::1]:9100 ", "[::1]:9100"),
    ("asgi_status_bind", "unix:/run/status.sock", "unix:/run/status.sock"),
    ("asgi_status_allow", "10.0.0.0/8, ::1,", ("10.0.0.0/8", "::1")),
    ("asgi_status_allow", "*", ("*",)),
    ("asgi_status_allow", "", ()),
    ("asgi_stall_warning", 0, 0.0),
]

WORDS = "one of "
SECONDS = "a number of seconds, 0 or more"
ADDRESS = "HOST:PORT or unix:PATH, or nothing"
NETWORKS = "a list of IP addresses and networks, or *"
BYTES = "number of bytes, 0 or more"
PATH = 'a path that begins with "/", or nothing'
FLAG = "true or false"
COUNT = "a whole number, 0 or more"
RATE = "a whole number of bytes per second, 0 or more"
LEVEL = "a whole number from 0 to 9"
WINDOW = "a whole number from 9 to 15"
FIELDS = "a list of forwarded, x-forwarded-host, x-forwarded-port, x-forwarded-prefix"
FIELD = "a field name that HTTP itself has no use for, or nothing"
BAD: list[tuple[str, object, str]] = [
    ("asgi_loop", "trio", "one of auto, uvloop, asyncio"),
    ("asgi_loop", None, WORDS),
    ("asgi_loop", True, WORDS),
    ("asgi_lifespan", "yes", "one of auto, on, off"),
    ("asgi_lifespan", 1, WORDS),
    ("asgi_disconnect_grace_period", -1, SECONDS),
    ("asgi_disconnect_grace_period", "soon", SECONDS),
    ("asgi_drain_linger", None, SECONDS),
    ("asgi_drain_linger", True, SECONDS),
    ("asgi_drain_linger", "inf", SECONDS),
    ("asgi_drain_linger", float("nan"), SECONDS),
    ("asgi_drain_linger", 10**400, SECONDS),
    ("asgi_drain_linger", [5], SECONDS),
    ("websocket_max_message_size", -1, BYTES),
    ("websocket_max_message_size", "16M", BYTES),
    ("websocket_max_message_size", False, BYTES),
    ("websocket_max_message_size", 1.5, BYTES),
    ("websocket_max_message_size", float("inf"), BYTES),
    ("websocket_max_message_size", float("nan"), BYTES),
    ("websocket_max_message_size", {}, BYTES),
    ("asgi_ws_ping_interval", "never", SECONDS),
    ("asgi_ws_ping_timeout", -1, SECONDS),
    ("asgi_ws_deflate_level", -1, LEVEL),
    ("asgi_ws_deflate_level", 10, LEVEL),
    ("asgi_ws_deflate_level", 1.5, LEVEL),
    ("asgi_ws_deflate_level", True, LEVEL),
    ("asgi_ws_deflate_level", "best", LEVEL),
    ("asgi_ws_deflate_level", float("nan"), LEVEL),
    ("asgi_ws_deflate_window", 8, WINDOW),
    ("asgi_ws_deflate_window", 16, WINDOW),
    ("asgi_ws_deflate_window", None, WINDOW),
    ("asgi_ws_deflate_minimum", "1k", BYTES),
    ("root_path", "api", PATH),
    ("root_path", None, PATH),
    ("root_path", 1, PATH),
    ("asgi_boot_timeout", "never", SECONDS),
    ("asgi_ready_check", "healthz", PATH),
    ("asgi_ready_check", True, PATH),
    ("asgi_reload_guard", "perhaps", FLAG),
    ("asgi_reload_guard", 1, FLAG),
    ("asgi_reload_guard", "", FLAG),
    ("asgi_reload_guard", None, FLAG),
    ("asgi_term_delay", -1, SECONDS),
    ("asgi_max_rss", "1G", BYTES),
    ("asgi_max_age", "a day", SECONDS),
    ("asgi_limit_request_body", "1M", BYTES),
    ("asgi_body_timeout", None, SECONDS),
    ("asgi_shed_requests", "many", COUNT),
    ("asgi_shed_requests", -1, COUNT),
    ("asgi_shed_requests", 0.5, COUNT),
    ("asgi_min_data_rate", "240 B/s", RATE),
    ("asgi_min_data_rate", 0.5, RATE),
    ("asgi_forwarded_fields", "x-forwarded-for", FIELDS),
    ("asgi_forwarded_fields", "forwarded x-forwarded-host", FIELDS),
    ("asgi_forwarded_fields", ["forwarded", None], FIELDS),
    ("asgi_forwarded_fields", None, FIELDS),
    ("asgi_forwarded_fields", {"forwarded": 1}, FIELDS),
    ("asgi_request_id_field", "x request id", FIELD),
    ("asgi_request_id_field", "x-id\nx", FIELD),
    ("asgi_request_id_field", "x-\xefd", FIELD),
    ("asgi_request_id_field", None, FIELD),
    ("asgi_request_id_field", "Content-Length", FIELD),
    ("asgi_request_id_field", "transfer-encoding", FIELD),
    ("asgi_stall_warning", "soon", SECONDS),
    ("asgi_status_bind", "9100", ADDRESS),
    ("asgi_status_bind", ":9100", ADDRESS),
    ("asgi_status_bind", "localhost:http", ADDRESS),
    ("asgi_status_bind", "localhost:65536", ADDRESS),
    ("asgi_status_bind", "unix:", ADDRESS),
    ("asgi_status_bind", None, ADDRESS),
    ("asgi_status_allow", "10.0.0.1/8", NETWORKS),
    ("asgi_status_allow", ["localhost"], NETWORKS),
    ("asgi_status_allow", [None], NETWORKS),
    ("asgi_status_allow", None, NETWORKS),
]


@pytest.mark.parametrize(("name", "given", "taken"), GOOD)
def test_a_good_value_is_taken(
    name: str, given: object, taken: object, config_file: ConfigFile
) -> None:
    """In the type in which the code wants it."""
    config_file.says({name: given})
    value = resolved(gunicorn_config(), name)
    assert value == taken
    assert type(value) is type(taken)


@pytest.mark.parametrize(("name", "given", "allowed"), BAD)
def test_a_bad_value_is_named_with_what_is_allowed(
    name: str, given: object, allowed: str, config_file: ConfigFile
) -> None:
    """Name, value, source and what would do, in one line."""
    config_file.says({name: given})
    with pytest.raises(SettingError) as caught:
        Settings.resolve(gunicorn_config())
    text = str(caught.value)
    assert text.startswith(f"{name} is {given!r} (the config file), which is not ")
    assert allowed in text
    assert "\n" not in text


@pytest.mark.parametrize("source", ["GUNICORN_ASGI_LOOP", "Gunicorn's configuration"])
def test_a_bad_value_is_named_with_its_source(
    source: str, config_file: ConfigFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever mends it has to know where."""
    config_file.says({"asgi_loop": "auto"})
    if source.startswith("GUNICORN"):
        monkeypatch.setenv(source, "trio")
    with pytest.raises(SettingError) as caught:
        Settings.resolve(gunicorn_config({"asgi_loop": "trio"}))
    assert f"asgi_loop is 'trio' ({source})" in str(caught.value)


@pytest.mark.parametrize(("delay", "graceful"), [(30, 30), (31, 30), ("0.5", 0), (1e9, 3600)])
def test_a_term_delay_that_leaves_no_time_to_drain_is_refused(
    delay: object, graceful: int, config_file: ConfigFile
) -> None:
    """graceful_timeout bounds both; the master kills at its end, and loses what was accepted."""
    config_file.says({"asgi_term_delay": delay})
    with pytest.raises(SettingError, match=rf"asgi_term_delay is .* \({graceful}\)"):
        Settings.resolve(gunicorn_config(graceful_timeout=graceful))


def test_no_term_delay_suits_every_graceful_timeout(config_file: ConfigFile) -> None:
    """0 is less than nothing."""
    config_file.says({"asgi_term_delay": 0})
    assert Settings.resolve(gunicorn_config(graceful_timeout=0)).graceful_timeout == 0.0


def test_an_error_is_what_gunicorn_turns_into_exit_status_1() -> None:
    """tests/test_host_contract.py shows that a RuntimeError is."""
    assert issubclass(SettingError, RuntimeError)


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("asgi_drain_timeout", "asgi_drain_timeout in the config file is ignored"),
        ("asgi_drain_lingr", "is ignored; did you mean asgi_drain_linger?"),
        ("asgi_lop", "is ignored; did you mean asgi_loop?"),
        ("asgi_qqqqqqqqqqqqqqqqqq", "unknown setting asgi_qqqqqqqqqqqqqqqqqq in the config file"),
    ],
)
def test_an_unknown_name_is_told_and_the_nearest_one_suggested(
    name: str, said: str, config_file: ConfigFile
) -> None:
    """Gunicorn itself drops the typo in silence."""
    config_file.says({name: 1})
    (sentence,) = Settings.misspelt(gunicorn_config())
    assert said in sentence


def test_nothing_near_is_no_suggestion(config_file: ConfigFile) -> None:
    """A wild guess would mislead."""
    config_file.says({"asgi_qqqqqqqqqqqqqqqqqq": 1})
    (sentence,) = Settings.misspelt(gunicorn_config())
    assert "did you mean" not in sentence


def test_known_names_and_other_peoples_names_are_not_told(config_file: ConfigFile) -> None:
    """Ours, Gunicorn's own with that prefix, and helpers in the file."""
    config_file.says(
        {"asgi_loop": "auto", "asgi_new": 1, "workers": 3, "my_asgi_thing": 4, "os": object()}
    )
    assert list(Settings.misspelt(gunicorn_config({"asgi_new": 1}))) == []


def test_unknown_names_are_told_in_their_order(config_file: ConfigFile) -> None:
    """Deterministic, each once."""
    config_file.says({"asgi_b": 1, "asgi_a": 2})
    told = [sentence.split()[2] for sentence in Settings.misspelt(gunicorn_config())]
    assert told == ["asgi_a", "asgi_b"]


# -- what the rooms below get ----------------------------------------------------------------------

# Limit, Gunicorn's setting or ours, a value of it, and the limit that comes of it.
LIMITS: list[tuple[str, str, object, object]] = [
    ("request_line", "limit_request_line", 1000, 1000),
    ("request_line", "limit_request_line", 0, 0),
    ("request_line", "limit_request_line", 8190, 8190),
    ("request_line", "limit_request_line", 99999, 8190),
    ("request_fields", "limit_request_fields", 7, 7),
    ("request_fields", "limit_request_fields", 0, 32768),
    ("request_fields", "limit_request_fields", 99999, 32768),
    ("request_field_size", "limit_request_field_size", 100, 100),
    ("request_field_size", "limit_request_field_size", 0, 0),
    ("connections", "worker_connections", 5, 5),
    ("keep_alive", "keepalive", 9, 9),
    ("disconnect_grace", "asgi_disconnect_grace_period", 1.5, 1.5),
    ("drain_linger", "asgi_drain_linger", 2.5, 2.5),
    ("websocket_message", "websocket_max_message_size", 3, 3),
    ("websocket_deflate_level", "asgi_ws_deflate_level", 7, 7),
    ("websocket_window_bits", "asgi_ws_deflate_window", 13, 13),
    ("websocket_deflate_minimum", "asgi_ws_deflate_minimum", 22, 22),
    ("websocket_ping_interval", "asgi_ws_ping_interval", 23.5, 23.5),
    ("websocket_ping_timeout", "asgi_ws_ping_timeout", 24.5, 24.5),
    ("request_body", "asgi_limit_request_body", 11, 11),
    ("first_byte", "asgi_first_byte_timeout", 12.5, 12.5),
    ("request_head", "asgi_request_head_timeout", 13.5, 13.5),
    ("body", "asgi_body_timeout", 14.5, 14.5),
    ("write", "asgi_write_timeout", 15.5, 15.5),
    ("min_data_rate", "asgi_min_data_rate", 16, 16),
    ("linger", "asgi_linger_timeout", 17.5, 17.5),
    ("request", "asgi_request_timeout", 18.5, 18.5),
    ("tls_handshake", "asgi_tls_handshake_timeout", 19.5, 19.5),
    ("shed_requests", "asgi_shed_requests", 20, 20),
    ("shed_lag", "asgi_shed_lag", 21.5, 21.5),
]

# Those that no setting changes: what they are worth does not depend on the site.
FIXED = {
    *("chunk_overhead", "read_buffer", "write_buffer", "discard_body"),
    *("websocket_close", "websocket_control_rate", "close_spread", "accept_pause"),
}


def test_every_limit_is_set_by_a_setting_that_is_tested_or_is_fixed() -> None:
    """A new limit needs a line in one of the two."""
    limits = {limit for limit, *_ in LIMITS}
    assert limits | FIXED == {each.name for each in fields(Limits)}
    assert not limits & FIXED


@pytest.mark.parametrize(("limit", "name", "given", "taken"), LIMITS)
def test_a_limit_comes_of_its_setting(
    limit: str, name: str, given: object, taken: object, config_file: ConfigFile
) -> None:
    """No limit mixes with another: every value here is one that no default has."""
    if name in NAMES:
        config_file.says({name: given})
        cfg = gunicorn_config()
    else:
        cfg = gunicorn_config(**{name: given})
    limits = Settings.resolve(cfg).limits
    assert getattr(limits, limit) == taken
    others = {each.name for each in fields(Limits)} - {limit}
    assert {getattr(limits, each) == getattr(Limits(), each) for each in others} == {True}


def test_graceful_timeout_is_gunicorns() -> None:
    """The worker's schedule begins with it."""
    assert Settings.resolve(gunicorn_config(graceful_timeout=7)).graceful_timeout == 7.0


def test_resolved_settings_do_not_change() -> None:
    """They belong to one Config; a reload resolves anew."""
    settings: Any = Settings.resolve(gunicorn_config())
    with pytest.raises(TypeError):
        settings.values["asgi_loop"] = "asyncio"
    with pytest.raises(AttributeError):
        settings.limits = Limits()
