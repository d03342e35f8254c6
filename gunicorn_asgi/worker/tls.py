"""TLS as Gunicorn's settings ask for it, and certificates that change while we serve.

The context is Gunicorn's (``sock.ssl_context``) and the ``ssl_context`` hook's. Ours is what
follows from serving HTTP/1.1 alone, and from TLS being for the open internet.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from pathlib import Path

from gunicorn import sock
from gunicorn.config import Config
from gunicorn.glogging import Logger

from gunicorn_asgi.aio.listener import Listener
from gunicorn_asgi.protocol.certificate import certificate_pem, not_after
from gunicorn_asgi.worker.settings import SettingError, Settings

__all__ = ["CertificateWatch", "check_tls", "equip", "tls_context"]

# A file as it was seen: time of change in ns, size, inode. None while there is none.
_Seen = dict[str, tuple[int, int, int] | None]


def check_tls(cfg: Config) -> None:
    """Runs in: master and command line. Build the TLS context, if there is to be one.

    One that cannot be built must stop the start, not end in plain HTTP on a TLS port.

    Raises:
        SettingError: it cannot be built.
    """
    try:
        tls_context(cfg)
    except Exception as exc:  # the ssl_context hook is the user's code
        raise SettingError(f"TLS cannot be set up: {type(exc).__name__}: {exc}") from exc


def tls_context(cfg: Config) -> ssl.SSLContext | None:
    """Runs in: master, worker. The context that Gunicorn's settings ask for; None without TLS.

    Whatever the hook has made of it, ALPN offers ``http/1.1`` (RFC 7301) and clients cannot
    renegotiate. Without a hook TLS 1.2 is the least (RFC 8996), on each Python: Debian's own
    leaves that to OpenSSL's configuration.

    Raises:
        Exception: whatever OpenSSL or the hook says.
    """
    if not cfg.is_ssl:
        return None
    context = sock.ssl_context(cfg)
    if not isinstance(context, ssl.SSLContext):
        raise TypeError(f"the ssl_context hook returned {context!r}, which is no SSLContext")
    if not _has_hook(cfg):
        context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
    # Each costs us a handshake and the client nothing; OpenSSL refuses them by itself from 3.0 on.
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    return context


def equip(
    cfg: Config, settings: Settings, listeners: Sequence[Listener], log: Logger
) -> CertificateWatch | None:
    """Runs in: worker. Give the listeners their context, if there is to be TLS.

    Returns:
        What has to look at the files, once a second; None without ``asgi_tls_reload``.

    Raises:
        Exception: as ``tls_context``.
    """
    if not cfg.is_ssl:
        return None
    certificates = CertificateWatch(cfg, listeners, log)
    return certificates if settings.values["asgi_tls_reload"] else None


class CertificateWatch:
    """Runs in: worker. Takes certfile, keyfile and ca_certs into use when they have changed.

    Only for new connections, and only as a whole: a context is built aside, in the loop, which
    takes about a millisecond, or 20 with a hundred authorities in ca_certs. If that fails, the
    one before stays, and nothing is tried before the files change again.
    """

    def __init__(self, cfg: Config, listeners: Sequence[Listener], log: Logger) -> None:
        """Give the listeners their first context.

        Raises:
            Exception: as ``tls_context``.
        """
        self._cfg = cfg
        self._listeners = listeners
        self._log = log
        self._paths = [path for path in (cfg.certfile, cfg.keyfile, cfg.ca_certs) if path]
        # Before the files are read: what changes in between is seen by the next look.
        self._used = self._tried = self._seen = self._stat()
        self._load()

    def look(self) -> None:
        """Runs in: worker. Act on what is not in use, once two looks have found it the same.

        Files are renewed one after another: between certificate and key the pair does not fit.
        """
        before, self._seen = self._seen, self._stat()
        if self._seen == self._used:
            self._tried = self._used
        elif self._seen == before and self._seen != self._tried:
            self._tried = self._seen
            self._renew()

    def _stat(self) -> _Seen:
        return {path: _look_at(path) for path in self._paths}

    def _renew(self) -> None:
        changed = ", ".join(path for path in self._paths if self._seen[path] != self._used[path])
        try:
            self._refuse_to_ask()
            until = self._load()
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - the hook is the user's code
            reason = f"{type(exc).__name__}: {exc}"
            self._log.error("Certificate not renewed, the old one stays: %s (%s)", reason, changed)
            return
        self._used = self._seen
        self._log.info("Certificate renewed: %s (valid until %s)", changed, until or "?")

    def _refuse_to_ask(self) -> None:
        """OpenSSL would ask the terminal for the passphrase, and the loop would wait for it."""
        if _has_hook(self._cfg):
            return  # which knows it, if there is one
        if b"ENCRYPTED" in Path(self._cfg.keyfile or self._cfg.certfile).read_bytes():
            raise ValueError("the key is encrypted")

    def _load(self) -> str | None:
        """Build a context and put it in use; all or nothing.

        Returns:
            The end of the certificate's validity, if it can be told.
        """
        context = tls_context(self._cfg)
        # A hook may take another certificate, or one for each name that a client asks for.
        pem = b"" if _has_hook(self._cfg) else Path(self._cfg.certfile).read_bytes()
        server_cert = certificate_pem(pem)
        for listener in self._listeners:
            listener.tls = context
            listener.server_cert = server_cert
        return not_after(pem)


def _look_at(path: str) -> tuple[int, int, int] | None:
    """Symbolic links are followed: certbot and Kubernetes exchange those."""
    try:
        found = os.stat(path)
    except OSError:
        return None  # if it stays away, the attempt to read it says why
    return found.st_mtime_ns, found.st_size, found.st_ino


def _has_hook(cfg: Config) -> bool:
    setting = cfg.settings["ssl_context"]
    return setting.get() is not type(setting)().get()
