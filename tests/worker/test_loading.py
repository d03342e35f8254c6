"""worker/loading.py: what is clearly no ASGI application, and paths that lead nowhere."""

from __future__ import annotations

import functools
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIHandler  # type: ignore[import-untyped,unused-ignore]
from django.core.handlers.wsgi import WSGIHandler  # type: ignore[import-untyped,unused-ignore]
from gunicorn import util

from gunicorn_asgi.worker.loading import NotLoaded, load, misfit

__all__: list[str] = []

# -- what may be an application --------------------------------------------------------------------


class Application:
    """As frameworks have it."""

    async def __call__(self, scope: object, receive: object, send: object) -> None: ...


class Legacy:
    """ASGI 2; somebody has given its scope a default."""

    def __init__(self, scope: object = None) -> None: ...


class Silent:
    """Its signature is not its own."""

    __signature__ = "whatever"

    def __call__(self, environ: object, start_response: object) -> None: ...


class Marked:
    """As asgiref's decorators mark it, on what takes other arguments."""

    _asgi_single_callable = True

    def __call__(self, environ: object, start_response: object) -> None: ...


def wsgi(environ: object, start_response: object) -> list[bytes]:
    return []


def create(settings: object = None) -> Application:
    return Application()


async def asgi(scope: object, receive: object, send: object) -> None: ...
async def odd(scope: object, receive: object) -> None: ...
async def asynchronous_factory() -> None: ...
def legacy(scope: object) -> None: ...
def legacy_with_default(scope: object = None) -> None: ...
def anything(*args: object, **kwargs: object) -> None: ...
def returns_awaitable(scope: object, receive: object, send: object) -> None: ...


@functools.wraps(wsgi)
async def around_wsgi(scope: object, receive: object, send: object) -> None: ...


@functools.wraps(wsgi)
def passes_on(*args: object) -> None: ...


@functools.wraps(create)
def around_a_factory(scope: object, receive: object, send: object) -> None: ...


POSSIBLE: dict[str, Any] = {
    "object": Application(),
    "method": Application().__call__,
    "coroutine function": asgi,
    "partial": functools.partial(asgi),
    "of two arguments, but asynchronous": odd,
    "of none, but asynchronous": asynchronous_factory,
    "asgi 2": legacy,
    "asgi 2 with a default": legacy_with_default,
    "class of asgi 2 with a default": Legacy,
    "takes whatever comes": anything,
    "returns an awaitable": returns_awaitable,
    "wrapped around wsgi": around_wsgi,
    "may be wrapped around anything": passes_on,
    "wrapped around a factory": around_a_factory,
    "says something else of itself": Silent(),
    "marked": Marked(),
    "made in C": dict,
}


@pytest.mark.parametrize("name", POSSIBLE)
def test_what_may_be_an_asgi_application_is_left_in_peace(name: str) -> None:
    """A refusal in error would take a server down that has served."""
    assert misfit(POSSIBLE[name], "app:app") == ""


# -- what cannot be one ----------------------------------------------------------------------------


class Iterates:
    """PEP 3333: an instance is what is returned."""

    def __init__(self, environ: object, start_response: object) -> None: ...


class Middleware:
    """As Werkzeug has them."""

    def __call__(self, environ: object, start_response: object) -> None: ...


def other_names(request: object, respond: object) -> None: ...
def with_a_third(env: object, start_response: object, more: object = None) -> None: ...
def all_defaults(environ: object = None, start_response: object = None) -> None: ...


WSGI = [
    wsgi,
    Iterates,
    Middleware(),
    Middleware().__call__,
    functools.partial(wsgi),
    other_names,
    with_a_third,
    all_defaults,
]


@pytest.mark.parametrize("app", WSGI, ids=lambda app: getattr(app, "__name__", type(app).__name__))
def test_a_wsgi_application_is_told_what_to_do(app: Callable[..., object]) -> None:
    assert misfit(app, "shop:web") == (
        "it is a WSGI application, and this worker serves ASGI: wrap it, "
        "a2wsgi.WSGIMiddleware(web) or asgiref.wsgi.WsgiToAsgi(web), or serve it with -k gthread"
    )


def framework(module: str, name: str, call: Callable[..., object]) -> type:
    return type(name, (), {"__module__": module, "__call__": call})


def silent_call(*args: object) -> None:
    """Its arguments tell nothing, as those of what Cython has made."""


@pytest.mark.parametrize(
    ("module", "name", "said"),
    [
        ("flask.app", "Flask", "it is a Flask application, "),
        ("django.core.handlers.wsgi", "WSGIHandler", "it is Django's WSGI .*: name that"),
        ("pyramid.router", "Router", "it is a Pyramid application, "),
        ("bottle", "Bottle", "it is a Bottle application, "),
        ("falcon.app", "App", "it is a Falcon application of WSGI, .*: make it a falcon.asgi.App"),
    ],
)
def test_a_framework_is_called_by_its_name(module: str, name: str, said: str) -> None:
    """Known by the class that defines ``__call__``: falcon.asgi.App has falcon.App as a parent."""
    wsgi_class = framework(module, name, silent_call)
    of_the_user = type("Mine", (wsgi_class,), {})
    for app in (wsgi_class(), of_the_user()):
        complaint = misfit(app, "shop:web")
        assert re.match(said, complaint), complaint
        assert "WSGIMiddleware(web)" in complaint
    of_asgi = type("Own", (wsgi_class,), {"__call__": Application.__call__})
    assert misfit(of_asgi(), "shop:web") == ""


def test_djangos_own_two_are_told_apart() -> None:
    """The real ones."""
    wsgi_one = object.__new__(WSGIHandler)
    assert misfit(wsgi_one, "a:application").startswith("it is Django's WSGI application, ")
    assert misfit(object.__new__(ASGIHandler), "a:application") == ""


@pytest.mark.parametrize(
    ("app", "what"),
    [
        (create, "function"),
        (lambda: None, "function"),
        (functools.cache(lambda: None), "function"),
        (Application, "class"),
    ],
    ids=["function", "lambda", "cached", "class"],
)
def test_a_factory_without_parentheses_is_told_to_have_some(
    app: Callable[..., object], what: str
) -> None:
    """It is not called to see what it returns: that may be anything."""
    complaint = misfit(app, "shop:create")
    assert complaint.startswith(f"it is a {what} that takes no arguments, ")
    assert complaint.endswith("write 'shop:create()', quoted")


# -- paths -----------------------------------------------------------------------------------------

FILES = {
    "kitshop.py": """
        number = 3
        nothing = None
        async def app(scope, receive, send): ...
        def create_app(): return app
        def returns_none(): return None
        def helper(one): ...
    """,
    "kitbare.py": "def make_app(): ...\n",
    "kitempty.py": "x = 1\n",
    "kitbroken.py": "import no_such_thing\n",
    "kitpkg/__init__.py": "from kitpkg.main import app as site\n",
    "kitpkg/main.py": "async def app(scope, receive, send): ...\n",
    "kitpkg/other.py": "",
    "kitsrc/kitdeep.py": "",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with modules in it, as Gunicorn puts it in front of sys.path."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def application(uri: str | None) -> Any:  # noqa: ANN401 - stands in for a WSGIApplication
    """As much of Gunicorn's application as is used, with its own import."""
    cfg = SimpleNamespace(paste=None, proc_name="shop")
    return SimpleNamespace(app_uri=uri, cfg=cfg, wsgi=lambda: util.import_app(uri))


NOWHERE = {
    # The module.
    "kitshp:app": (3, "No module named 'kitshp' in {dir}; did you mean 'kitshop:app'?"),
    "kitpkg.mian:app": (
        3,
        "No module named 'kitpkg.mian' in {dir}/kitpkg; did you mean 'kitpkg.main:app'?",
    ),
    "kitpkk.main:app": (
        3,
        "No module named 'kitpkk' in {dir}; did you mean 'kitpkg.main:app'?",
    ),
    "wholly_unlike:app": (3, "No module named 'wholly_unlike' in {dir}"),
    "kitdeep:app": (
        3,
        "No module named 'kitdeep' in {dir}; it is in 'kitsrc': add --chdir kitsrc",
    ),
    # A path of files, or dots where the colon belongs.
    "kitshop.py:app": (
        3,
        "'kitshop.py' is a path, where a module is wanted; did you mean 'kitshop:app'?",
    ),
    "kitpkg/main.py:app": (
        3,
        "'kitpkg/main.py' is a path, where a module is wanted; did you mean 'kitpkg.main:app'?",
    ),
    "./kitpkg/main:app": (
        3,
        "'./kitpkg/main' is a path, where a module is wanted; did you mean 'kitpkg.main:app'?",
    ),
    ".kitshop:app": (3, "No module named '.kitshop' in {dir}; did you mean 'kitshop:app'?"),
    "kitshop.app": (
        3,
        "No module named 'kitshop.app', 'kitshop' is no package; did you mean 'kitshop:app'?",
    ),
    "kitpkg.site:app": (
        3,
        "No module named 'kitpkg.site' in {dir}/kitpkg; did you mean 'kitpkg:site'?",
    ),
    # The name.
    "kitshop:ap": (4, "Failed to find attribute 'ap' in 'kitshop'; did you mean 'kitshop:app'?"),
    "kitshop": (
        4,
        "Failed to find attribute 'application' in 'kitshop'; did you mean 'kitshop:app'?",
    ),
    "kitshop:creat_app()": (
        4,
        "Failed to find attribute 'creat_app' in 'kitshop'; did you mean 'kitshop:create_app()'?",
    ),
    "kitbare:app": (
        4,
        "Failed to find attribute 'app' in 'kitbare'; did you mean 'kitbare:make_app()'?",
    ),
    "kitempty:app": (4, "Failed to find attribute 'app' in 'kitempty'"),
    "kitpkg:main": (
        4,
        "Application object must be callable; 'kitpkg.main' is a module; did you mean "
        "'kitpkg.main:app'?",
    ),
    "kitpkg:other": (
        4,
        "Failed to find attribute 'other' in 'kitpkg'; 'kitpkg.other' is a module; did you mean "
        "'kitpkg.other:app'?",
    ),
    "kitpkg:main.app": (
        4,
        "Failed to parse 'main.app' as an attribute name or function call; 'kitpkg.main' is a "
        "module; did you mean 'kitpkg.main:app'?",
    ),
    "kitshop:number": (4, "Application object must be callable; number is 3"),
    "kitshop:nothing": (4, "Failed to find application object: 'nothing'; nothing is None"),
    "kitshop:returns_none()": (
        4,
        "Failed to find application object: 'returns_none()'; returns_none has to return the "
        "application",
    ),
}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("uri", NOWHERE)
def test_a_path_that_leads_nowhere_is_told_in_one_line(uri: str, folder: Path) -> None:
    """With Gunicorn's own exit status, and where another path would lead somewhere that one."""
    status, text = NOWHERE[uri]
    with pytest.raises(NotLoaded) as caught:
        load(application(uri))
    assert str(caught.value) == f"Cannot load {uri!r}: {text.format(dir=folder)}"
    assert caught.value.status == status
    assert caught.value.__suppress_context__


@pytest.mark.usefixtures("folder")
def test_an_import_in_the_applications_code_keeps_its_traceback() -> None:
    """The line in which it stands is what has to be seen."""
    with pytest.raises(ModuleNotFoundError, match="no_such_thing"):
        load(application("kitbroken:app"))


@pytest.mark.usefixtures("folder")
def test_what_is_there_is_loaded() -> None:
    """And a factory with its parentheses is called."""
    app = load(application("kitshop:app"))
    assert load(application("kitshop:create_app()")) is app
    assert load(application("kitpkg:site")) is load(application("kitpkg.main:app"))


@pytest.mark.usefixtures("folder")
def test_what_is_there_and_is_no_application_is_refused() -> None:
    with pytest.raises(NotLoaded, match="Cannot serve 'kitshop:create_app': it is a function"):
        load(application("kitshop:create_app"))


@pytest.mark.parametrize("paste", [None, "production.ini"])
def test_an_application_that_was_not_named_by_a_path_is_judged_too(paste: str | None) -> None:
    """A BaseApplication of somebody's own, and Paste: only what it is, not where."""
    app = application(None)
    app.cfg.paste = paste
    app.wsgi = lambda: wsgi
    with pytest.raises(NotLoaded, match="Cannot serve 'shop': it is a WSGI application"):
        load(app)
    app.wsgi = lambda: asgi
    assert load(app) is asgi
