"""worker/statusport.py: the master's half of asgi_status_bind."""

from __future__ import annotations

import atexit
import os
import socket
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gunicorn_asgi.worker import statusport
from gunicorn_asgi.worker.settings import SettingError
from gunicorn_asgi.worker.statusport import follow, inherited, open_first
from kit.fakes import FakeLog
from kit.master import free_port

__all__: list[str] = []

HERE = SimpleNamespace(uid=os.geteuid(), gid=os.getegid())


@pytest.fixture(autouse=True)
def _fresh_master(monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401 - a fixture with an end
    monkeypatch.delenv("GUNICORN_PID", raising=False)
    monkeypatch.setattr(statusport._Master, "port", None)
    # Registered with atexit already: the test process leaves the files to tmp_path.
    monkeypatch.setattr(statusport._Master, "files", {})
    yield
    sock = inherited()
    if sock is not None:
        sock.close()


@pytest.fixture
def log() -> FakeLog:
    return FakeLog()


def settings(bind: str) -> Any:  # noqa: ANN401 - stands in for Settings
    return SimpleNamespace(values={"asgi_status_bind": bind})


def start(bind: str, log: FakeLog, cfg: Any = HERE) -> socket.socket:  # noqa: ANN401
    open_first(settings(bind), cfg, log)
    sock = inherited()
    assert sock is not None
    return sock


def answers(address: tuple[str, int] | str) -> bool:
    """Whether somebody listens."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as probe:
        probe.settimeout(5)
        return probe.connect_ex(address) == 0


# -- the start -------------------------------------------------------------------------------------


def test_without_a_setting_there_is_no_socket(log: FakeLog) -> None:
    open_first(settings(""), HERE, log)
    follow(settings(""), HERE, log)
    assert inherited() is None
    assert not log.lines()


@pytest.mark.parametrize(
    ("bind", "family", "host", "warned"),
    [
        ("127.0.0.1:0", socket.AF_INET, "127.0.0.1", False),
        ("localhost:0", None, None, False),
        ("[::1]:0", socket.AF_INET6, "::1", False),
        ("::1:0", socket.AF_INET6, "::1", False),
        ("0.0.0.0:0", socket.AF_INET, "0.0.0.0", True),
        ("[::]:0", socket.AF_INET6, "::", True),
    ],
)
def test_an_address_is_bound_and_told(
    bind: str, family: object, host: str | None, warned: bool, log: FakeLog
) -> None:
    """One that others can reach is a decision of the operator's: a warning, no refusal."""
    sock = start(bind, log)
    assert family in (None, sock.family)
    assert host in (None, sock.getsockname()[0])
    assert not sock.get_inheritable()
    assert sock.gettimeout() == 0
    (line,) = log.lines("info")
    port = sock.getsockname()[1]
    assert line.startswith("Status page at: http://")
    assert line.endswith(f":{port} ({os.getpid()})")
    assert [bind in each for each in log.lines("warning")] == [True] * warned


@pytest.mark.parametrize(
    ("bind", "reason"),
    [
        ("203.0.113.1:80", "Cannot assign requested address"),
        ("203.0.113.1:0", "Cannot assign requested address"),
        ("no such host:80", ""),
        ("unix:/no/such/folder/sock", "No such file or directory"),
        ("unix:" + "/x" * 80, "AF_UNIX path too long"),
    ],
)
def test_what_cannot_be_bound_refuses_the_start(bind: str, reason: str, log: FakeLog) -> None:
    """Gunicorn makes "Error: ..." and exit status 1 of it."""
    with pytest.raises(SettingError) as caught:
        start(bind, log)
    assert str(caught.value).startswith(f"asgi_status_bind is {bind!r}, which cannot be bound: ")
    assert reason in str(caught.value)
    assert inherited() is None


@pytest.mark.parametrize("reuse", [False, True])
def test_a_port_in_use_refuses_the_start(reuse: bool, log: FakeLog) -> None:
    """Also if its owner would share it: that is another server of this user's."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuse)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SettingError, match="Address already in use"):
            start(f"127.0.0.1:{port}", log)


def test_the_master_of_usr2_shares_the_port_of_the_one_before(
    log: FakeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every connection is the newer one's, as long as it is there; then the older one's again."""
    older = start("127.0.0.1:0", log)
    address = older.getsockname()
    monkeypatch.setattr(statusport._Master, "port", None)
    monkeypatch.setenv("GUNICORN_PID", "1")
    newer = start(f"127.0.0.1:{address[1]}", log)
    assert accepted(address, older, newer) == [0, 20]
    newer.close()
    assert accepted(address, older) == [20]
    newer = start(f"127.0.0.1:{address[1]}", log)
    assert accepted(address, older, newer) == [0, 20]
    older.close()
    assert accepted(address, newer) == [20]


def accepted(address: tuple[str, int], *listeners: socket.socket) -> list[int]:
    """Who of them takes how many of twenty connections."""
    counts = [0] * len(listeners)
    for _ in range(20):
        with socket.create_connection(address):
            for index, each in enumerate(listeners):
                try:
                    each.accept()[0].close()
                except BlockingIOError:
                    continue
                counts[index] += 1
    return counts


# -- unix sockets ----------------------------------------------------------------------------------


def test_a_unix_socket_is_for_this_user_alone(tmp_path: Path, log: FakeLog) -> None:
    path = tmp_path / "sock"
    start(f"unix:{path}", log)
    mode = path.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert answers(str(path))
    assert [each.name for each in tmp_path.iterdir()] == ["sock"]


def test_a_unix_socket_belongs_to_the_user_of_the_workers(
    tmp_path: Path, log: FakeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings: user, group. What root has made, the workers' own tools could not use."""
    calls: list[tuple[str, int, int]] = []
    monkeypatch.setattr(os, "chown", lambda *args: calls.append(args))
    start(f"unix:{tmp_path}/sock", log, SimpleNamespace(uid=12345, gid=23456))
    assert calls == [(f"{tmp_path}/sock.new", 12345, 23456)]


def test_a_unix_socket_that_cannot_be_given_away_refuses_the_start(
    tmp_path: Path, log: FakeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    with pytest.raises(SettingError, match="Operation not permitted"):
        start(f"unix:{tmp_path}/sock", log, SimpleNamespace(uid=12345, gid=23456))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("leftover", ["sock", "sock.new"])
def test_what_a_killed_master_has_left_is_replaced(
    tmp_path: Path, log: FakeLog, leftover: str
) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / leftover))
    start(f"unix:{tmp_path}/sock", log)
    assert answers(f"{tmp_path}/sock")


def test_another_server_is_not_replaced(tmp_path: Path, log: FakeLog) -> None:
    """Unless it is the master before this one (USR2): that one is, in one step."""
    path = f"{tmp_path}/sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen()
        with pytest.raises(SettingError, match="another server answers there"):
            start(f"unix:{path}", log)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GUNICORN_PID", "1")
            sock = start(f"unix:{path}", log)
        assert answers(path)
        sock.accept()[0].close()  # the connection was ours


def test_a_file_is_not_replaced(tmp_path: Path, log: FakeLog) -> None:
    path = tmp_path / "sock"
    path.write_text("precious")
    with pytest.raises(SettingError, match="which is no socket"):
        start(f"unix:{path}", log)
    assert path.read_text() == "precious"


# -- the end ---------------------------------------------------------------------------------------


def test_the_file_goes_with_the_master_that_has_made_it(tmp_path: Path, log: FakeLog) -> None:
    path = tmp_path / "sock"
    start(f"unix:{path}", log)
    statusport._remove_files(os.getpid() + 1)  # a worker, which has inherited the handler
    assert path.exists()
    statusport._remove_files(os.getpid())
    assert not path.exists()
    statusport._remove_files(os.getpid())


def test_a_file_that_is_another_masters_by_now_stays(
    tmp_path: Path, log: FakeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that USR2 has made goes on with it."""
    path = tmp_path / "sock"
    before = start(f"unix:{path}", log)
    made = dict(statusport._Master.files or {})
    monkeypatch.setenv("GUNICORN_PID", "1")
    start(f"unix:{path}", log)
    before.close()
    monkeypatch.setattr(statusport._Master, "files", made)
    statusport._remove_files(os.getpid())
    assert answers(str(path))


@pytest.mark.parametrize("promoted", [False, True])
def test_a_master_of_usr2_gives_the_file_back_if_it_ends_first(
    promoted: bool, tmp_path: Path, log: FakeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """USR2 taken back: the older master, which serves on, is found again."""
    path = tmp_path / "sock"
    older = start(f"unix:{path}", log)
    inode = path.stat().st_ino
    monkeypatch.setattr(statusport._Master, "files", {})
    monkeypatch.setenv("GUNICORN_PID", "1")
    start(f"unix:{path}", log)
    assert path.stat().st_ino != inode
    if promoted:
        monkeypatch.delenv("GUNICORN_PID")
    statusport._remove_files(os.getpid())
    assert [each.stat().st_ino for each in tmp_path.iterdir()] == [inode] * (not promoted)
    older.close()


def test_a_reload_puts_a_file_back_that_is_another_masters(
    tmp_path: Path, log: FakeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one of USR2 was killed, and could not give it back."""
    path = f"{tmp_path}/sock"
    before = start(f"unix:{path}", log)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(f"{path}.dead")
    os.rename(f"{path}.dead", path)
    follow(settings(f"unix:{path}"), HERE, log)
    assert inherited() is not before
    assert answers(path)


def test_the_removal_is_registered_once(
    tmp_path: Path, log: FakeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(statusport._Master, "files", None)
    monkeypatch.setattr(atexit, "register", lambda *args: calls.append(args))
    start(f"unix:{tmp_path}/one", log)
    follow(settings(f"unix:{tmp_path}/two"), HERE, log)
    assert calls == [(statusport._remove_files, os.getpid())]
    assert list(statusport._Master.files or {}) == [f"{tmp_path}/one", f"{tmp_path}/two"]


# -- reloads ---------------------------------------------------------------------------------------


def test_a_reload_without_a_change_keeps_the_socket(log: FakeLog) -> None:
    """Also with port 0, which would be another one."""
    before = start("127.0.0.1:0", log)
    follow(settings("127.0.0.1:0"), HERE, log)
    assert inherited() is before
    assert before.fileno() >= 0


def test_a_reload_opens_the_new_address_and_closes_the_old_one(
    tmp_path: Path, log: FakeLog
) -> None:
    """In the master; workers that serve the old one have it still, and so its file stays."""
    old, new = f"{tmp_path}/old", f"{tmp_path}/new"
    before = start(f"unix:{old}", log)
    worker = before.dup()
    follow(settings(f"unix:{new}"), HERE, log)
    assert before.fileno() == -1
    assert answers(new)
    assert answers(old)
    worker.close()
    assert not answers(old)
    follow(settings(""), HERE, log)
    assert inherited() is None
    assert not answers(new)


@pytest.mark.parametrize("before", ["127.0.0.1:0", ""])
def test_a_reload_to_what_cannot_be_bound_changes_nothing(before: str, log: FakeLog) -> None:
    """Nothing raises in the master after the start; and the next reload tries again."""
    open_first(settings(before), HERE, log)
    held = inherited()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        wanted = f"127.0.0.1:{other.getsockname()[1]}"
        follow(settings(wanted), HERE, log)
    assert inherited() is held
    (line,) = log.lines("error")
    assert line.startswith(f"asgi_status_bind is {wanted!r}, which cannot be bound: ")
    assert line.endswith(f"; {before} stays" if before else "; there is none")
    follow(settings(wanted), HERE, log)
    assert inherited() is not held


def test_a_reload_may_be_the_first_to_want_one(log: FakeLog) -> None:
    """Also the reload that has made us the worker class: nothing was checked before it."""
    port = free_port()
    follow(settings(f"127.0.0.1:{port}"), HERE, log)
    assert answers(("127.0.0.1", port))
