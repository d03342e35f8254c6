"""Certificates that change while a worker serves."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from gunicorn.config import Config

from configs import forget_the_machine
from gunicorn_asgi.aio.listener import Listener
from gunicorn_asgi.worker.settings import Settings
from gunicorn_asgi.worker.tls import CertificateWatch, equip
from kit.fakes import FakeLog
from kit.tls import Certificates, openssl, shake_hands, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__: list[str] = []


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No word of the machine's, and no config file of another test."""
    forget_the_machine(monkeypatch)


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """One set for all tests."""
    made = Certificates(tmp_path_factory.mktemp("certs"))
    made.sign("second", days=60, rsa=True)
    made.sign("third", days=90)
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


def told(log: FakeLog) -> list[tuple[str, str]]:
    """Its lines, by level."""
    return [(level, text) for level, text, _ in log.records]


def certificate_of(context: ssl.SSLContext | None) -> str:
    """What a client gets to see."""
    assert context is not None
    return shown(shake_hands(context)[0])


class Served:
    """Listeners, and the files of their certificate in a directory of their own."""

    def __init__(self, certs: Certificates, path: Path, log: FakeLog, **values: object) -> None:
        self.certs = certs
        self.log = log
        self.cert, self.key = path / "tls.crt", path / "tls.key"
        certs.install("server", self.cert, self.key)
        self.cfg = config(certfile=str(self.cert), keyfile=str(self.key), **values)
        self.socks = [socket.socket(), socket.socket(socket.AF_UNIX)]
        self.listeners = [Listener(sock) for sock in self.socks]
        self.watch = self.equip()
        self.first = self.listeners[0].tls

    def equip(self) -> CertificateWatch | None:
        """As a worker does at the end of its boot."""
        return equip(self.cfg, Settings.resolve(self.cfg), self.listeners, self.log)

    @property
    def told(self) -> list[tuple[str, str]]:
        """The lines of the log."""
        return told(self.log)

    def look(self, times: int = 1) -> None:
        """So many beats."""
        assert self.watch is not None
        for _ in range(times):
            self.watch.look()

    def shows(self, name: str) -> bool:
        """Whether every listener shows that certificate, and says so."""
        pem = self.certs.pem(name)
        contexts = {listener.tls for listener in self.listeners}
        told = {listener.server_cert for listener in self.listeners}
        return len(contexts) == 1 and certificate_of(contexts.pop()) == pem and told == {pem}

    def untouched(self) -> bool:
        """Whether the very first context is in use."""
        return self.shows("server") and self.listeners[0].tls is self.first


@pytest.fixture
def served(certs: Certificates, tmp_path: Path, log: FakeLog) -> Iterator[Served]:
    """A worker that has booted."""
    made = Served(certs, tmp_path, log)
    assert made.untouched()
    yield made
    for sock in made.socks:
        sock.close()


def test_without_tls_nothing_is_watched(log: FakeLog) -> None:
    cfg = config()
    assert equip(cfg, Settings.resolve(cfg), [], log) is None


def test_the_setting_turns_the_watch_off(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The listeners have their certificate all the same."""
    monkeypatch.setenv("GUNICORN_ASGI_TLS_RELOAD", "no")
    assert served.equip() is None
    assert served.shows("server")


def test_what_does_not_change_is_not_read(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gunicorn_asgi.worker.tls.tls_context", None)
    served.look(5)
    assert served.untouched()
    assert served.told == []


def test_a_renewed_certificate_is_used_when_two_looks_have_seen_it(served: Served) -> None:
    """And told with the file and the end of its validity."""
    served.certs.install("second", served.cert, served.key)
    served.look()
    assert served.untouched()
    served.look()
    assert served.shows("second")
    end = openssl("x509", "-in", str(served.cert), "-noout", "-enddate", "-dateopt", "iso_8601")
    until = end.decode().partition("=")[2].strip().replace("Z", " UTC")
    line = f"Certificate renewed: {served.cert}, {served.key} (valid until {until})"
    assert served.told == [("info", line)]
    served.look(5)
    assert len(served.told) == 1


def test_files_that_are_renewed_one_after_another_are_one_renewal(served: Served) -> None:
    """With the key of the one and the certificate of the other nothing could be served."""
    shutil.copyfile(served.certs.cert("second"), served.cert)
    served.look()
    shutil.copyfile(served.certs.key("second"), served.key)
    served.look()
    assert served.untouched()
    served.look()
    assert served.shows("second")
    assert [level for level, _ in served.told] == ["info"]


def test_a_renewal_that_does_not_fit_is_told_once_and_the_old_one_stays(served: Served) -> None:
    shutil.copyfile(served.certs.cert("second"), served.cert)
    served.look(5)
    assert served.untouched()
    ((level, line),) = served.told
    assert level == "error"
    assert line.startswith("Certificate not renewed, the old one stays: SSLError: ")
    assert "key values mismatch" in line.lower().replace("_", " ")
    assert line.endswith(f"({served.cert})")


def test_after_a_failure_the_next_change_is_tried(served: Served) -> None:
    """Another failure is told again, with its own reason; what fits is taken."""
    shutil.copyfile(served.certs.cert("second"), served.cert)
    served.look(3)
    served.key.write_text(Path(served.certs.key("second")).read_text()[:100])
    served.look(3)
    shutil.copyfile(served.certs.key("second"), served.key)
    served.look(3)
    assert served.shows("second")
    assert [level for level, _ in served.told] == ["error", "error", "info"]
    assert str(served.cert) in served.told[2][1]


def test_back_to_what_is_in_use_is_no_renewal(served: Served, tmp_path: Path) -> None:
    """Somebody has taken a mistake back; to make the very same again is told again."""
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    shutil.copyfile(served.certs.cert("second"), wrong)
    for _ in range(2):
        served.cert.rename(right)
        wrong.rename(served.cert)
        served.look(2)
        served.cert.rename(wrong)
        right.rename(served.cert)
        served.look(3)
    assert served.untouched()
    assert [level for level, _ in served.told] == ["error", "error"]


def test_the_certificate_before_the_last_may_come_back(served: Served, tmp_path: Path) -> None:
    """With the time of change that it had: what counts is what is in use."""
    files = [served.cert, served.key]
    for file in files:
        os.link(file, tmp_path / f"{file.name}.before")
    served.certs.install("second", *files)
    served.look(2)
    assert served.shows("second")
    for file in files:
        (tmp_path / f"{file.name}.before").replace(file)
    served.look(2)
    assert served.shows("server")
    assert [level for level, _ in served.told] == ["info", "info"]


def test_a_file_that_vanishes_for_a_moment_is_no_error(served: Served, tmp_path: Path) -> None:
    served.key.rename(tmp_path / "away")
    served.look()
    (tmp_path / "away").rename(served.key)
    served.look(3)
    assert served.untouched()
    assert served.told == []


def test_a_file_that_stays_away_is_an_error(served: Served) -> None:
    """Which file it is, OpenSSL would not say."""
    served.key.unlink()
    served.look(5)
    assert served.untouched()
    ((level, line),) = served.told
    assert (level, str(served.key) in line) == ("error", True)
    assert "FileNotFoundError" in line


def test_a_symbolic_link_is_followed(certs: Certificates, tmp_path: Path, log: FakeLog) -> None:
    """Kubernetes: ``..data`` is a link to a directory, and is exchanged in one step."""
    for name in ("server", "second"):
        (tmp_path / f"..{name}").mkdir()
        certs.install(name, tmp_path / f"..{name}/tls.crt", tmp_path / f"..{name}/tls.key")
        # The size and the time of change are the same: the inode tells them apart.
        for file in (tmp_path / f"..{name}").iterdir():
            file.write_bytes(file.read_bytes().ljust(8000, b"\n"))
            os.utime(file, ns=(0, 0))
    (tmp_path / "..data").symlink_to("..server")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    cfg = config(certfile=str(tmp_path / "tls.crt"), keyfile=str(tmp_path / "tls.key"))
    with socket.socket() as sock:
        listener = Listener(sock)
        watch = CertificateWatch(cfg, [listener], log)
        assert certificate_of(listener.tls) == certs.pem("server")
        (tmp_path / "..fresh").symlink_to("..second")
        (tmp_path / "..fresh").replace(tmp_path / "..data")
        watch.look()
        watch.look()
        assert certificate_of(listener.tls) == listener.server_cert == certs.pem("second")


def test_one_file_for_both_is_watched(certs: Certificates, tmp_path: Path, log: FakeLog) -> None:
    """certfile alone, with the key in it."""
    path = tmp_path / "both.pem"

    def write(name: str) -> None:
        path.write_text(Path(certs.key(name)).read_text() + Path(certs.cert(name)).read_text())

    write("server")
    with socket.socket() as sock:
        listener = Listener(sock)
        watch = CertificateWatch(config(certfile=str(path)), [listener], log)
        write("third")
        watch.look()
        watch.look()
        assert certificate_of(listener.tls) == listener.server_cert == certs.pem("third")


def test_a_new_authority_is_believed(certs: Certificates, tmp_path: Path, log: FakeLog) -> None:
    """ca_certs is watched like the others."""
    path = tmp_path / "ca.pem"
    shutil.copyfile(certs.cert("ca"), path)
    with socket.socket() as sock:
        listener = Listener(sock)
        cfg = config_for(certs, ca_certs=str(path), cert_reqs=2)
        watch = CertificateWatch(cfg, [listener], log)
        path.write_text(certs.pem("ca") + certs.pem("server"))
        watch.look()
        watch.look()
        assert listener.tls is not None
        assert listener.tls.cert_store_stats()["x509"] == 2
    end = "(valid until"
    assert [line.partition(end)[0] for _, line in told(log)] == [f"Certificate renewed: {path} "]


def test_a_session_of_before_is_not_resumed(served: Served) -> None:
    """An authority that is believed no more would otherwise be believed in it."""
    peer = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def resumes(session: ssl.SSLSession | None) -> ssl.SSLObject:
        context = served.listeners[0].tls
        assert context is not None
        tls12 = ssl.TLSVersion.TLSv1_2
        return shake_hands(context, peer=peer, session=session, maximum_version=tls12)[0]

    first = resumes(None)
    assert resumes(first.session).session_reused
    served.certs.install("second", served.cert, served.key)
    served.look(2)
    assert not resumes(first.session).session_reused


def test_what_changes_while_it_is_first_read_is_seen(
    certs: Certificates, tmp_path: Path, log: FakeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The boot of a worker may meet a renewal: it is half old and half new then."""
    made = ssl.create_default_context

    def slowly(*args: Any, **options: Any) -> ssl.SSLContext:
        monkeypatch.undo()
        context = made(*args, **options)
        context.load_cert_chain(certs.cert("server"), certs.key("server"))
        certs.install("second", tmp_path / "tls.crt", tmp_path / "tls.key")
        return context

    monkeypatch.setattr(ssl, "create_default_context", slowly)
    served = Served(certs, tmp_path, log)
    served.look(2)
    assert served.shows("second")
    assert [level for level, _ in told(log)] == ["info"]
    for sock in served.socks:
        sock.close()


def test_an_encrypted_key_is_refused_instead_of_asked_about(served: Served) -> None:
    """OpenSSL would ask the terminal, and the whole worker would wait for an answer."""
    source = ("-in", served.certs.key("second"), "-passout", "pass:kit", "-aes128")
    openssl("pkcs8", "-topk8", *source[:4], "-v2", "aes128", "-out", str(served.key))
    served.look(3)
    assert served.untouched()
    ((level, line),) = served.told
    assert (level, "the key is encrypted" in line) == ("error", True)


# -- the watch and the hook ------------------------------------------------------------------------


def test_the_hook_makes_the_new_context_too(
    certs: Certificates, tmp_path: Path, log: FakeLog
) -> None:
    """Which certificate it shows is not known: it may choose one for each name."""
    names = ["server", "second"]

    def hook(_config: object, factory: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        context = factory()
        name = names.pop(0)
        context.load_cert_chain(certs.cert(name), certs.key(name))
        return context

    served = Served(certs, tmp_path, log, ssl_context=hook)
    certs.install("third", served.cert, served.key)
    served.look(2)
    assert names == []
    assert {listener.server_cert for listener in served.listeners} == {None}
    for listener, sock in zip(served.listeners, served.socks, strict=True):
        assert listener.tls is not served.first
        sock.close()


@pytest.mark.parametrize("raised", [LookupError("closed"), SystemExit(3)], ids=["error", "exit"])
def test_a_hook_that_fails_later_on_takes_nothing_down(
    certs: Certificates, tmp_path: Path, log: FakeLog, raised: BaseException
) -> None:
    """Not even if it wants to end the process."""
    calls: list[object] = []

    def hook(_config: object, factory: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        calls.append(None)
        if len(calls) > 1:
            raise raised
        return factory()

    served = Served(certs, tmp_path, log, ssl_context=hook)
    certs.install("second", served.cert, served.key)
    served.look(3)
    assert {listener.tls for listener in served.listeners} == {served.first}
    ((level, line),) = told(log)
    assert (level, repr(type(raised).__name__)[1:-1] in line) == ("error", True)
    for sock in served.socks:
        sock.close()


def test_a_hook_may_do_without_certfile(tmp_path: Path, log: FakeLog) -> None:
    """It only turns TLS on then; should the file come, that is a change like any other."""
    contexts: list[ssl.SSLContext] = []

    def hook(_config: object, _factory: object) -> ssl.SSLContext:
        contexts.append(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        return contexts[-1]

    path = tmp_path / "none.pem"
    with socket.socket() as sock:
        listener = Listener(sock)
        watch = CertificateWatch(config(certfile=str(path), ssl_context=hook), [listener], log)
        watch.look()
        watch.look()
        assert listener.tls is contexts[0]
        path.touch()
        watch.look()
        watch.look()
        assert listener.tls is contexts[1]


def test_a_hundred_renewals_leave_nothing_behind(served: Served) -> None:
    """Neither contexts nor descriptors."""
    fds = len(os.listdir("/proc/self/fd"))
    served.first = None
    contexts = []
    for _ in range(50):
        for name in ("second", "third"):
            served.certs.install(name, served.cert, served.key)
            served.look(2)
            contexts.append(weakref.ref(served.listeners[0].tls))
    assert served.shows("third")
    assert len(served.told) == 100
    assert len(os.listdir("/proc/self/fd")) == fds
    assert [each() is not None for each in contexts] == [False] * 99 + [True]
