"""The flags and settings of other servers, as their ``--help`` and their classes have them.

docs/migrating.md has a row for each. To renew a list: run the newer program's ``--help``, take the
differences over, and raise the version here and on the page.
"""

from __future__ import annotations

__all__ = ["FLAGS", "HYPERCORN_SETTINGS", "UVICORN_KWARGS", "VERSIONS"]

VERSIONS: dict[str, str] = {
    "uvicorn": "0.54.0",
    "hypercorn": "0.18.0",
    "daphne": "4.2.3",
    "granian": "2.8.7",
}

FLAGS: dict[str, frozenset[str]] = {
    "uvicorn": frozenset(
        """
        --access-log --app-dir --backlog --date-header --env-file --factory --fd
        --forwarded-allow-ips --h11-max-incomplete-event-size --header --help --host --http --http2
        --interface --lifespan --limit-concurrency --limit-max-requests --limit-max-requests-jitter
        --log-config --log-level --loop --no-access-log --no-date-header --no-proxy-headers
        --no-server-header --no-use-colors --port --proxy-headers --reload --reload-delay
        --reload-dir --reload-exclude --reload-include --reset-contextvars --root-path
        --server-header --ssl-ca-certs --ssl-cert-reqs --ssl-certfile --ssl-ciphers --ssl-keyfile
        --ssl-keyfile-password --ssl-version --timeout-graceful-shutdown --timeout-keep-alive
        --timeout-worker-healthcheck --uds --use-colors --version --workers --ws --ws-max-queue
        --ws-max-size --ws-per-message-deflate --ws-ping-interval --ws-ping-timeout
        """.split()
    ),
    "hypercorn": frozenset(
        """
        --access-log --access-logfile --access-logformat --backlog --bind --ca-certs --cert-reqs
        --certfile --ciphers --config --daemon --debug --error-log --error-logfile
        --graceful-timeout --group --help --insecure-bind --keep-alive --keyfile --keyfile-password
        --log-config --log-file --log-level --max-requests --max-requests-jitter --pid --quic-bind
        --read-timeout --reload --root-path --server-name --statsd-host --statsd-prefix --umask
        --user --verify-mode --websocket-ping-interval --worker-class --workers -D -b -c -g -h -k -m
        -p -u -w
        """.split()
    ),
    "daphne": frozenset(
        """
        --access-log --application-close-timeout --bind --endpoint --fd --help --http-timeout
        --log-fmt --no-server-name --ping-interval --ping-timeout --port --proxy-headers
        --proxy-headers-host --proxy-headers-port --root-path --server-name --unix-socket
        --verbosity --websocket-max-frame-size --websocket-max-message-size
        --websocket_connect_timeout --websocket_timeout -b -e -h -p -s -t -u -v
        """.split()
    ),
    "granian": frozenset(
        """
        --access-log --access-log-fmt --backlog --backpressure --blocking-threads
        --blocking-threads-idle-timeout --env-files --factory --help --host --http
        --http1-buffer-size --http1-header-read-timeout --http1-keep-alive --http1-pipeline-flush
        --http2-adaptive-window --http2-initial-connection-window-size
        --http2-initial-stream-window-size --http2-keep-alive-interval --http2-keep-alive-timeout
        --http2-max-concurrent-streams --http2-max-frame-size --http2-max-headers-size
        --http2-max-send-buffer-size --interface --log --log-config --log-level --loop --metrics
        --metrics-address --metrics-port --metrics-scrape-interval --no-access-log --no-factory
        --no-http1-keep-alive --no-http1-pipeline-flush --no-http2-adaptive-window --no-log
        --no-metrics --no-reload --no-reload-ignore-worker-failure --no-respawn-failed-workers
        --no-ssl-client-verify --no-ws --pid-file --port --process-name --reload
        --reload-ignore-dirs --reload-ignore-paths --reload-ignore-patterns
        --reload-ignore-worker-failure --reload-paths --reload-tick --respawn-failed-workers
        --respawn-interval --rss-sample-interval --rss-samples --runtime-blocking-threads
        --runtime-mode --runtime-threads --ssl-ca --ssl-certificate --ssl-client-verify --ssl-crl
        --ssl-keyfile --ssl-keyfile-password --ssl-protocol-min --static-path-dir-to-file
        --static-path-expires --static-path-mount --static-path-route --task-impl --uds
        --uds-permissions --url-path-prefix --version --workers --workers-kill-timeout
        --workers-lifetime --workers-max-rss --working-dir --ws
        """.split()
    ),
}

# Of uvicorn.Config, which CONFIG_KWARGS of a UvicornWorker are given to.
UVICORN_KWARGS: frozenset[str] = frozenset(
    """
    access_log app backlog callback_notify date_header env_file factory fd forwarded_allow_ips
    h11_max_incomplete_event_size headers host http http2 interface lifespan limit_concurrency
    limit_max_requests limit_max_requests_jitter log_config log_level loop port proxy_headers reload
    reload_delay reload_dirs reload_excludes reload_includes reset_contextvars root_path
    server_header ssl_ca_certs ssl_cert_reqs ssl_certfile ssl_ciphers ssl_context_factory
    ssl_keyfile ssl_keyfile_password ssl_version timeout_graceful_shutdown timeout_keep_alive
    timeout_notify timeout_worker_healthcheck uds use_colors workers ws ws_max_queue ws_max_size
    ws_per_message_deflate ws_ping_interval ws_ping_timeout
    """.split()
)

# Of hypercorn.Config, but for those that are named as a flag is.
HYPERCORN_SETTINGS: frozenset[str] = frozenset(
    """
    access_log_format accesslog alpn_protocols alt_svc_headers application_path dogstatsd_tags
    errorlog h11_max_incomplete_size h11_pass_raw_headers h2_max_concurrent_streams
    h2_max_header_list_size h2_max_inbound_frame_size include_date_header include_server_header
    keep_alive_max_requests keep_alive_timeout logconfig logconfig_dict logger_class loglevel
    max_app_queue_size pid_path server_names shutdown_timeout ssl_handshake_timeout startup_timeout
    use_reloader verify_flags websocket_max_message_size wsgi_max_body_size
    """.split()
)
