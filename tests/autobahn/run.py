"""The Autobahn test suite against a real gunicorn with our worker; called by `make autobahn`.

The suite is the ``wstest`` of the autobahntestsuite package, which runs on Python 2.7 only; it gets
an environment of its own, with the versions of requirements.txt. Each group of cases is one run of
it. The exit status is 1 if a case is not as good as it can be (see judge.py), if the worker has
died or has logged anything of warning or worse, or, where CI=true, if there is no Python 2.7.

The settings are the defaults; what the environment sets (GUNICORN_ASGI_WS_DEFLATE_WINDOW=15) holds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from autobahn.judge import SHORT, complaints, groups, select
from kit.master import Master

__all__ = ["main"]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PINS = HERE / "requirements.txt"
VENV = ROOT / ".venvs" / "autobahn"
REPORTS = ROOT / "build" / "autobahn"
LOOPS = ("uvloop", "asyncio")
# The last one that needs no other package, so it makes environments out of a folder and leaves the
# Python 2.7 of this machine as it is.
VIRTUALENV = "virtualenv==16.7.12"
AGENT = "gunicorn_asgi"
# Seconds without a new case, by far: the suite itself gives the longest 480.
STALLED = 600
_WORSE = re.compile(r"\[(?:WARNING|ERROR|CRITICAL)\]|^Traceback", re.MULTILINE)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def find_python() -> str | None:
    """The path of a Python 2.7 that runs."""
    command = [str(ROOT / ".ci" / "find-python"), "2.7"]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return found.stdout.strip() or None


def elsewhere() -> dict[str, str]:
    """The environment of a Python 2.7, which is not to find our modules."""
    return {**os.environ, "PYTHONPATH": "", "PYTHONUNBUFFERED": "1"}


def run(command: Sequence[str]) -> None:
    subprocess.run(command, env=elsewhere(), check=True)


def install(python: str) -> None:
    """Make the environment of the suite, unless it is there with these very pins."""
    stamp = VENV / ".installed"
    if stamp.exists() and stamp.read_text() == PINS.read_text():
        return
    say(f"Installing the Autobahn test suite into {VENV.relative_to(ROOT)}")
    shutil.rmtree(VENV, ignore_errors=True)
    maker = VENV / "virtualenv"
    # -W: that Python 2.7 is at its end is no news here.
    pip = [python, "-W", "ignore", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    run([*pip, "--target", str(maker), VIRTUALENV])
    run([python, str(maker / "virtualenv.py"), "-q", str(VENV)])
    shutil.rmtree(maker)
    pip[0] = str(VENV / "bin" / "python")
    run([*pip, "-r", str(PINS)])
    stamp.write_text(PINS.read_text())


def play(port: int, cases: Sequence[str], out: Path) -> Mapping[str, Mapping[str, object]]:
    """Let the suite run ``cases``; what its report says of each. All its files are in ``out``."""
    out.mkdir(parents=True)
    server = {"agent": AGENT, "url": f"ws://127.0.0.1:{port}"}
    spec = out / "spec.json"
    spec.write_text(json.dumps({"outdir": str(out), "servers": [server], "cases": cases}))
    # Not by its own first line: the path in it may be longer than the kernel takes.
    wstest = [str(VENV / "bin" / name) for name in ("python", "wstest")]
    log = out / "wstest.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*wstest, "-m", "fuzzingclient", "-s", str(spec)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=out,
            env=elsewhere(),
        )
    try:
        follow(process, log)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    index = out / "index.json"
    report = json.loads(index.read_text()) if index.exists() else {}
    found: Mapping[str, Mapping[str, object]] = report.get(AGENT, {})
    if not found:
        say("".join(log.read_text(errors="replace").splitlines(keepends=True)[-20:]))
    return found


def follow(process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for the end of the suite, as long as it begins one case after the other."""
    size = -1
    while log.stat().st_size > size:
        size = log.stat().st_size
        try:
            process.wait(STALLED)
        except subprocess.TimeoutExpired:
            continue
        return
    say(f"No new case in {STALLED} s; the suite is ended.")


def serve(loop: str, cases: Sequence[str], reports: Path) -> list[str]:
    """Run ``cases`` against a fresh server; what is to complain of."""
    found = []
    shutil.rmtree(reports / loop, ignore_errors=True)
    files = {"app.py": (HERE / "app.py").read_text()}
    with Master("app:app", files=files, env={"GUNICORN_ASGI_LOOP": loop}) as master:
        mark, pids = master.mark(), master.workers()
        for name, group in groups(cases).items():
            began = time.monotonic()
            out = reports / loop / name
            bad = complaints(play(master.port, group, out), group)
            seconds = time.monotonic() - began
            say(f"{loop}: group {name}: {len(group)} cases, {len(bad)} bad, {seconds:.0f} s")
            if bad:
                bad.append(f"the suite's report is {out / 'index.html'}")
            found += bad
        if master.workers() != pids:
            found.append("the worker has died")
        log = master.log(mark)
    worse = len(_WORSE.findall(log))
    if worse:
        file = reports / loop / "gunicorn.log"
        file.write_text(log)
        found.append(f"the worker has logged {worse} lines of warning or worse: {file}")
    return found


def arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run the Autobahn test suite.")
    parser.add_argument("--loops", nargs="*", default=LOOPS, choices=LOOPS, metavar="LOOP")
    parser.add_argument("--reports", type=Path, default=REPORTS, help="where the suite writes")
    parser.add_argument("--cases", nargs="*", default=(), help='such as 9.1.*, or "short"')
    return parser.parse_args(given)


def main(given: Sequence[str]) -> int:
    """Run what the command line says; the exit status."""
    asked = arguments(given)
    try:
        cases = select(SHORT if asked.cases == ["short"] else asked.cases)
    except ValueError as exc:
        say(f"autobahn: {exc}")
        return 2
    python = find_python()
    if python is None:
        say("autobahn: SKIPPED, there is no Python 2.7 here")
        return int(os.environ.get("CI") == "true")
    install(python)
    status = 0
    for loop in asked.loops:
        began = time.monotonic()
        found = serve(loop, cases, asked.reports.resolve())
        for each in found:
            say(f"{loop}: {each}")
        seconds = time.monotonic() - began
        verdict = "FAILED" if found else "all OK"
        say(f"{loop}: {len(cases)} cases, {verdict}, {seconds:.0f} s")
        status |= bool(found)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
