"""``run`` and ``check`` without processes: our settings as flags, and what is an application."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gunicorn import config
from gunicorn.config import Config

from gunicorn_asgi.worker.command.check import complaint_about
from gunicorn_asgi.worker.command.run import Launcher, flag, register
from gunicorn_asgi.worker.definitions import DEFINITIONS
from gunicorn_asgi.worker.loading import misfit
from gunicorn_asgi.worker.settings import Settings

__all__: list[str] = []

NAMES = [definition.name for definition in DEFINITIONS]


# -- run: our settings as Gunicorn's ---------------------------------------------------------------


@pytest.fixture
def conf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty config file of a Gunicorn that knows us; afterwards all is as it was."""
    known = list(config.KNOWN_SETTINGS)
    for definition in DEFINITIONS:
        monkeypatch.delenv(definition.variable, raising=False)
    monkeypatch.delenv("GUNICORN_CMD_ARGS", raising=False)
    monkeypatch.delitem(sys.modules, "__config__", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    register()
    path = tmp_path / "conf.py"
    path.touch()
    yield path
    config.KNOWN_SETTINGS[:] = known
    sys.modules.pop("__config__", None)


def launch(conf: Path, *arguments: str) -> Launcher:
    """Load a configuration."""
    return Launcher("prog", ["-c", str(conf), *arguments])


def value(name: str, conf: Path, *arguments: str) -> object:
    """What our code reads after these arguments."""
    return Settings.resolve(launch(conf, *arguments, "app:app").cfg).values[name]


OTHER = {
    "asgi_loop": ("asyncio", "asyncio"),
    "asgi_lifespan": ("off", "off"),
    "asgi_disconnect_grace_period": ("7", 7),  # Gunicorn's own takes whole seconds
    "websocket_max_message_size": ("4096", 4096),
    "asgi_ws_ping_interval": ("0", 0.0),
    "asgi_ws_ping_timeout": ("7.5", 7.5),
    "asgi_ws_deflate_level": ("1", 1),
    "asgi_ws_deflate_window": ("15", 15),
    "asgi_ws_deflate_minimum": ("1024", 1024),
    "root_path": ("/api", "/api"),
    "asgi_drain_linger": ("1.5", 1.5),
    "asgi_boot_timeout": ("9", 9.0),
    "asgi_ready_check": ("/healthz", "/healthz"),
    "asgi_reload_guard": ("off", False),
    "asgi_term_delay": ("2", 2.0),
    "asgi_max_rss": ("1000000", 1_000_000),
    "asgi_max_age": ("3600", 3600.0),
    "asgi_limit_request_body": ("1048576", 1_048_576),
    "asgi_first_byte_timeout": ("5", 5.0),
    "asgi_request_head_timeout": ("6", 6.0),
    "asgi_body_timeout": ("7", 7.0),
    "asgi_write_timeout": ("8", 8.0),
    "asgi_min_data_rate": ("100", 100),
    "asgi_linger_timeout": ("0", 0.0),
    "asgi_request_timeout": ("30", 30.0),
    "asgi_tls_handshake_timeout": ("4", 4.0),
    "asgi_shed_requests": ("500", 500),
    "asgi_shed_lag": ("0.5", 0.5),
    "asgi_forwarded_fields": (
        "x-forwarded-host,X-Forwarded-Port",
        ("x-forwarded-host", "x-forwarded-port"),
    ),
    "asgi_proxy_protocol_required": ("yes", True),
    "asgi_request_id_field": ("X-Correlation-ID", "x-correlation-id"),
    "asgi_request_id_response": ("true", True),
    "asgi_tls_reload": ("no", False),
    "asgi_stall_warning": ("2.5", 2.5),
    "asgi_metrics": ("no", False),
    "asgi_open_requests": ("no", False),
    "asgi_status_bind": ("unix:/run/status.sock", "unix:/run/status.sock"),
    "asgi_status_allow": ("10.0.0.0/8,::1", ("10.0.0.0/8", "::1")),
}
# What has to stand in the config file beside a value: some make no sense alone.
BESIDE = {"asgi_proxy_protocol_required": "proxy_protocol = True\n"}


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_of_ours_is_a_flag(conf: Path, name: str) -> None:
    """Whether this Gunicorn has it by itself or not."""
    text, expected = OTHER[name]
    conf.write_text(BESIDE.get(name, ""))
    assert value(name, conf, flag(name), text) == expected
    assert value(name, conf) != expected


@pytest.mark.parametrize("name", NAMES)
def test_the_config_file_sets_them_too(conf: Path, name: str) -> None:
    """On the way that Gunicorn's own settings take; the flag wins over it, as with those."""
    _, expected = OTHER[name]
    conf.write_text(f"{BESIDE.get(name, '')}{name} = {expected!r}\n")
    assert value(name, conf) == expected


def test_a_flag_wins_over_the_config_file(conf: Path) -> None:
    conf.write_text("asgi_drain_linger = 9\n")
    assert value("asgi_drain_linger", conf, "--asgi-drain-linger", "4") == 4.0


def test_the_environment_wins_over_a_flag(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/settings.md says of every setting of ours."""
    monkeypatch.setenv("GUNICORN_ASGI_DRAIN_LINGER", "3")
    assert value("asgi_drain_linger", conf, "--asgi-drain-linger", "4") == 3.0


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("asgi_max_")])
def test_a_setting_is_in_the_help_and_in_print_config(
    conf: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        launch(conf, "--help")
    assert caught.value.code == 0
    help_text = capsys.readouterr().out
    assert flag(name) in help_text
    assert "[gunicorn_asgi.Worker]" in help_text
    assert re.search(rf"^{name} +=", str(launch(conf, "app:app").cfg), re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        (["--asgi-drain-linger", "soon"], ""),
        ([], "asgi_drain_linger = 'soon'\n"),
        (["--asgi-ready-check", "healthz"], ""),
    ],
)
def test_a_bad_value_is_refused_as_gunicorn_refuses_its_own(
    conf: Path, arguments: list[str], file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Error: ..., and exit status 1; the name, the value and what would be allowed."""
    conf.write_text(file)
    with pytest.raises(SystemExit) as caught:
        launch(conf, *arguments, "app:app")
    assert caught.value.code == 1
    pattern = (
        r"\nError: asgi_(drain_linger is 'soon'|ready_check is 'healthz'), which is not a .+\n"
    )
    assert re.search(pattern, capsys.readouterr().err)


PLACEHOLDERS = [
    ("asgi_loop", "STRING"),
    ("asgi_body_timeout", "SECONDS"),
    ("asgi_max_rss", "BYTES"),
    ("asgi_shed_requests", "COUNT"),
    ("asgi_min_data_rate", "RATE"),
    ("asgi_forwarded_fields", "LIST"),
    ("asgi_tls_reload", "BOOL"),
    ("asgi_request_id_field", "STRING"),
    ("asgi_status_allow", "LIST"),
    ("asgi_status_bind", "ADDRESS"),
]


@pytest.mark.parametrize(("name", "placeholder"), PLACEHOLDERS)
def test_the_help_says_what_kind_of_value_a_flag_takes(name: str, placeholder: str) -> None:
    (found,) = (each.placeholder for each in DEFINITIONS if each.name == name)
    assert found == placeholder


@pytest.mark.usefixtures("conf")
def test_registering_again_adds_nothing() -> None:
    """A name that is defined twice would be an argparse conflict."""
    before = len(config.KNOWN_SETTINGS)
    register()
    assert len(config.KNOWN_SETTINGS) == before
    names = [setting.name for setting in config.KNOWN_SETTINGS]
    assert len(names) == len(set(names))
    assert set(NAMES) <= set(names)


@pytest.mark.usefixtures("conf")
def test_defaults_are_ours_where_gunicorn_has_none() -> None:
    cfg = Config()
    for definition in DEFINITIONS:
        setting = cfg.settings[definition.name]
        if setting.section == "gunicorn_asgi":
            assert setting.get() == definition.default


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [([], "gunicorn_asgi.Worker"), (["-k", "other.Worker"], "other.Worker")],
)
def test_our_worker_is_the_default_and_no_more_than_that(
    conf: Path, arguments: list[str], expected: str
) -> None:
    assert launch(conf, *arguments, "app:app").cfg.worker_class_str == expected


def test_arguments_are_read_again_at_a_reload_and_sys_argv_is_left_alone(
    conf: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """arbiter.py: USR2 executes sys.argv. HUP has Gunicorn's parser read it, too."""
    whole = ["-m", "gunicorn_asgi", "run", "--what", "ever"]
    monkeypatch.setattr(sys, "argv", whole)
    app = launch(conf, "-w", "3", "--asgi-drain-linger", "4", "app:app")
    app.reload()
    assert (app.cfg.workers, app.cfg.asgi_drain_linger, app.app_uri) == (3, 4.0, "app:app")
    assert sys.argv is whole
    assert whole == ["-m", "gunicorn_asgi", "run", "--what", "ever"]


@pytest.mark.usefixtures("conf")
@pytest.mark.parametrize(
    ("arguments", "suggested"),
    [
        (["--asgi-drain-lingre", "1"], "unknown flag --asgi-drain-lingre: did you mean --asgi-dra"),
        (["--wokers=2"], "unknown flag --wokers: did you mean --workers?"),
        (["--qqqqqqqqqqqq"], ""),
        (["--worker-c", "x.Y", "--backlog", "many"], ""),
    ],
)
def test_a_misspelt_flag_is_told_with_a_suggestion(
    conf: Path, arguments: list[str], suggested: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """After the parser's own words, where there is one near."""
    with pytest.raises(SystemExit) as caught:
        launch(conf, *arguments, "app:app")
    assert caught.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert suggested in last
    assert ("did you mean" in last) is bool(suggested)


# -- check -----------------------------------------------------------------------------------------


class Application:
    """As frameworks have it."""

    async def __call__(self, scope: object, receive: object, send: object) -> None:
        """Answer."""


async def function(scope: object, receive: object, send: object) -> None: ...
async def open_function(*args: object) -> None: ...
async def with_default(scope: object, receive: object, send: object, more: int = 1) -> None: ...
async def of_two(scope: object, receive: object) -> None: ...
async def of_none() -> None: ...
def asgi2(scope: object) -> None: ...


@functools.wraps(of_none)
async def wrapped(*args: object) -> None: ...


class NotAtAll:
    """Called for something else."""

    def __call__(self) -> None: ...


@pytest.mark.parametrize(
    "app", [Application(), function, open_function, with_default, type, asgi2, wrapped]
)
def test_what_may_be_an_asgi_application_is_left_in_peace(app: Callable[..., object]) -> None:
    """And those of ASGI 2, and what does not tell: many things made in C have no signature."""
    assert complaint_about(app) == ""


@pytest.mark.parametrize(
    ("app", "shown"),
    [
        (of_two, r"of_two\(scope: .*\)"),
        (of_none, r"of_none\(\)"),
        (NotAtAll(), r"NotAtAll\(\)"),
    ],
)
def test_what_cannot_be_an_asgi_application_is_told(app: Callable[..., object], shown: str) -> None:
    """What a worker does not refuse, since it might be no mistake: loading.misfit."""
    complaint = complaint_about(app)
    assert re.fullmatch(shown + r".* does not take \(scope, receive, send\)", complaint)
    assert misfit(app, "app:app") == ""
