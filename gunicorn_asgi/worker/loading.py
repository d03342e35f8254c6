"""Loads the application, or says in one line why it cannot be served, and what to do.

Gunicorn asks whether a name is there and can be called. A WSGI application, and a factory without
its parentheses, would boot and answer every request with 500.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from gunicorn import util
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import AppImportError

from gunicorn_asgi.aio.compat import is_async, takes

__all__ = ["NotLoaded", "load", "misfit"]

# Who defines ``__call__``, and so speaks WSGI: in falcon the same class is a parent of the one that
# speaks ASGI. What it is called, and what there is of it for us.
_WSGI = {
    "bottle.Bottle": ("a Bottle application", ""),
    "django.core.handlers.wsgi.WSGIHandler": (
        "Django's WSGI application",
        "name that of the project's asgi.py (django.core.asgi.get_asgi_application()), ",
    ),
    "falcon.app.App": ("a Falcon application of WSGI", "make it a falcon.asgi.App, "),
    "flask.app.Flask": ("a Flask application", ""),
    "pyramid.router.Router": ("a Pyramid application", ""),
}

_WRAP = (
    "wrap it, a2wsgi.WSGIMiddleware({name}) or asgiref.wsgi.WsgiToAsgi({name}), "
    "or serve it with -k gthread"
)


class NotLoaded(AppImportError):  # type: ignore[misc]  # Gunicorn is not typed
    """Runs in: worker and command line. There is no application to serve; a line says why.

    Attributes:
        status: Gunicorn's exit status for that, if it is a first start.
    """

    def __init__(self, text: str, status: int = Arbiter.APP_LOAD_ERROR) -> None:
        """Runs in: worker and command line. ``text`` says what, the value, and what to do."""
        super().__init__(text)
        self.status = status


def load(app: BaseApplication) -> Callable[..., Any]:
    """Runs in: worker and command line. Import the application that Gunicorn was told.

    Raises:
        NotLoaded: its path leads nowhere, or to what is clearly no ASGI application.
        Exception: whatever its code raises.
    """
    uri = getattr(app, "app_uri", None)  # a BaseApplication of somebody's own need not have it
    if uri is None or app.cfg.paste is not None:
        return _checked(app.wsgi(), app.cfg.proc_name)
    try:
        loaded = app.wsgi()
    except AppImportError as exc:
        text = f"Cannot load {uri!r}: {str(exc).rstrip('.')}{_about_name(uri)}"
        raise NotLoaded(text) from None
    except (ImportError, TypeError) as exc:  # the latter for a path that begins with a dot
        relative = isinstance(exc, TypeError) and uri.startswith(".")
        if not _is_of_the_path(exc) or not (relative or isinstance(exc, ImportError)):
            raise
        text = f"Cannot load {uri!r}: {_about_module(uri, exc)}"
        raise NotLoaded(text, Arbiter.WORKER_BOOT_ERROR) from None
    return _checked(loaded, uri)


def _checked(loaded: Callable[..., Any], uri: str) -> Callable[..., Any]:
    complaint = misfit(loaded, uri)
    if complaint:
        raise NotLoaded(f"Cannot serve {uri!r}: {complaint}")
    return loaded


# -- what it is ------------------------------------------------------------------------------------


def misfit(app: Callable[..., Any], uri: str) -> str:
    """Runs in: worker and command line. Why ``app`` is no ASGI application; empty if it may be.

    Whatever might be one is left in peace: what is asynchronous, what takes three arguments or,
    as in ASGI 2, one, what does not tell, and what is marked as asgiref's decorators mark it.
    """
    if is_async(app) or any(hasattr(app, f"_asgi_{each}_callable") for each in _MARKS):
        return ""
    name = re.split(r"\(", uri.partition(":")[2] or "application", maxsplit=1)[0]
    kind, instead = _WSGI.get(_caller(app), ("", ""))
    signature = _own_signature(app)
    if kind or (signature is not None and _is_wsgi(signature)):
        kind = kind or "a WSGI application"
        return f"it is {kind}, and this worker serves ASGI: {instead}{_WRAP.format(name=name)}"
    if signature is not None and _is_factory(app, signature):
        what = "class" if inspect.isclass(app) else "function"
        return (
            f"it is a {what} that takes no arguments, where an application takes (scope, receive, "
            f"send): to serve what it returns, write '{uri.partition(':')[0]}:{name}()', quoted"
        )
    return ""


_MARKS = ("single", "double")


def _caller(app: object) -> str:
    """The class in which ``app`` finds its ``__call__``, with its module."""
    for each in type(app).__mro__:
        if "__call__" in vars(each):
            return f"{each.__module__}.{each.__qualname__}"
    return ""


def _own_signature(app: Callable[..., Any]) -> inspect.Signature | None:
    """What ``app`` itself takes, and not what it is wrapped around; None if it does not tell."""
    if isinstance(app, functools._lru_cache_wrapper):  # passes everything on
        app = app.__wrapped__
    if getattr(app, "__signature__", None) is not None:
        return None  # what somebody says of it
    try:
        return inspect.signature(app, follow_wrapped=False)
    except (TypeError, ValueError):
        return None


def _is_wsgi(signature: inspect.Signature) -> bool:
    """PEP 3333: two arguments. The names are free, but one of them is hardly ever another."""
    if list(signature.parameters)[1:2] == ["start_response"]:
        return True
    return takes(signature, 2) and not takes(signature, 3) and not takes(signature, 1)


def _is_factory(app: object, signature: inspect.Signature) -> bool:
    may = inspect.isfunction(app) or inspect.ismethod(app) or inspect.isclass(app)
    may = may or isinstance(app, functools._lru_cache_wrapper)
    legacy = list(signature.parameters)[:1] == ["scope"]
    return may and not legacy and takes(signature, 0) and not takes(signature, 3)


# -- where it is not -------------------------------------------------------------------------------


def _is_of_the_path(exc: Exception) -> bool:
    """Whether it is the path that leads nowhere, and not an import in the application's code."""
    within = ""
    traceback = exc.__traceback__
    while traceback is not None:
        filename = traceback.tb_frame.f_code.co_filename
        if filename != importlib.__file__ and not filename.startswith("<frozen importlib"):
            within = filename
        traceback = traceback.tb_next
    return bool(within == util.__file__)


def _split(uri: str) -> tuple[str, str]:
    module, _, name = uri.partition(":")
    return module, name or "application"


def _mean(*paths: str) -> str:
    return f"; did you mean {' or '.join(repr(path) for path in paths)}?" if any(paths) else ""


def _close(name: str, names: Iterable[str]) -> str:
    import difflib  # which a start without a mistake does not need

    return next(iter(difflib.get_close_matches(name, sorted(names), n=1)), "")


def _about_module(uri: str, exc: Exception) -> str:
    module, name = _split(uri)
    missing = (
        getattr(exc, "name", None) or module
    )  # Gunicorn's own complaint about "app.py" has none
    parent, _, last = missing.rpartition(".")
    folders = list(getattr(sys.modules.get(parent), "__path__", ())) if parent else [os.getcwd()]
    where = f" in {folders[0]}" if folders else f", {parent!r} is no package"
    text = f"No module named {missing!r}{where}"
    as_path = _as_module(module)
    if as_path:
        return f"{module!r} is a path, where a module is wanted" + _mean(f"{as_path}:{name}")
    if hasattr(sys.modules.get(parent), last):
        return text + _mean(f"{parent}:{last}")
    holder = "" if parent else _folder_with(folders[0], last)
    if holder:
        return f"{text}; it is in {holder!r}: add --chdir {holder}"
    close = _close(last, {found for folder in folders for found in _modules_in(folder)})
    if close:
        better = f"{parent}.{close}" if parent else close
        return text + _mean(f"{better}{module[len(missing) :]}:{name}")
    return text


def _as_module(path: str) -> str:
    """A file or folder as the name of a module; empty if there is none."""
    bare = os.path.normpath(path.removesuffix(".py"))
    exists = os.path.exists(f"{bare}.py") or os.path.isdir(bare)
    if not exists or os.path.isabs(bare) or bare.startswith("..") or bare == path:
        return ""
    return bare.replace(os.sep, ".")


def _modules_in(folder: str) -> Iterator[str]:
    try:
        found = sorted(os.listdir(folder))
    except OSError:
        return
    for each in found:
        name = each.removesuffix(".py")
        if name.isidentifier() and (name != each or os.path.isdir(os.path.join(folder, each))):
            yield name


def _folder_with(folder: str, module: str) -> str:
    """A folder in it that has the module, as with the layout that has everything in src."""
    for each in _modules_in(folder):
        if module in _modules_in(os.path.join(folder, each)):
            return each
    return ""


def _about_name(uri: str) -> str:
    path, text = _split(uri)
    module = sys.modules.get(path)
    if module is None:
        return ""
    name = re.split(r"\W", text, maxsplit=1)[0]
    rest = text[len(name) :]
    value = getattr(module, name, None)
    submodule = f"{path}.{name}"
    if submodule in sys.modules or (value is None and name in _submodules(module)):
        last = rest[1:] if rest.startswith(".") else "app"
        return f"; {submodule!r} is a module{_mean(f'{submodule}:{last}')}"
    if name in vars(module):
        return _about_value(name, rest, value)
    return _mean(*(f"{path}:{each}" for each in _other_names(module, name)))


def _submodules(module: object) -> set[str]:
    return {each for folder in getattr(module, "__path__", ()) for each in _modules_in(folder)}


def _about_value(name: str, rest: str, value: object) -> str:
    if rest.startswith("(") and callable(value):
        return f"; {name} has to return the application"
    if rest:
        return ""
    return f"; {name} is {value!r:.60}" if not callable(value) else ""


def _other_names(module: object, name: str) -> list[str]:
    """What somebody may have meant: applications, then factories, then what is spelt alike."""
    names = {key: value for key, value in vars(module).items() if not key.startswith("_")}
    apps = {key for key, value in names.items() if _looks_like_app(value)}
    factories = {
        f"{key}()"
        for key, value in names.items()
        if "app" in key
        and inspect.isfunction(value)
        and not is_async(value)
        and takes(inspect.signature(value), 0)
    }
    alike = _close(name, apps) or _close(f"{name}()", factories)
    if alike:
        return [alike]
    if apps or factories:
        return sorted(apps or factories)[:3]
    close = _close(name, {key for key, value in names.items() if callable(value)})
    return [close] if close else []


def _looks_like_app(value: object) -> bool:
    if inspect.isclass(value) or not callable(value) or not is_async(value):
        return False
    signature = _own_signature(value)
    return signature is not None and takes(signature, 3)
