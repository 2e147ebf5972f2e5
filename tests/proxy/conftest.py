"""Conversations through a session, and logs that other tests have not limited."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kveil.proxy import log
from kveil.proxy.admin.audit import Event, recorded_by
from kveil.proxy.apis import access
from kveil.proxy.context import Shared
from tests.support.conversation import Conversation, make_shared


@pytest.fixture
def converse(tmp_path) -> Callable[..., Conversation]:
    """Begin a conversation: `converse(topics=[...])`. All of a test share one key file."""

    def begin(**config: Any) -> Conversation:
        return Conversation(tmp_path, **config)

    return begin


@pytest.fixture
def fresh_log_limits(monkeypatch) -> None:
    """Lines that another test wrote a moment ago are written all the same."""
    monkeypatch.setattr(log, "_repeats", log.RepeatLimit())
    monkeypatch.setattr(access, "_grants", log.RepeatLimit())


@pytest.fixture
def audited(fresh_log_limits) -> Iterator[list[Event]]:
    """The audit events of the test."""
    found: list[Event] = []
    with recorded_by(found.append):
        yield found


@pytest.fixture
def writer(tmp_path) -> Shared:
    """Another proxy with the same key file, whose epoch keys the one under test has not met."""
    return make_shared(tmp_path)
