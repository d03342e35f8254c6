"""The WebSocket client of Node, npm's ``ws``: see ``kit.wsclients``.

One Node holds all its WebSockets. `.ci/run` says how it is installed; where it is missing, tests
that need it are skipped, but in CI they fail.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kit.wsclients import PATIENCE, Closed, Library, Message, Refused, Talker

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MISSING", "Node", "by_node"]

_NODE = shutil.which("node")
_MODULES = Path(__file__).resolve().parents[2] / ".venvs" / "node" / "node_modules"
_SCRIPT = Path(__file__).with_suffix(".js")


def _missing() -> str:
    if _NODE is None:
        return "Node is not installed"
    if not (_MODULES / "ws").is_dir():
        return "npm's ws is not installed (see .ci/run)"
    return ""


# What there would have to be, or "".
MISSING = _missing()
# For what needs it.
by_node = pytest.mark.skipif(bool(MISSING) and not os.environ.get("CI"), reason=MISSING)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


class Node(Library):
    """A Node with the script beside this file."""

    def __init__(self) -> None:
        """Start it."""
        assert not MISSING, MISSING
        env = {**os.environ, "NODE_PATH": str(_MODULES)}
        self._process = subprocess.Popen(
            [str(_NODE), str(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )
        self._numbers = itertools.count()
        self._ids = itertools.count()
        self._lock = threading.Lock()
        self._answers: dict[int, Future[dict[str, Any]]] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def call(self, name: str, **more: object) -> dict[str, Any]:
        """Have the script do that, and wait for what it says."""
        future: Future[dict[str, Any]] = Future()
        with self._lock:
            number = next(self._numbers)
            self._answers[number] = future
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps({"number": number, "call": name, **more}) + "\n")
            self._process.stdin.flush()
        answer = future.result(PATIENCE)
        if "error" in answer:
            raise OSError(f"{name}: {answer['error']}")
        return answer

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer: dict[str, Any] = json.loads(line)
            with self._lock:
                future = self._answers.pop(answer.pop("number"))
            future.set_result(answer)
        with self._lock:
            for future in self._answers.values():
                future.set_exception(EOFError("Node has ended"))

    def stop(self) -> None:
        """End it: with its input, or by force."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(PATIENCE)
        finally:
            self._process.kill()
            self._process.wait()
            self._reader.join(PATIENCE)
            assert self._process.stdout is not None
            self._process.stdout.close()

    def connect(
        self,
        url: str,
        *,
        subprotocols: Sequence[str] = (),
        deflate: bool = False,
        authority: str = "",
    ) -> Talker:
        """See ``Library``."""
        number = next(self._ids)
        answer = self.call(
            "open",
            id=number,
            url=url,
            subprotocols=list(subprotocols),
            deflate=deflate,
            authority=authority,
        )
        if "refused" in answer:
            body = base64.b64decode(answer["body"])
            raise Refused(answer["refused"], answer["headers"], body)
        return _Socket(self, number, answer)


class _Socket(Talker):
    def __init__(self, node: Node, number: int, answer: dict[str, Any]) -> None:
        self._node = node
        self._number = number
        self.subprotocol = answer["subprotocol"]
        self.deflate = "permessage-deflate" in answer["extensions"]

    def _call(self, name: str, **more: object) -> dict[str, Any]:
        return self._node.call(name, id=self._number, **more)

    def send(self, message: Message) -> None:
        if isinstance(message, str):
            self._call("send", text=message)
        else:
            self._call("send", binary=_text(message))

    def send_fragments(self, parts: Sequence[str]) -> None:
        self._call("fragments", parts=list(parts))

    def recv(self) -> Message:
        answer = self._call("recv")
        if "closed" in answer:
            raise Closed(answer["closed"], answer["reason"])
        if "text" in answer:
            text: str = answer["text"]
            return text
        return base64.b64decode(answer["binary"])

    def ping(self, payload: bytes) -> None:
        assert base64.b64decode(self._call("ping", binary=_text(payload))["binary"]) == payload

    def close(self, code: int, reason: str) -> Closed:
        answer = self._call("close", code=code, reason=reason)
        return Closed(answer["closed"], answer["reason"])

    def drop(self) -> None:
        self._call("drop")
