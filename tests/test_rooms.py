"""The walls of the house: which room may import what, and the rules that a parser can check.

A complaint reads "gunicorn_asgi/protocol/bad.py imports asyncio (line 3)".
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__: list[str] = []

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "gunicorn_asgi"

# The pure room has a short list, so that whatever is not on it has to be argued for here.
_PURE = {
    *("__future__", "abc", "base64", "binascii", "collections", "dataclasses", "datetime", "email"),
    *("enum", "functools", "hashlib", "http", "ipaddress", "itertools", "json", "math", "operator"),
    *("re", "string", "struct", "types", "typing", "urllib"),
}
_ASYNC = {
    *("asyncio", "contextlib", "contextvars", "errno", "inspect", "io", "logging", "mimetypes"),
    *("os", "select", "socket", "ssl", "stat", "sys", "time", "traceback", "warnings", "weakref"),
}
_HOUSE = f"{PACKAGE}."
_STDLIB = set(sys.stdlib_module_names)


@dataclass(frozen=True)
class Room:
    """What a room may import: top-level names, and rooms of ours. And what it may not use."""

    allowed: frozenset[str]
    never: frozenset[str] = frozenset()

    def admits(self, module: str) -> bool:
        """Whether that module may be imported here."""
        parts = module.split(".")
        if parts[0] == PACKAGE:
            # A room, or one module of another room.
            return ".".join(parts[:2]) in self.allowed or module in self.allowed
        return parts[0] in self.allowed


_PROTOCOL = Room(
    frozenset(
        {*_PURE, "codecs", "httptools", "websockets", "wsproto", "zlib", _HOUSE + "protocol"}
    ),
    # It is told the time and never asks. A timedelta is only a number.
    never=frozenset({"datetime.datetime", "datetime.date", "email.utils.localtime"}),
)
_AIO = Room(
    frozenset({*_PURE, *_ASYNC, _HOUSE + "protocol", _HOUSE + "aio"}),
    # `os` is there for files to send, `sys` for version_info: one loop, no process.
    never=frozenset(
        {
            *("os.environ", "os.getenv", "os.putenv", "os.fork", "os.kill", "os.killpg"),
            *("os.execv", "os.system", "os._exit", "os.abort", "os.wait", "os.waitpid", "os.umask"),
            *("sys.exit", "asyncio.run", "asyncio.create_subprocess_exec"),
        }
    ),
)
# All but the parsers: the process neither parses nor builds protocol bytes.
_WORKER = Room(
    frozenset({*_STDLIB, "gunicorn", "setproctitle", "uvloop"})
    | {PACKAGE, _HOUSE + "protocol", _HOUSE + "aio", _HOUSE + "worker"}
)
# A plain application too, but for what it shows: the board, and how the worker lets it be found.
_STATUS = Room(
    frozenset({*_PURE, "asyncio", "importlib", "prometheus_client", "time", _HOUSE + "status"})
    | {_HOUSE + "protocol.authority", _HOUSE + "protocol.errors", _HOUSE + "protocol.peer"}
    | {
        *(_HOUSE + "worker.berthed", _HOUSE + "worker.counters", _HOUSE + "worker.metrics"),
        *(_HOUSE + "worker.scoreboard", _HOUSE + "worker.command.snapshot"),
    }
)
# A plain application, such as anybody could write: it knows no room.
_DEMO = Room(frozenset({*_STDLIB, PACKAGE, _HOUSE + "demo"}))
_DOOR = Room(frozenset({"__future__", "sys", PACKAGE, _HOUSE + "worker"}))

ROOMS = {
    "protocol": _PROTOCOL,
    "aio": _AIO,
    "worker": _WORKER,
    "status": _STATUS,
    "demo": _DEMO,
    "": _DOOR,
}
# (file, module): why.
EXCEPTIONS = {
    ("aio/loop.py", "uvloop"): "it makes loops of either kind; nobody else needs to know which",
    ("worker/command/metrics.py", "gunicorn_asgi.status.exposition"): "the same text, asked here",
    ("worker/statusdesk.py", "gunicorn_asgi.status.app"): "it serves that, on a port of its own",
    ("worker/statusdesk.py", "gunicorn_asgi.status.exposition"): "ready for the first scrape",
}

GATED = {"state", "reading", "writing"}
GATES = {"fire", "__init__"}
MAX_FILE = 500
MAX_FUNCTION = 80
MAX_P90 = 40
_PLACE = r"(master|worker|watchdog thread|signal handler|command line)"
RUNS_IN = re.compile(rf"Runs in: {_PLACE}((,| and| or) {_PLACE})*\.")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One parsed file of the package."""

    path: Path
    name: str  # relative to the package, as in "aio/loop.py"
    text: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """The folder it lies in; "" for the package itself."""
        return self.name.split("/")[0] if "/" in self.name else ""

    def complain(self, what: str, node: ast.AST | None = None) -> str:
        """Word a complaint."""
        line = getattr(node, "lineno", 0)
        return f"{PACKAGE}/{self.name} {what}" + (f" (line {line})" if line else "")


def modules(package: Path) -> list[Module]:
    """Parse every file of the package."""
    found = []
    for path in sorted(package.rglob("*.py")):
        text = path.read_text()
        name = path.relative_to(package).as_posix()
        found.append(Module(path, name, text, ast.parse(text, str(path))))
    return found


Rule = Callable[[Module], Iterator[str]]

# -- the rules: each yields its complaints about one module --------------------------------------


def _imports(module: Module) -> Iterator[tuple[ast.AST, str, str]]:
    """Every import, in functions and under TYPE_CHECKING too: (node, module, module.name)."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name, alias.name
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                parents = [PACKAGE, *module.name.split("/")[:-1]]
                source = ".".join(parents[: len(parents) - node.level + 1] + source.split())
            for alias in node.names:
                full = f"{source}.{alias.name}"
                # `from gunicorn_asgi import aio` imports a room.
                yield node, full if source == PACKAGE and alias.name in ROOMS else source, full


def imports_stay_in_the_room(module: Module) -> Iterator[str]:
    """Rule 1."""
    room = ROOMS.get(module.room)
    if room is None:
        yield module.complain(f"lies in a room that nobody has described: {module.room}")
        return
    for node, source, full in _imports(module):
        if not room.admits(source) and (module.name, source) not in EXCEPTIONS:
            yield module.complain(f"imports {source}", node)
        elif full in room.never:
            yield module.complain(f"imports {full}", node)
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in room.never:
            yield module.complain(f"uses {ast.unparse(node)}", node)


def _scopes(tree: ast.AST, name: str = "") -> Iterator[tuple[ast.AST, str]]:
    """Every node, with the name of the innermost function around it."""
    for node in ast.iter_child_nodes(tree):
        yield node, name
        yield from _scopes(node, node.name if isinstance(node, Function) else name)


def states_change_at_their_gate(module: Module) -> Iterator[str]:
    """Rule 6: in a machine, ``fire`` (and ``__init__``, once) writes; nobody else does."""
    for node, function in _scopes(module.tree):
        if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            own = isinstance(node.value, ast.Name) and node.value.id == "self"
            if node.attr in GATED and not (own and function in GATES):
                yield module.complain(f"assigns {ast.unparse(node)} outside fire()", node)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("setattr"):
            names = {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
            if names & GATED:
                yield module.complain(f"assigns by {ast.unparse(node)}", node)


def docstrings_say_where(module: Module) -> Iterator[str]:
    """Rule 12: public functions and classes of worker/ say in which process they run."""
    if module.room != "worker":
        return
    for node, function in _scopes(module.tree):
        if not isinstance(node, Function | ast.ClassDef) or function or node.name.startswith("_"):
            continue
        if not RUNS_IN.match(ast.get_docstring(node) or ""):
            yield module.complain(f'{node.name} does not begin with "Runs in: ..."', node)


def everything_public_is_named(module: Module) -> Iterator[str]:
    """Rule 23: ``__all__`` everywhere, and nothing in it that is not there."""
    defined: set[str] = set()
    listed: list[str] | None = None
    for node in module.tree.body:
        if isinstance(node, Function | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            defined |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        for name in ast.walk(node) if isinstance(node, ast.Assign | ast.AnnAssign | ast.If) else ():
            if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store):
                defined.add(name.id)
                if name.id == "__all__" and isinstance(node, ast.Assign | ast.AnnAssign):
                    assert node.value is not None
                    listed = ast.literal_eval(node.value)
    if listed is None:
        yield module.complain("has no __all__")
    for each in listed or []:
        if each not in defined:
            yield module.complain(f"lists {each} in __all__ and does not define it")


def _functions(module: Module) -> Iterator[tuple[Function, int]]:
    for node in ast.walk(module.tree):
        if isinstance(node, Function):
            yield node, (node.end_lineno or node.lineno) - node.lineno + 1


def sizes_are_human(module: Module) -> Iterator[str]:
    """Rule 13."""
    lines = len(module.text.splitlines())
    if lines > MAX_FILE:
        yield module.complain(f"has {lines} lines, more than {MAX_FILE}")
    for node, length in _functions(module):
        if length > MAX_FUNCTION:
            yield module.complain(f"{node.name} has {length} lines, more than {MAX_FUNCTION}", node)


RULES: list[Rule] = [
    imports_stay_in_the_room,
    states_change_at_their_gate,
    docstrings_say_where,
    everything_public_is_named,
    sizes_are_human,
]
by_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)


# -- the house -----------------------------------------------------------------------------------


@by_rule
def test_house(rule: Rule) -> None:
    """The package keeps the rule."""
    complaints = [each for module in modules(ROOT / PACKAGE) for each in rule(module)]
    assert not complaints, "\n" + "\n".join(complaints)


def test_most_functions_are_short() -> None:
    """Nine of ten functions fit on a screen."""
    lengths = sorted(n for module in modules(ROOT / PACKAGE) for _, n in _functions(module))
    assert lengths[len(lengths) * 9 // 10] <= MAX_P90


def test_exceptions_are_needed() -> None:
    """An exception whose reason has gone is taken back."""
    used = {(m.name, source) for m in modules(ROOT / PACKAGE) for _, source, _ in _imports(m)}
    assert set(EXCEPTIONS) <= used


# -- the guard itself ------------------------------------------------------------------------------

LONG = "def long():\n" + "    pass\n" * MAX_FUNCTION
BAD: list[tuple[Rule, str, str, str]] = [
    (imports_stay_in_the_room, "protocol", "import asyncio", "imports asyncio (line 1)"),
    (imports_stay_in_the_room, "protocol", "from os import path", "imports os (line 1)"),
    (imports_stay_in_the_room, "protocol", "def f():\n    import time", "imports time (line 2)"),
    (
        imports_stay_in_the_room,
        "protocol",
        "from gunicorn_asgi.aio.flow import FlowControl",
        "imports gunicorn_asgi.aio.flow (line 1)",
    ),
    (
        imports_stay_in_the_room,
        "protocol",
        "from ..aio import flow",
        "imports gunicorn_asgi.aio (line 1)",
    ),
    (
        imports_stay_in_the_room,
        "protocol",
        "from gunicorn_asgi import aio",
        "imports gunicorn_asgi.aio (line 1)",
    ),
    (
        imports_stay_in_the_room,
        "protocol",
        "from datetime import datetime",
        "imports datetime.datetime (line 1)",
    ),
    (imports_stay_in_the_room, "aio", "import gunicorn.util", "imports gunicorn.util (line 1)"),
    (imports_stay_in_the_room, "aio", "import threading", "imports threading (line 1)"),
    (imports_stay_in_the_room, "aio", "import os\nos.fork()", "uses os.fork (line 2)"),
    (imports_stay_in_the_room, "aio", "import os\nos.environ['A']", "uses os.environ (line 2)"),
    (imports_stay_in_the_room, "aio", "import sys\nsys.exit()", "uses sys.exit (line 2)"),
    (
        imports_stay_in_the_room,
        "aio",
        "if TYPE_CHECKING:\n    from gunicorn_asgi.worker import worker",
        "imports gunicorn_asgi.worker (line 2)",
    ),
    (imports_stay_in_the_room, "worker", "import httptools", "imports httptools (line 1)"),
    (
        imports_stay_in_the_room,
        "cellar",
        "",
        "lies in a room that nobody has described: cellar",
    ),
    (
        states_change_at_their_gate,
        "aio",
        "class A:\n    def close(self):\n        self.state = 1",
        "assigns self.state outside fire() (line 3)",
    ),
    (
        states_change_at_their_gate,
        "aio",
        "class A:\n    def __init__(self, other):\n        other.reading, x = 1, 2",
        "assigns other.reading outside fire() (line 3)",
    ),
    (
        states_change_at_their_gate,
        "aio",
        "setattr(thing, 'writing', 1)",
        "assigns by setattr(thing, 'writing', 1) (line 1)",
    ),
    (
        docstrings_say_where,
        "worker",
        "class A:\n    'Runs in: worker.'\n    def b(self):\n        'Beats.'",
        'b does not begin with "Runs in: ..." (line 3)',
    ),
    (
        docstrings_say_where,
        "worker",
        "async def a():\n    'Runs in: the cellar.'",
        'a does not begin with "Runs in: ..." (line 1)',
    ),
    (everything_public_is_named, "aio", "x = 1", "has no __all__"),
    (
        everything_public_is_named,
        "aio",
        "__all__ = ['y']\nx = 1",
        "lists y in __all__ and does not define it",
    ),
    (sizes_are_human, "aio", LONG, f"long has {MAX_FUNCTION + 1} lines, more than 80 (line 1)"),
    (sizes_are_human, "aio", "\n" * 501, "has 501 lines, more than 500"),
]
GOOD = '''\
"""A good neighbour."""

from __future__ import annotations

import re

__all__ = ["Machine", "beat"]


class Machine:
    """Runs in: master and worker. Turns."""

    def __init__(self) -> None:
        self.state = 0

    def fire(self, event: int) -> None:
        """Runs in: worker. The gate."""
        self.state = event

    def _private(self) -> bool:
        return self.state == 1


def beat() -> None:
    """Runs in: signal handler. Beats."""

    def inner() -> None:
        pass
'''


def _sample(folder: Path, room: str, text: str) -> Module:
    path = folder / room / "bad.py"
    path.parent.mkdir()
    path.write_text(text)
    (module,) = modules(folder)
    return module


@pytest.mark.parametrize(
    ("rule", "room", "text", "complaint"), BAD, ids=[f"{b[1]}-{b[3]}" for b in BAD]
)
def test_guard_bites(
    tmp_path: Path,
    rule: Rule,
    room: str,
    text: str,
    complaint: str,
) -> None:
    """Each rule sees what it is there to see."""
    assert list(rule(_sample(tmp_path, room, text))) == [f"{PACKAGE}/{room}/bad.py {complaint}"]


@by_rule
@pytest.mark.parametrize("room", ["protocol", "aio", "worker"])
def test_guard_lets_pass(tmp_path: Path, rule: Rule, room: str) -> None:
    """What is as it should be passes every rule in every room."""
    assert not list(rule(_sample(tmp_path, room, GOOD)))
