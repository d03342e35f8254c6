"""The TLS context that the settings ask for."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from gunicorn.config import Config

from configs import forget_the_machine
from gunicorn_asgi.worker.arbiter import check
from gunicorn_asgi.worker.settings import SettingError
from gunicorn_asgi.worker.tls import tls_context
from kit.fakes import FakeLog
from kit.tls import Certificates, openssl, shake_hands, shown

if TYPE_CHECKING:
    from collections.abc import Callable

__all__: list[str] = []

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "tls.md"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No word of the machine's, and no config file of another test."""
    forget_the_machine(monkeypatch)


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """One set for all tests."""
    made = Certificates(tmp_path_factory.mktemp("certs"))
    made.sign("other", rsa=True)
    return made


@pytest.fixture
def log() -> FakeLog:
    """Empty."""
    return FakeLog()


def config(**values: object) -> Config:
    cfg = Config()
    for name, value in values.items():
        cfg.set(name, value)
    return cfg


def config_for(certs: Certificates, **values: object) -> Config:
    """With the server's certificate."""
    return config(certfile=certs.cert("server"), keyfile=certs.key("server"), **values)


# -- the start is refused --------------------------------------------------------------------------


def test_a_tls_context_that_cannot_be_built_is_refused(log: FakeLog, tmp_path: Path) -> None:
    """A worker would otherwise die again and again, or serve plain HTTP on a TLS port."""
    certificate = tmp_path / "cert.pem"
    certificate.write_text("no certificate")
    with pytest.raises(SettingError, match="TLS cannot be set up: SSLError"):
        check(config(certfile=str(certificate)), log)


def test_a_key_without_a_certificate_is_refused(log: FakeLog, tmp_path: Path) -> None:
    """Gunicorn's is_ssl is true then too."""
    key = tmp_path / "key.pem"
    key.write_text("no key")
    with pytest.raises(SettingError, match="TLS cannot be set up: TypeError"):
        check(config(keyfile=str(key)), log)


def test_an_ssl_context_hook_that_raises_is_refused_with_its_reason(
    log: FakeLog, tmp_path: Path
) -> None:
    """The hook is the user's code, so it may raise anything."""

    def hook(_config: object, _factory: object) -> None:
        raise LookupError("the vault is closed")

    with pytest.raises(SettingError, match="LookupError: the vault is closed"):
        check(config(certfile=str(tmp_path / "cert.pem"), ssl_context=hook), log)


@pytest.mark.parametrize("made", [None, "a context", ["a context"]])
def test_an_ssl_context_hook_that_makes_no_context_is_refused(
    made: object, log: FakeLog, tmp_path: Path
) -> None:
    """None would mean plain HTTP on a TLS port."""

    def hook(_config: object, _factory: object) -> object:
        return made

    with pytest.raises(SettingError, match="which is no SSLContext"):
        check(config(certfile=str(tmp_path / "cert.pem"), ssl_context=hook), log)


def test_a_tls_context_that_can_be_built_is_not_refused(log: FakeLog, tmp_path: Path) -> None:
    """The hook's verdict counts, not the files'; the worker gets what the hook makes."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def hook(_config: object, _factory: object) -> ssl.SSLContext:
        return made

    cfg = config(certfile=str(tmp_path / "cert.pem"), ssl_context=hook)
    check(cfg, log)
    assert log.records == []
    assert tls_context(cfg) is made


def test_without_tls_there_is_no_context() -> None:
    """Nor is the hook asked."""

    def hook(_config: object, _factory: object) -> ssl.SSLContext:
        raise AssertionError("nobody wants TLS")

    assert tls_context(config(ssl_context=hook)) is None


# -- what the context allows -----------------------------------------------------------------------


@pytest.mark.parametrize("hook", [False, True], ids=["settings", "hook"])
@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(["http/1.1"], "http/1.1"), (["h2", "http/1.1"], "http/1.1"), (["h2"], None), ([], None)],
    ids=["http/1.1", "both", "h2", "none"],
)
def test_alpn_offers_http_1_1_and_nothing_else(
    certs: Certificates, offered: list[str], chosen: str | None, hook: bool
) -> None:
    """RFC 7301; whatever a hook has listed, we serve nothing else."""

    def ssl_context(_config: object, factory: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        context = factory()
        context.set_alpn_protocols(["h2", "spdy/1"])
        return context

    context = tls_context(config_for(certs, **({"ssl_context": ssl_context} if hook else {})))
    assert context is not None
    for end in shake_hands(context, alpn=offered):
        assert end.selected_alpn_protocol() == chosen


def test_a_client_of_today_gets_tls_1_3(certs: Certificates) -> None:
    context = tls_context(config_for(certs))
    assert context is not None
    assert shake_hands(context)[0].version() == "TLSv1.3"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_older_than_tls_1_2_is_refused(
    certs: Certificates, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 8996. Even with ciphers for it, and where Python is built to leave it to OpenSSL."""
    old, ciphers = ssl.TLSVersion[version], "ALL:@SECLEVEL=0"
    made = ssl.create_default_context

    def as_built_by_debian(*args: Any, **options: Any) -> ssl.SSLContext:
        context = made(*args, **options)
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        return context

    monkeypatch.setattr(ssl, "create_default_context", as_built_by_debian)
    context = tls_context(config_for(certs, ciphers=ciphers))
    assert context is not None
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol"):
        shake_hands(context, ciphers=ciphers, minimum_version=old, maximum_version=old)
    context.minimum_version = old
    ends = shake_hands(context, ciphers=ciphers, minimum_version=old, maximum_version=old)
    assert ends[0].version() == version.replace("_", ".")


def test_a_stricter_policy_of_the_machine_stays(
    certs: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSL's configuration may ask for more."""
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    monkeypatch.setattr(ssl, "create_default_context", lambda *_args, **_options: made)
    context = tls_context(config_for(certs))
    assert context is made
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_a_hook_chooses_its_versions_itself(certs: Certificates) -> None:
    """For the appliance in the cellar, say."""

    def hook(_config: object, factory: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        context = factory()
        context.minimum_version = ssl.TLSVersion.TLSv1
        return context

    context = tls_context(config_for(certs, ssl_context=hook))
    assert context is not None
    assert context.minimum_version == ssl.TLSVersion.TLSv1


def test_clients_cannot_renegotiate(certs: Certificates) -> None:
    """OpenSSL before 3.0 lets them (CVE-2011-1473)."""
    context = tls_context(config_for(certs))
    assert context is not None
    assert context.options & ssl.OP_NO_RENEGOTIATION


def test_nothing_is_compressed(certs: Certificates) -> None:
    """CVE-2012-4929; Python's own doing."""
    context = tls_context(config_for(certs))
    assert context is not None
    assert context.options & ssl.OP_NO_COMPRESSION


def test_the_ciphers_of_the_page_have_forward_secrecy_and_no_cbc(certs: Certificates) -> None:
    """docs/tls.md."""
    found = re.search(r'`ciphers = "([^"]+)"`', PAGE.read_text())
    assert found is not None
    context = tls_context(config_for(certs, ciphers=found[1]))
    assert context is not None
    names = [each["name"] for each in context.get_ciphers()]
    assert {name.partition("-")[0].partition("_")[0] for name in names} == {"ECDHE", "TLS"}
    assert all(re.search("GCM|POLY1305", name) for name in names)


def test_a_hook_knows_the_passphrase(certs: Certificates, tmp_path: Path) -> None:
    """Nobody is asked for it."""
    key = str(tmp_path / "key")
    openssl("rsa", "-in", certs.key("server"), "-aes128", "-passout", "pass:kit", "-out", key)

    def hook(conf: Config, _factory: object) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(conf.certfile, conf.keyfile, "kit")
        return context

    context = tls_context(config(certfile=certs.cert("server"), keyfile=key, ssl_context=hook))
    assert context is not None
    assert shown(shake_hands(context)[0]) == certs.pem("server")


# -- SNI: what belongs to the context of certfile, and what to the chosen one ----------------------


def sni(certs: Certificates, chosen: ssl.SSLContext, **values: object) -> ssl.SSLContext:
    """A context that chooses another for whatever name."""

    def hook(_config: object, factory: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        context = factory()
        context.sni_callback = lambda connection, _name, _context: setattr(
            connection, "context", chosen
        )
        return context

    made = tls_context(config_for(certs, ssl_context=hook, **values))
    assert made is not None
    chosen.load_cert_chain(certs.cert("other"), certs.key("other"))
    return made


def test_certificate_alpn_and_ciphers_are_those_of_the_chosen_context(certs: Certificates) -> None:
    chosen = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    chosen.set_ciphers("ECDHE+CHACHA20")
    context = sni(certs, chosen)
    ends = shake_hands(context, alpn=["http/1.1"], maximum_version=ssl.TLSVersion.TLSv1_2)
    assert shown(ends[0]) == certs.pem("other")
    assert ends[0].selected_alpn_protocol() is None
    assert (ends[0].cipher() or ("",))[0] == "ECDHE-RSA-CHACHA20-POLY1305"
    chosen.set_alpn_protocols(["http/1.1"])
    assert shake_hands(context, alpn=["http/1.1"])[0].selected_alpn_protocol() == "http/1.1"


def test_the_minimum_version_is_that_of_certfiles_context(certs: Certificates) -> None:
    chosen = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    chosen.minimum_version = ssl.TLSVersion.TLSv1_3
    ends = shake_hands(sni(certs, chosen), maximum_version=ssl.TLSVersion.TLSv1_2)
    assert ends[0].version() == "TLSv1.2"


def test_cert_reqs_is_that_of_certfiles_context_and_the_authorities_are_not(
    certs: Certificates,
) -> None:
    """So a chosen context needs ca_certs too, as that of docs/tls.md has them."""
    cert = (certs.cert("client"), certs.key("client"))
    contexts = []
    for cafile in (certs.cert("ca"), None):
        chosen = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=cafile)
        contexts.append(sni(certs, chosen, ca_certs=certs.cert("ca"), cert_reqs=2))
        with pytest.raises(ssl.SSLError, match=r"(?i)did not return a certificate"):
            shake_hands(contexts[-1])
    assert shown(shake_hands(contexts[0], cert=cert)[1]) == certs.pem("client")
    with pytest.raises(ssl.SSLError, match="verify failed"):
        shake_hands(contexts[1], cert=cert)


@pytest.mark.parametrize("value", [ssl.CERT_OPTIONAL, 2, "1"], ids=["enum", "int", "str"])
def test_cert_reqs_is_a_number_or_a_member(certs: Certificates, value: object) -> None:
    """In a config file, and on the command line."""
    context = tls_context(config_for(certs, ca_certs=certs.cert("ca"), cert_reqs=value))
    assert context is not None
    assert context.verify_mode == int(value)  # type: ignore[call-overload]


def test_cert_reqs_has_to_be_one_of_three(certs: Certificates, log: FakeLog) -> None:
    with pytest.raises(SettingError, match="TLS cannot be set up: ValueError"):
        check(config_for(certs, cert_reqs=3), log)


def test_no_authority_of_the_machine_is_believed(certs: Certificates) -> None:
    """cert_reqs without ca_certs: no client can satisfy it, not one with a bought certificate."""
    context = tls_context(config_for(certs, cert_reqs=2))
    assert context is not None
    assert context.cert_store_stats()["x509"] == 0
