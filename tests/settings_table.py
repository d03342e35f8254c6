"""A value other than the default for each setting that is not honoured, as a config file has it."""

from __future__ import annotations

__all__ = ["OTHER_VALUES", "REFUSED_VALUES"]

OTHER_VALUES: dict[str, object] = {
    "casefold_http_method": True,
    "do_handshake_on_connect": True,
    "forwarded_allow_ips": "192.0.2.1",
    "forwarder_headers": "SCRIPT_NAME",
    "header_map": "refuse",
    "http2_initial_window_size": 70000,
    "http2_max_concurrent_streams": 50,
    "http2_max_frame_size": 20000,
    "http2_max_header_list_size": 1000,
    "permit_obsolete_folding": True,
    "permit_unconventional_http_method": True,
    "permit_unconventional_http_version": True,
    "proxy_allow_ips": "192.0.2.1",
    "secure_scheme_headers": {"X-FORWARDED-PROTO": "https"},
    "sendfile": False,
    "ssl_version": 5,
    "strip_header_spaces": True,
    "suppress_ragged_eofs": False,
    "threads": 4,
    "tmp_upload_dir": "/",
    "uwsgi_allow_ips": "192.0.2.1",
}

# Each value that check() refuses, and since which Gunicorn the setting takes it.
REFUSED_VALUES: tuple[tuple[str, object, int], ...] = (
    ("http_parser", "python", 25),
    ("http_protocols", "h2", 25),
    ("http_protocols", "h2,h1", 25),
    ("http2_cleartext", "upgrade", 26),
    ("protocol", "uwsgi", 25),
    ("proxy_protocol", True, 0),
    ("proxy_protocol", "v2", 25),
)
