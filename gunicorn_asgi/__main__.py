"""``python -m gunicorn_asgi``: the command line."""

import sys

from gunicorn_asgi.worker.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
