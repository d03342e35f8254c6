"""The runner of the Autobahn suite: what it does where the suite does not do its part."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from autobahn import run
from autobahn.judge import complaints

__all__: list[str] = []

CASES = ["1.1.1", "1.1.2"]
# What the suite leaves: a report of each case, below the name of the server that was asked.
REPORT = """
import json, sys
spec = json.load(open(sys.argv[-1]))
assert sys.argv[1:-1] == ["-m", "fuzzingclient", "-s"]
result = {"behavior": "OK", "behaviorClose": "OK", "url": spec["servers"][0]["url"]}
cases = {spec["servers"][0]["agent"]: {case: result for case in spec["cases"]}}
json.dump(cases, open(spec["outdir"] + "/index.json", "w"))
"""


class Suite(NamedTuple):
    """A stand-in for wstest."""

    script: Path
    out: Path

    def play(self, text: str) -> list[str]:
        """What the judge says after a run of a suite that does ``text``."""
        self.script.write_text(text)
        return complaints(run.play(8000, CASES, self.out), CASES)


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Suite:
    folder = tmp_path / "venv" / "bin"
    folder.mkdir(parents=True)
    (folder / "python").symlink_to(sys.executable)
    monkeypatch.setattr(run, "VENV", folder.parent)
    return Suite(folder / "wstest", tmp_path / "out")


def test_a_report_is_read_for_the_server_and_the_cases_asked(suite: Suite) -> None:
    assert suite.play(REPORT) == []
    spec = json.loads((suite.out / "spec.json").read_text())
    assert spec["servers"][0]["url"] == "ws://127.0.0.1:8000"
    assert spec["cases"] == CASES


def test_a_report_of_another_server_is_none(suite: Suite) -> None:
    broken = REPORT.replace('spec["servers"][0]["agent"]', '"AnotherServer"')
    assert suite.play(broken) == [f"{case}: missing in the report" for case in CASES]


def test_a_suite_that_crashes_has_every_case_missing_and_is_heard(
    suite: Suite, capsys: pytest.CaptureFixture[str]
) -> None:
    named = suite.play("raise SystemExit('no reactor')")
    assert named == [f"{case}: missing in the report" for case in CASES]
    assert "no reactor" in capsys.readouterr().out


def test_a_suite_that_comes_to_no_further_case_is_ended(
    suite: Suite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "STALLED", 0.05)
    assert len(suite.play("import signal; signal.pause()")) == len(CASES)
    assert "No new case" in capsys.readouterr().out


def test_a_case_that_is_none_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--cases", "1.*", "8.1"]) == 2
    assert "there is no case 8.1" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["true", ""], ids=["in CI", "elsewhere"])
def test_a_missing_python_is_said_and_a_failure_only_in_ci(
    place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "find_python", lambda: None)
    monkeypatch.setenv("CI", place)
    assert run.main([]) == (place == "true")
    assert "SKIPPED, there is no Python 2.7 here" in capsys.readouterr().out
