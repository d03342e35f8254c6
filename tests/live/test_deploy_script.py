"""deploy/deploy.sh for real: a folder of releases, a master that serves the link, and load."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

import pytest

from kit.load import Load, source
from kit.master import Master
from kit.waiting import wait_until
from kit.wire import Wire

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy/deploy.sh"
BROKEN = "raise ImportError('nope')\n"
SLOW = "import time; time.sleep(2)"
LAZY = """
if scope["path"] == "/lazy":
    import part
    body = part.NAME.encode()
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})
    return
"""


class Site:
    """What deploy.sh calls FOLDER."""

    def __init__(self, folder: Path) -> None:
        """Make it, without a release."""
        self.root = folder / "site"
        self.incoming = folder / "incoming"
        programs = self.root / "venv/bin"
        programs.mkdir(parents=True)
        for name, options in {"python": "", "gunicorn-asgi": "-m gunicorn_asgi"}.items():
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {options} "$@"\n')
            program.chmod(0o755)
        shutil.copy(ROOT / "deploy/gunicorn.conf.py", self.root)

    def release(self, files: dict[str, str]) -> Path:
        """Write what is to be deployed."""
        shutil.rmtree(self.incoming, ignore_errors=True)
        self.incoming.mkdir()
        for name, text in files.items():
            (self.incoming / name).write_text(text)
        return self.incoming

    def start(self, *options: str, **more: Any) -> subprocess.Popen[str]:
        """Start the script, as from another folder."""
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        return subprocess.Popen(
            [DEPLOY, "-a", self.root, "-p", self.root / "gunicorn.pid", *options],
            env=env,
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **more,
        )

    def run(self, *options: str | Path) -> tuple[int, str]:
        """Run the script; its exit status, and what it has said."""
        process = self.start(*map(str, options))
        output, _ = process.communicate(timeout=90)
        return process.returncode, output

    def deploy(self, text: str, *options: str, **files: str) -> tuple[int, str]:
        """Deploy an application."""
        more = {f"{name}.py": content for name, content in files.items()}
        return self.run(*options, self.release({"app.py": text, **more}))

    def current(self) -> Path:
        """The release that the link names."""
        return (self.root / "current").resolve()

    def releases(self) -> list[str]:
        """Their names, in order."""
        return sorted(each.name for each in (self.root / "releases").iterdir())

    def serve(self) -> Master:
        """A master as the unit would start it. The short wait is for after a rollback."""
        config = str(self.root / "gunicorn.conf.py")
        return Master("app:app", "-c", config, "--graceful-timeout", "4", workers=2)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    place = Site(tmp_path)
    status, output = place.deploy(source("one"))
    assert status == 0, output
    assert "does not run: start it" in output
    return place


def ask(m: Master, path: str = "/") -> str:
    with Wire(m.connect()) as wire:
        return wire.request("GET", path).body.decode()


def test_a_good_release_serves_and_nobody_notices_the_deploy(site: Site) -> None:
    with site.serve() as m, Load(m.connect) as load:
        load.wait(50)
        status, output = site.deploy(source("two"))
        assert status == 0, output
        assert site.current().name == site.releases()[-1]
        load.wait_body("two")
        assert output.splitlines()[-1] == f"deploy: {site.current().name} serves"
    load.check()
    assert load.bodies() == {"one", "two"}


def test_a_broken_release_fails_the_deploy_and_the_old_one_serves_on(site: Site) -> None:
    before = site.current()
    with site.serve() as m, Load(m.connect) as load:
        load.wait(50)
        workers = m.workers()
        status, output = site.deploy(BROKEN)
        load.wait(100)
        assert status == 1, output
        assert "ImportError: nope" in output
        assert f"FAILED: {before.name} serves on" in output
        assert site.current() == before
        # Nobody was started a second time for it.
        assert m.workers() == workers
    load.check()
    assert load.bodies() == {"one"}


def test_a_worker_that_dies_after_a_broken_deploy_is_replaced_by_the_old_release(
    site: Site,
) -> None:
    with site.serve() as m:
        workers = m.workers()
        assert site.deploy(BROKEN)[0] == 1
        mark = m.mark()
        m.kill_worker(workers[0], SIGKILL)
        m.wait_log("Worker ready", 20, after=mark)
        m.wait_workers(2)
        assert {ask(m) for _ in range(20)} == {"one"}
        assert "failed to boot" not in m.log(mark)


def test_the_repaired_release_after_a_broken_one_serves(site: Site) -> None:
    with site.serve() as m, Load(m.connect) as load:
        assert site.deploy(BROKEN)[0] == 1
        status, output = site.deploy(source("three"))
        assert status == 0, output
        load.wait_body("three")
    load.check()


def test_each_generation_imports_from_its_own_release_however_late(site: Site) -> None:
    assert site.deploy(source("one", answer=LAZY), part="NAME = 'part one'")[0] == 0
    with site.serve() as m:
        mark = m.mark()
        release = site.release(
            {"app.py": source("two", first=SLOW, answer=LAZY), "part.py": "NAME = 'part two'"}
        )
        deploying = site.start(str(release))
        m.wait_log("Worker holding", after=mark)
        # The link is switched by now, and nobody has imported the part before.
        assert {ask(m, "/lazy") for _ in range(10)} == {"part one"}
        output, _ = deploying.communicate(timeout=60)
        assert deploying.returncode == 0, output
        assert {ask(m, "/lazy") for _ in range(10)} == {"part two"}


def test_an_archive_whose_files_all_have_the_same_time_is_seen_as_new(site: Site) -> None:
    """Reproducible archives: Python remembers a folder's names by the folder's time."""
    assert _deploy_archive(site, "two")[0] == 0
    with site.serve() as m:
        assert ask(m) == "two"
        status, output = _deploy_archive(site, "six")
        assert status == 0, output
        assert {ask(m) for _ in range(10)} == {"six"}


def _deploy_archive(site: Site, version: str) -> tuple[int, str]:
    # Equally long, too: bytecode is known by time and size.
    text = f"from part_{version} import NAME\n" + source(version)
    release = site.release({"app.py": text, f"part_{version}.py": "NAME = 1\n"})
    archive = site.root.parent / "release.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(release, ".", filter=_at_the_epoch)
    return site.run(archive)


def _at_the_epoch(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime = 1
    return member


def test_a_release_brings_its_own_dependencies(site: Site) -> None:
    text = "import library\n" + source("?").replace("VERSION = '?'", "VERSION = library.VERSION")
    answers = []
    status, output = _deploy_with_library(site, text, "1.0")
    assert status == 0, output
    with site.serve() as m:
        answers.append(ask(m))
        status, output = _deploy_with_library(site, text, "2.0")
        assert status == 0, output
        answers.append(ask(m))
    assert answers == ["1.0", "2.0"]


def test_dependencies_that_cannot_be_installed_leave_everything_as_it_was(site: Site) -> None:
    before, releases = site.current(), site.releases()
    requirements = "--no-index\nno-such-library\n"
    status, output = site.run(site.release({"app.py": "", "requirements.txt": requirements}))
    assert status not in (0, 3), output
    assert "no-such-library" in output
    assert (site.current(), site.releases()) == (before, releases)


def _deploy_with_library(site: Site, text: str, version: str) -> tuple[int, str]:
    wheel = f"library-{version}-py3-none-any.whl"
    requirements = f"--no-index\n./{wheel}\n"
    release = site.release({"app.py": text, "requirements.txt": requirements})
    info = f"library-{version}.dist-info"
    with zipfile.ZipFile(release / wheel, "w") as archive:
        archive.writestr("library.py", f"VERSION = {version!r}\n")
        metadata = f"Metadata-Version: 2.1\nName: library\nVersion: {version}\n"
        archive.writestr(f"{info}/METADATA", metadata)
        tags = "Wheel-Version: 1.0\nGenerator: kit\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr(f"{info}/WHEEL", tags)
        archive.writestr(f"{info}/RECORD", "")
    return site.run(release)


def test_a_refused_configuration_brings_the_old_release_back(site: Site) -> None:
    """New workers serve by then, with the old configuration: one more reload is needed."""
    before = site.current()
    with site.serve() as m, Load(m.connect) as load:
        load.wait(20)
        (site.root / "gunicorn.conf.py").write_text("import nope\n")
        status, output = site.deploy(source("two"))
        assert status == 1, output
        assert "No module named 'nope'" in output
        assert site.current() == before
        load.wait_body("one")
    load.check()


def test_a_deploy_that_is_interrupted_is_undone(site: Site) -> None:
    before = site.current()
    with site.serve() as m, Load(m.connect) as load:
        release = site.release({"app.py": source("two", first=SLOW)})
        deploying = site.start(str(release), start_new_session=True)
        wait_until(lambda: site.current() != before, 20, "the switch of the link")
        deploying.send_signal(SIGTERM)
        output, _ = deploying.communicate(timeout=60)
        assert deploying.returncode == 1, output
        assert site.current() == before
        load.wait_body("one")
    load.check()


def test_back_goes_to_the_release_before_and_passes_over_what_failed(site: Site) -> None:
    first = site.current()
    with site.serve() as m:
        assert site.deploy(BROKEN)[0] == 1
        assert site.deploy(source("two"))[0] == 0
        status, output = site.run("-b")
        assert status == 0, output
        assert site.current() == first
        assert {ask(m) for _ in range(10)} == {"one"}
        status, output = site.run("-b")
        assert status == 1
        assert "there is no release before" in output


def test_only_the_last_releases_are_kept(site: Site) -> None:
    with site.serve():
        for version in ("two", "three", "four"):
            assert site.deploy(source(version), "-k", "2")[0] == 0
    assert len(site.releases()) == 2
    assert site.current().name == site.releases()[-1]


def test_two_deploys_at_a_time_are_not(site: Site) -> None:
    with site.serve() as m:
        mark = m.mark()
        release = site.release({"app.py": source("two", first=SLOW)})
        deploying = site.start(str(release))
        m.wait_log("Worker holding", after=mark)
        status, output = site.run(release)
        assert (status, output) == (1, "deploy: another deploy is running\n")
        output, _ = deploying.communicate(timeout=60)
        assert deploying.returncode == 0, output


@pytest.mark.parametrize(
    "options",
    [(), ("-x", "."), ("-k", "1", "."), ("-k", "many", "."), (".", "."), ("-b", ".")],
    ids=" ".join,
)
def test_wrong_usage_is_told(site: Site, options: tuple[str, ...]) -> None:
    before = site.releases()
    status, output = site.run(*options)
    assert status == 2
    assert "Put a new release into service" in output
    assert "Exit status: 0 the release serves" in output
    assert site.releases() == before


def test_what_is_no_release_changes_nothing(site: Site, tmp_path: Path) -> None:
    before = site.releases()
    status, output = site.run(tmp_path / "nothing.tar")
    assert status not in (0, 3), output
    assert site.releases() == before
