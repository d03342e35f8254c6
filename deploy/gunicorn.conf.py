"""Gunicorn's configuration for /srv/myapp, where deploy.sh puts one release after the other.

It lies beside the releases, not in them: what belongs to the machine is not deployed. It is read
again at each reload. Do not import the application here: the master would keep that release.
"""

import glob
import os
import site
import sys

ROOT = os.path.dirname(os.path.abspath(__file__))

worker_class = "gunicorn_asgi.Worker"
wsgi_app = "app:app"

# The link, by its own name: deploy.sh switches it and sends HUP. With the folder behind it, or
# without this line where Gunicorn is started from that folder, HUP would load the old release.
chdir = os.path.join(ROOT, "current")

# Not used where systemd hands over the socket (gunicorn-asgi.socket). Do not change it at a
# reload: Gunicorn would close the listeners and whatever waits in them.
bind = ["127.0.0.1:8000"]

# One for each core is enough: a worker serves many requests at a time.
workers = 2

# A worker whose loop has not turned for so long is killed. It says nothing of slow requests.
timeout = 30

# Requests in flight, streams and WebSockets have so long to end when their worker leaves.
# Less than TimeoutStopSec of the unit.
graceful_timeout = 30

# More than the proxy keeps idle connections (nginx: keepalive_timeout 60s in the upstream), so
# that it is the proxy who closes them, and no request meets a connection that has just closed.
keepalive = 65

# A boot that takes longer has failed, and is rolled back.
asgi_boot_timeout = 60

# Ask the new generation before it may serve: below 500 will do.
# asgi_ready_check = "/healthz"

# Against leaks: the replacement is ready before the old worker leaves.
# max_requests = 100_000
# max_requests_jitter = 10_000

# The heartbeat files, where a busy disk cannot make a healthy worker look stuck.
worker_tmp_dir = "/dev/shm"  # noqa: S108 - Gunicorn makes a file of its own name there, and unlinks it

# For deploy.sh and `gunicorn-asgi status`. RuntimeDirectory= of the unit, if there is one.
pidfile = os.path.join(os.environ.get("RUNTIME_DIRECTORY", ROOT), "gunicorn.pid")

# The control socket of Gunicorn 25.1 and later would need a folder that can be written.
control_socket_disable = True

# Standard error, so the journal. To files, for logrotate.conf:
# errorlog = "/var/log/myapp/error.log"
# accesslog = "/var/log/myapp/access.log"
errorlog = "-"
accesslog = None


def post_fork(server: object, worker: object) -> None:
    """Bind this worker to the release that the link names now, for all its life.

    What an old worker still imports or opens after the next switch would be the new release's
    otherwise. And one that is forked after a switch back has the old release again.
    """
    release = os.path.realpath(chdir)
    os.chdir(release)
    servers = [path for path in sys.path if path != chdir]
    sys.path[:] = [release]
    # Dependencies that the release has brought along go before those of the server.
    for folder in glob.glob(os.path.join(release, ".venv/lib/python*/site-packages")):
        site.addsitedir(folder)
    sys.path += servers
