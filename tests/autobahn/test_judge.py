"""The judge of the Autobahn reports: whatever is not right has a name."""

from __future__ import annotations

import pytest

from autobahn.judge import CASES, SHORT, complaints, groups, select

__all__: list[str] = []

GROUPS = {"1", "2", "3", "4", "5", "6", "7", "9", "10", "12", "13"}


def result(behavior: str = "OK", close: str = "OK") -> dict[str, object]:
    """A case, as it stands in the suite's index.json."""
    return {"behavior": behavior, "behaviorClose": close, "remoteCloseCode": 1000, "duration": 2}


def test_every_case_ok_is_no_complaint() -> None:
    report = {"1.1.1": result(), "7.13.1": result("INFORMATIONAL", "INFORMATIONAL")}
    assert complaints(report, ["1.1.1", "7.13.1"]) == []


@pytest.mark.parametrize(
    "said",
    [
        ("FAILED", "OK"),
        ("OK", "FAILED"),
        ("NON-STRICT", "OK"),
        ("OK", "WRONG CODE"),
        ("OK", "UNCLEAN"),
        ("OK", "FAILED BY CLIENT"),
        ("UNIMPLEMENTED", "OK"),
        ("INFORMATIONAL", "INFORMATIONAL"),
        ("NO_CLOSE", "OK"),
        ("a word of next year", "OK"),
    ],
    ids=" and ".join,
)
def test_whatever_is_not_ok_is_named_with_what_the_suite_said(said: tuple[str, str]) -> None:
    behavior, close = said
    report = {"1.1.1": result(), "6.4.1": result(behavior, close), "6.4.2": result()}
    named = complaints(report, ["1.1.1", "6.4.1", "6.4.2"])
    assert named == [f"6.4.1: behavior {behavior}, close {close}"]


@pytest.mark.parametrize("said", [("FAILED", "INFORMATIONAL"), ("INFORMATIONAL", "FAILED")])
def test_a_case_that_only_tells_can_fail_too(said: tuple[str, str]) -> None:
    assert len(complaints({"7.1.6": result(*said)}, ["7.1.6"])) == 1


def test_a_case_that_never_ran_is_named() -> None:
    report = {"1.1.1": result(), "1.1.3": result()}
    assert complaints(report, ["1.1.1", "1.1.2", "1.1.3"]) == ["1.1.2: missing in the report"]
    assert len(complaints({}, CASES)) == len(CASES)


def test_a_case_without_a_word_on_it_is_named() -> None:
    assert complaints({"1.1.1": {}}, ["1.1.1"]) == ["1.1.1: behavior None, close None"]


def test_a_case_that_nobody_asked_for_is_named() -> None:
    report = {"1.1.1": result(), "8.1": result()}
    assert complaints(report, ["1.1.1"]) == ["8.1: nobody asked for it"]


def test_every_fault_of_a_report_is_named_in_the_order_of_the_suite() -> None:
    report = {"10.1.1": result("FAILED"), "2.1": result("NON-STRICT")}
    named = complaints(report, ["2.1", "9.1.1", "10.1.1"])
    assert [each.partition(":")[0] for each in named] == ["2.1", "9.1.1", "10.1.1"]


# Which cases


def test_the_suite_has_517_cases() -> None:
    assert len(CASES) == len(set(CASES)) == 517
    assert select([]) == list(CASES)
    assert set(groups(CASES)) == GROUPS


def test_a_pattern_stops_at_the_dot() -> None:
    assert len(select(["1.*"])) == 16
    assert select(["1.1.1", "2.1"]) == ["1.1.1", "2.1"]
    assert select(["2.1", "1.1.1", "1.1.1"]) == ["1.1.1", "2.1"]


def test_a_pattern_that_matches_no_case_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"there is no case 8\.\*"):
        select(["1.*", "8.*"])


def test_the_short_form_has_all_the_rules_and_something_of_each_group() -> None:
    short = groups(select(SHORT))
    whole = groups(CASES)
    assert set(short) == GROUPS
    assert all(short[name] == whole[name] for name in GROUPS - {"12", "13"})
    offers = {case.split(".")[1] for case in short["13"]}
    assert offers == {"1", "2", "3", "4", "5", "6", "7"}
