"""What comes of the settings that say whom and what a worker believes, and of their neighbours."""

from __future__ import annotations

from dataclasses import fields
from ipaddress import ip_network
from typing import TYPE_CHECKING

import gunicorn
import pytest
from gunicorn.config import Config

from configs import ConfigFile, forget_the_machine, gunicorn_config
from gunicorn_asgi.protocol.forwarded import ForwardedPolicy
from gunicorn_asgi.protocol.proxy import ProxyPolicy
from gunicorn_asgi.worker.settings import SettingError, Settings

if TYPE_CHECKING:
    from pathlib import Path

__all__: list[str] = []


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine's speaks here."""
    forget_the_machine(monkeypatch)
    monkeypatch.delenv("SENDFILE", raising=False)


@pytest.fixture
def config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ConfigFile:
    """Nothing is said yet."""
    return ConfigFile(tmp_path / "gunicorn.conf.py", monkeypatch)


def held(**values: object) -> Config:
    """A Config in which Gunicorn's settings hold what its own validation would not let through."""
    cfg = gunicorn_config()
    vars(cfg).update(values)
    return cfg


def refusal(cfg: Config) -> str:
    """What is said of a configuration that is refused."""
    with pytest.raises(SettingError) as caught:
        Settings.resolve(cfg)
    text = str(caught.value)
    assert "\n" not in text
    return text


# -- forwarded fields ------------------------------------------------------------------------------


def test_gunicorns_defaults_are_those_of_the_policies(monkeypatch: pytest.MonkeyPatch) -> None:
    """protocol/ cannot ask Gunicorn. FORWARDED_ALLOW_IPS is read when Gunicorn is imported."""
    settings = Settings.resolve(gunicorn_config(forwarded_allow_ips="127.0.0.1,::1"))
    assert settings.forwarded == ForwardedPolicy()
    assert settings.proxy == ProxyPolicy()


# Attribute of the policy, Gunicorn's setting or ours, a value of it, and what comes of it.
FORWARDED: list[tuple[str, str, object, object]] = [
    (
        "secure_schemes",
        "secure_scheme_headers",
        {"X-FORWARDED-PROTO": "https", "Front-End-Https": "on"},
        {b"x-forwarded-proto": b"https", b"front-end-https": b"on"},
    ),
    ("secure_schemes", "secure_scheme_headers", {}, {}),
    ("forwarder_headers", "forwarder_headers", "REMOTE_USER", frozenset({b"remote_user"})),
    ("forwarder_headers", "forwarder_headers", "*,A_b", frozenset({b"*", b"a_b"})),
    ("forwarder_headers", "forwarder_headers", "", frozenset()),
    ("header_map", "header_map", "refuse", "refuse"),
    ("header_map", "header_map", "dangerous", "dangerous"),
    ("fields", "asgi_forwarded_fields", "Forwarded", frozenset({b"forwarded"})),
    (
        "fields",
        "asgi_forwarded_fields",
        ["x-forwarded-host", "x-forwarded-port"],
        frozenset({b"x-forwarded-host", b"x-forwarded-port"}),
    ),
    ("request_id_field", "asgi_request_id_field", "X-Correlation-ID", b"x-correlation-id"),
    ("request_id_field", "asgi_request_id_field", "", b""),
]


@pytest.mark.parametrize(("attribute", "name", "given", "taken"), FORWARDED)
def test_the_policy_comes_of_the_settings(
    attribute: str, name: str, given: object, taken: object, config_file: ConfigFile
) -> None:
    """Names in lower case, as the fields of a request are compared; nothing else is touched."""
    gunicorns = {"forwarded_allow_ips": "127.0.0.1,::1"}
    if name.startswith("asgi_"):
        config_file.says({name: given})
    else:
        gunicorns[name] = given  # type: ignore[assignment]
    policy = Settings.resolve(gunicorn_config(**gunicorns)).forwarded
    assert getattr(policy, attribute) == taken
    others = {each.name for each in fields(ForwardedPolicy)} - {attribute}
    default = ForwardedPolicy()
    assert {getattr(policy, each) == getattr(default, each) for each in others} == {True}


def test_every_part_of_the_policy_is_set_by_a_setting_that_is_tested() -> None:
    """``peers`` is below, for it is read in more than one way."""
    told = {attribute for attribute, *_ in FORWARDED}
    assert told | {"peers"} == {each.name for each in fields(ForwardedPolicy)}


both = pytest.mark.parametrize(
    ("name", "policy"), [("forwarded_allow_ips", "forwarded"), ("proxy_allow_ips", "proxy")]
)


@both
@pytest.mark.parametrize(
    ("listed", "trusted", "stranger"),
    [
        (["192.0.2.1"], "192.0.2.1", "192.0.2.2"),
        (["2001:db8::1"], "2001:db8::1", "2001:db8::2"),
        (["192.0.2.0/24", "2001:db8::/32"], "192.0.2.200", "192.0.3.1"),
        # Gunicorn 24.1.0 makes networks of the texts.
        ([ip_network("192.0.2.0/24")], "192.0.2.200", "192.0.3.1"),
        ([ip_network("192.0.2.1"), "2001:db8::1"], "192.0.2.1", "192.0.2.2"),
        ([], None, "127.0.0.1"),
    ],
    ids=["address", "IPv6", "networks", "as network", "as mixture", "nobody"],
)
def test_the_proxies_are_those_that_gunicorn_lists(
    name: str, policy: str, listed: list[object], trusted: str | None, stranger: str
) -> None:
    """A unix socket is always one of them, as Gunicorn documents."""
    settings = Settings.resolve(held(**{name: listed}))
    peers = getattr(settings, policy).peers
    assert peers.trusts(trusted)
    assert peers.trusts(None)
    assert not peers.trusts(stranger)


@both
def test_a_star_is_everybody(name: str, policy: str) -> None:
    """As Gunicorn's validation lets it through."""
    settings = Settings.resolve(gunicorn_config(**{name: "*"}))
    assert getattr(settings, policy).peers.trusts("192.0.2.1")


@both
@pytest.mark.parametrize("wrong", ["proxy.example", "192.0.2.1/24", "192.0.2.300", ""])
def test_a_proxy_that_is_no_address_is_refused(name: str, policy: str, wrong: str) -> None:
    """Gunicorn refuses most of them itself, but not wherever a value may come from."""
    text = refusal(held(**{name: ["127.0.0.1", wrong]}))
    assert text.startswith(f"{name} is '127.0.0.1,{wrong}', which is not a list of IP addresses")
    assert text.rpartition("*: ")[2], f"the reason, for {policy}"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("secure_scheme_headers", {"X FORWARDED": "https"}, "'X FORWARDED' in it"),
        ("secure_scheme_headers", {b"X-PROTO": "https"}, "b'X-PROTO' in it"),
        ("secure_scheme_headers", {"X-PROTO": True}, "True for 'X-PROTO'"),
        ("secure_scheme_headers", {"X-PROTO": "\u017f"}, "'\u017f' for 'X-PROTO'"),
        ("secure_scheme_headers", {"X-PROTO": "a", "x-proto": "b"}, "'x-proto' in it twice"),
        ("forwarder_headers", ["REMOTE USER"], "'REMOTE USER' in it"),
        ("forwarder_headers", [""], "'' in it"),
    ],
)
def test_a_field_that_no_request_can_have_is_refused(name: str, value: object, said: str) -> None:
    """Gunicorn looks at neither names nor values; a typo would never match."""
    assert refusal(held(**{name: value})).startswith(f"{name} has {said}")


# -- the PROXY protocol ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "versions"),
    [
        ("off", set()),
        ("v1", {1}),
        ("v2", {2}),
        ("auto", {1, 2}),
        (False, set()),
        # Gunicorn 23 and 24.0 have a flag, and a parser of version 1.
        (True, {1}),
    ],
)
def test_the_versions_are_those_of_proxy_protocol(mode: object, versions: set[int]) -> None:
    """In the words of every Gunicorn."""
    assert Settings.resolve(held(proxy_protocol=mode)).proxy.versions == versions


def test_what_the_installed_gunicorn_makes_of_a_flag_is_understood() -> None:
    """``proxy_protocol = True`` in a config file."""
    versions = Settings.resolve(gunicorn_config(proxy_protocol=True)).proxy.versions
    assert versions == ({1, 2} if gunicorn.version_info >= (24, 1) else {1})


@pytest.mark.parametrize("mode", ["v3", None, 2, ""])
def test_a_mode_that_is_none_is_refused(mode: object) -> None:
    """That of a later Gunicorn perhaps."""
    text = refusal(held(proxy_protocol=mode))
    assert text == f"proxy_protocol is {mode!r}, which is not one of off, v1, v2, auto"


def test_a_header_can_be_required(config_file: ConfigFile) -> None:
    """asgi_proxy_protocol_required."""
    config_file.says({"asgi_proxy_protocol_required": True})
    proxy = Settings.resolve(gunicorn_config(proxy_protocol=True)).proxy
    assert proxy.required
    assert proxy.versions


# -- files and ids ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        (None, None, True),
        ("yes", None, True),
        ("1", None, True),
        ("no", None, False),
        ("0", None, False),
        (None, False, False),
        # Gunicorn's flag is --no-sendfile, so whatever is set means no.
        (None, True, False),
        ("yes", False, False),
    ],
)
def test_sendfile_is_gunicorns(
    variable: str | None, value: object, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With SENDFILE in the environment, where nothing else is set."""
    if variable is not None:
        monkeypatch.setenv("SENDFILE", variable)
    values = {} if value is None else {"sendfile": value}
    assert Settings.resolve(gunicorn_config(**values)).sendfile is expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, b""),
        ({"asgi_request_id_response": True}, b"x-request-id"),
        ({"asgi_request_id_response": True, "asgi_request_id_field": "X-Id"}, b"x-id"),
        ({"asgi_request_id_field": "X-Id"}, b""),
    ],
)
def test_an_id_goes_into_the_response_by_choice(
    said: dict[str, object], expected: bytes, config_file: ConfigFile
) -> None:
    """In the field from which it is taken."""
    config_file.says(said)
    assert Settings.resolve(gunicorn_config()).request_id_response == expected


# -- contradictions --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["off", False])
def test_a_required_header_of_a_protocol_that_is_off_is_refused(
    mode: object, config_file: ConfigFile
) -> None:
    """Either no connection would be served, or the requirement would be forgotten."""
    config_file.says({"asgi_proxy_protocol_required": True})
    text = refusal(held(proxy_protocol=mode))
    assert text.startswith(
        f"asgi_proxy_protocol_required is True, but proxy_protocol is {mode!r}: no connection"
    )


def test_an_id_in_the_response_without_a_field_for_it_is_refused(config_file: ConfigFile) -> None:
    """There are no ids then."""
    config_file.says({"asgi_request_id_response": True, "asgi_request_id_field": ""})
    text = refusal(gunicorn_config())
    assert text.startswith("asgi_request_id_response is True, but asgi_request_id_field is ''")
