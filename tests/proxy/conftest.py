"""Conversations through a session, and logs that other tests have not limited."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from kveil.proxy import log
from tests.support.conversation import Conversation


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


@pytest.fixture
def audited() -> Iterator[list[dict[str, Any]]]:
    """The audit events that are written meanwhile."""
    events: list[dict[str, Any]] = []
    with structlog.testing.capture_logs() as lines:
        yield events
    events += [line["cloudevent"] for line in lines if line["event"] == "audit"]
