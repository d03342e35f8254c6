"""The ASGI specification, rule by rule: each has a name, a source, its text in our words, a check.

The rules are in tests/rfc/asgi/, one file for each document, and every one runs on both loops.
names.py has every type and key of the specification; one without a rule fails here.
"""

from __future__ import annotations

import re

import pytest

from kit.rig import both_loops
from rfc.asgi import core, extensions, http_scope, http_send, lifespan, live, websocket
from rfc.asgi.names import EXTENSIONS, MESSAGES, NAMES, NOT_OFFERED, SCOPES
from rfc.asgi.rule import KEPT, named

__all__: list[str] = []


IN_MEMORY = tuple(
    module.RULES for module in (core, http_scope, http_send, websocket, lifespan, extensions)
)
RULES = named(*IN_MEMORY)
# These get a real server: test_asgi_spec_live.py.
LIVE = named(*live.LISTS)
ALL = [*RULES.values(), *LIVE.values()]

# The parts of the documents that say what a server has to do.
SECTIONS = {
    "core": {
        *("Applications", "Legacy Applications", "Connection Scope", "Events", "Middleware"),
        *("Extra Keys", "Error Handling", "Extra Coroutines", "Protocol Specifications"),
        "Strings and Unicode",
    },
    "http": {
        *("Connection Scope", "Request", "Response Start", "Response Body", "Disconnect"),
        *("Disconnected Client", "WSGI Compatibility", "Version History", "Extensions"),
        "RFC 9112 section 6",
    },
    "websocket": {
        *("WebSocket", "Connection Scope", "Connect", "Accept", "Receive", "Send", "Disconnect"),
        *("Disconnected Client", "Close", "Version History", "Extensions"),
    },
    "lifespan": {
        *("Lifespan Protocol", "Lifespan State", "Scope", "Startup", "Startup Complete"),
        *("Startup Failed", "Shutdown", "Shutdown Complete", "Shutdown Failed"),
    },
    "extensions": {
        *("Extensions", "Websocket Denial Response", "HTTP/2 Server Push", "Zero Copy Send"),
        *("Path Send", "Early Hints", "HTTP Trailers", "Debug"),
    },
    "tls": {"When to use this extension", "TLS Connection Scope"},
}


@pytest.mark.parametrize("name", RULES)
@both_loops
async def test_rule(name: str) -> None:
    KEPT.clear()  # of the test before, whose loop is closed
    await RULES[name].check()


def test_every_name_of_the_specification_has_its_rule() -> None:
    """Types and keys alike; and no rule is about anything that is not in the list."""
    covered = {name for rule in ALL for name in rule.covers}
    assert covered == NAMES, sorted(covered ^ NAMES)


def test_every_section_of_the_specification_has_its_rule() -> None:
    """And no rule cites one that is not there."""
    cited: dict[str, set[str]] = {document: set() for document in SECTIONS}
    for rule in ALL:
        document, _, sections = rule.source.partition(": ")
        cited[document] |= set(sections.split("; "))
    assert cited == SECTIONS


def test_every_rule_has_a_text_and_a_name_of_its_own() -> None:
    count = sum(map(len, (*IN_MEMORY, *live.LISTS)))
    assert len({*RULES, *LIVE}) == count, "two rules of one document share a name"
    assert len(ALL) >= 150
    for rule in ALL:
        assert len(rule.text) > 20, rule.name
        assert re.fullmatch(r"[a-z0-9 ]+", rule.name), rule.name


def test_the_list_of_names_is_written_down_in_full() -> None:
    """Scopes, messages and extensions have a type, and no name is in two of the tables."""
    assert all("type" in keys for keys in (*SCOPES.values(), *MESSAGES.values()))
    assert not set(MESSAGES) & set(NOT_OFFERED)
    assert not set(EXTENSIONS) & set(NOT_OFFERED)
    assert len(NAMES) == 109
