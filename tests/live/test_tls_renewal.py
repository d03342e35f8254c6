"""A certificate that is renewed is noticed by nobody but those who look at it.

What certbot, cert-manager or a person with ``cp`` does to the files is all that is done: nobody is
told, and nothing is restarted.
"""

from __future__ import annotations

import shutil
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kit.load import Load, source
from kit.master import Master
from kit.tls import Certificates, client, shown
from kit.wire import Wire

if TYPE_CHECKING:
    import socket

__all__: list[str] = []

RENEWED = (
    r"\[INFO\] Certificate renewed: \S+, \S+ \(valid until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\)"
)
NOT_RENEWED = r"\[ERROR\] Certificate not renewed, the old one stays: "


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """One set for all tests: four that a client of localhost trusts."""
    made = Certificates(tmp_path_factory.mktemp("certs"))
    for name in ("second", "third"):
        made.sign(name, rsa=True)
    return made


class Site:
    """The files of a server's certificate, and the command line for them."""

    def __init__(self, certs: Certificates, path: Path) -> None:
        self.certs = certs
        self.cert, self.key = path / "tls.crt", path / "tls.key"
        self.args = ("--certfile", str(self.cert), "--keyfile", str(self.key), "--keep-alive", "10")
        self.install("server")

    def install(self, name: str) -> None:
        """Put that certificate and its key there."""
        self.certs.install(name, self.cert, self.key)

    def shows(self, master: Master, name: str) -> bool:
        """Whether a new connection gets to see that one, and is served."""
        with Wire(master.connect(tls=client(self.certs))) as wire:
            assert isinstance(wire.sock, ssl.SSLSocket)
            assert wire.request("GET", "/").status == 200
            return shown(wire.sock) == self.certs.pem(name)


@pytest.fixture
def site(certs: Certificates, tmp_path: Path) -> Site:
    """With the certificate "server"."""
    return Site(certs, tmp_path)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_renewed_certificate_is_picked_up_under_load(
    site: Site, certs: Certificates, loop: str
) -> None:
    """Twice; no request fails, no connection is closed, and every new one shows the new one."""
    context = client(certs)
    env = {"GUNICORN_ASGI_LOOP": loop}
    files = {"app.py": source("ok")}
    with Master("app:app", *site.args, workers=2, files=files, env=env) as master:
        pids = master.workers()

        def connect(timeout: float) -> socket.socket:
            return master.connect(timeout, tls=context)

        with Wire(connect(20)) as kept, Load(connect) as load:
            assert isinstance(kept.sock, ssl.SSLSocket)
            load.wait(20)
            for name in ("second", "third"):
                mark = master.mark()
                site.install(name)
                master.wait_log(RENEWED, 20, after=mark, count=2)
                assert all(site.shows(master, name) for _ in range(10))
                load.wait(50)
            assert kept.request("GET", "/").status == 200
            assert shown(kept.sock) == certs.pem("server")
        load.check()
        assert not load.reconnects
        assert master.workers() == pids
        log = master.log()
        assert not [word for word in ("Traceback", "[ERROR]", "[WARNING]") if word in log], log


def test_a_broken_renewal_keeps_the_old_certificate_and_says_so(
    site: Site, certs: Certificates
) -> None:
    """Once for each change; what fits at last is taken."""
    with Master("app:app", *site.args, files={"app.py": source("ok")}) as master:
        mark = master.mark()
        shutil.copyfile(certs.key("foreign"), site.key)
        master.wait_log(NOT_RENEWED + rf"SSLError: .*\({site.key}\)$", 20, after=mark)
        assert site.shows(master, "server")
        mark = master.mark()
        site.cert.write_text(Path(certs.cert("second")).read_text()[:500])
        master.wait_log(NOT_RENEWED + rf"SSLError: .*\({site.cert}, {site.key}\)$", 20, after=mark)
        assert site.shows(master, "server")
        mark = master.mark()
        site.key.unlink()
        master.wait_log(NOT_RENEWED + "FileNotFoundError: ", 20, after=mark)
        assert site.shows(master, "server")
        mark = master.mark()
        site.install("second")
        master.wait_log(RENEWED, 20, after=mark)
        assert site.shows(master, "second")
        log = master.log()
        assert (log.count("[ERROR]"), log.count("[WARNING]")) == (3, 0), log


def test_a_new_worker_has_the_certificate_of_its_time(site: Site) -> None:
    """Whatever the others have found: a worker reads the files when it boots."""
    options = (*site.args, "--env", "GUNICORN_ASGI_TLS_RELOAD=off")
    with Master("app:app", *options, files={"app.py": source("ok")}) as master:
        (old,) = master.workers()
        site.install("second")
        mark = master.mark()
        master.kill_worker(old)
        master.wait_log("Worker ready", after=mark)
        assert site.shows(master, "second")
        assert "Certificate" not in master.log()
