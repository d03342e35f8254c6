"""A reload that changes ``bind`` is a reload like any other: the old workers wait for the new.

The arbiter closes its old listeners then, which is also what it does before it stops.
"""

from __future__ import annotations

from signal import SIGHUP

import pytest

from kit.master import Master, free_port, wait_until
from kit.wire import Wire

__all__: list[str] = []

APP = """\
import time
time.sleep({seconds})

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("http only")
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": b"{answer}"}})
"""


def config(port: int) -> str:
    return f"bind = '127.0.0.1:{port}'\ngraceful_timeout = 5\nasgi_drain_linger = 0.5\n"


def answer(m: Master, port: int) -> bytes:
    with m.connect(address=("127.0.0.1", port)) as sock:
        return Wire(sock).request("GET", "/", [(b"connection", b"close")]).body


@pytest.mark.parametrize("broken", [False, True], ids=["good", "broken"])
def test_the_old_address_is_served_until_the_new_workers_are_ready(broken: bool) -> None:
    """Setting: bind. Broken code besides, and the old address is what remains."""
    old, new = free_port(), free_port()
    source = APP.format(seconds=0, answer="old")
    with Master("app:app", bind=[], config=config(old), files={"app.py": source}) as m:
        assert answer(m, old) == b"old"
        mark = m.mark()
        m.write("gunicorn.conf.py", config(new))
        m.write("app.py", "1 / 0\n" if broken else APP.format(seconds=1.5, answer="new"))
        m.signal(SIGHUP)
        m.wait_log(rf"Listening at: http://127\.0\.0\.1:{new}", after=mark)
        if not broken:  # what fails at once is rolled back before anybody is told to leave
            m.wait_log(r"Worker holding", after=mark)
        assert answer(m, old) == b"old"
        if broken:
            m.wait_log(r"Rolled back to generation 1", after=mark)
            assert answer(m, old) == b"old"
        else:
            m.wait_log(r"Worker leaving .* its successors are ready", after=mark)
            wait_until(lambda: answer(m, new) == b"new", 5, "the new code on the new address")
