"""Values other than the default, as a config file has them, by what becomes of the setting."""

from __future__ import annotations

__all__ = ["CONTRADICTIONS", "HONOURED_VALUES", "OTHER_VALUES", "REFUSED_VALUES"]

# Each setting that is not honoured.
OTHER_VALUES: dict[str, object] = {
    "casefold_http_method": True,
    "do_handshake_on_connect": True,
    "http2_initial_window_size": 70000,
    "http2_max_concurrent_streams": 50,
    "http2_max_frame_size": 20000,
    "http2_max_header_list_size": 1000,
    "permit_obsolete_folding": True,
    "permit_unconventional_http_method": True,
    "permit_unconventional_http_version": True,
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
)

# What one could take for WSGI's business, or the proxy's: nothing is said of it, it counts.
HONOURED_VALUES: dict[str, object] = {
    "forwarded_allow_ips": "192.0.2.1",
    "forwarder_headers": "SCRIPT_NAME",
    "header_map": "refuse",
    "limit_request_field_size": 4000,
    "limit_request_fields": 50,
    "limit_request_line": 4000,
    "proxy_allow_ips": "192.0.2.1",
    "proxy_protocol": True,
    "secure_scheme_headers": {"X-FORWARDED-PROTO": "https"},
    "sendfile": False,
}

# Settings of ours that cannot be meant together: which one is named, and all of them.
CONTRADICTIONS: tuple[tuple[str, dict[str, object]], ...] = (
    ("asgi_proxy_protocol_required", {"asgi_proxy_protocol_required": True}),
    (
        "asgi_request_id_response",
        {"asgi_request_id_response": True, "asgi_request_id_field": ""},
    ),
    ("asgi_term_delay", {"asgi_term_delay": 30, "graceful_timeout": 30}),
)
