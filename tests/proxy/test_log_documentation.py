"""docs/logs.md has every event of the log, with its levels and fields, and none that there isn't."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import kveil.proxy
from kveil.proxy.log import LEVELS

DOCS = Path(__file__).parents[2] / "docs" / "logs.md"
SOURCES = Path(kveil.proxy.__file__).resolve().parent
ROW = re.compile(r"^\| `([a-z_]+)` \| ([^|]+) \| (.+) \| ([^|]*)\|$", re.MULTILINE)
NAME = re.compile(r"[a-z]+(_[a-z]+)*")
METHODS = {**{name: name for name in LEVELS}, "exception": "error"}
NO_FIELDS = {"key", "limit", "exc_info"}


class Line(NamedTuple):
    """One place in the code that logs."""

    event: str
    level: str | None
    """None where the code says it elsewhere."""
    fields: frozenset[str]
    is_limited: bool


def level_of(method: ast.expr) -> str | None:
    return METHODS.get(method.attr) if isinstance(method, ast.Attribute) else None


def branches(node: ast.expr) -> list[ast.expr]:
    return [node.body, node.orelse] if isinstance(node, ast.IfExp) else [node, node]


def lines_of(call: ast.Call) -> Iterator[Line]:
    """What a call logs, if it is one that does."""
    fields = frozenset(word.arg for word in call.keywords if word.arg) - NO_FIELDS
    if isinstance(call.func, ast.Name) and call.func.id == "log_limited":
        how, event = call.args[0], call.args[1]
    elif isinstance(call.func, ast.Attribute) and call.func.attr in METHODS and call.args:
        how, event = call.func, call.args[0]
    else:
        return
    for method, name in zip(branches(how), branches(event), strict=True):
        if isinstance(name, ast.Constant) and isinstance(name.value, str) and NAME.fullmatch(name.value):
            yield Line(name.value, level_of(method), fields, isinstance(call.func, ast.Name))


def logged() -> dict[str, list[Line]]:
    """By event, where it is logged."""
    found: dict[str, list[Line]] = {}
    for path in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            for line in lines_of(node) if isinstance(node, ast.Call) else ():
                found.setdefault(line.event, []).append(line)
    return found


LOGGED = logged()


def documented() -> dict[str, tuple[str, str, str]]:
    return {event: (level, when, fields) for event, level, when, fields in ROW.findall(DOCS.read_text())}


def test_the_code_was_read():
    assert {"listening", "stopped", "access_refused", "key_service_down", "audit"} <= LOGGED.keys()
    assert len(LOGGED) > 40


def test_the_events_are_the_documented_ones():
    assert sorted(documented()) == sorted(LOGGED)


@pytest.mark.parametrize("event", LOGGED)
def test_an_event_is_documented(event: str):
    level, when, fields = documented()[event]
    named = set(re.findall(r"`([a-z_]+)`", fields))
    for line in LOGGED[event]:
        assert line.level in {level, None}
        assert line.fields <= named
        assert when.endswith("limited") == line.is_limited
