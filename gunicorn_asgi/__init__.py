"""gunicorn_asgi: the worker class with which Gunicorn serves ASGI applications.

``gunicorn -k gunicorn_asgi.Worker app:app``. This module is imported in the master
process, so importing it starts nothing, creates no event loop and loads no application.
"""

from gunicorn_asgi.worker.worker import Worker

__all__ = ["Worker", "__version__"]

__version__ = "0.1.0.dev0"
