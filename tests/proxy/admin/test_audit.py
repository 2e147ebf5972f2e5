"""Audit events are CloudEvents 1.0, and show no secret."""

import datetime
import re
import typing

import pytest
from structlog.testing import capture_logs

from kveil.proxy.admin.audit import AuditType, audit
from kveil.proxy.secret import Secret

KINDS = typing.get_args(AuditType)


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_has_what_the_specification_asks(kind):
    event = audit(kind, "orders", records=3)
    assert event["specversion"] == "1.0"
    assert event["type"] == f"io.kveil.{kind}"
    assert event["subject"] == "orders"
    assert event["datacontenttype"] == "application/json"
    assert event["data"] == {"records": 3}
    # An RFC 3339 time and a URI reference.
    assert datetime.datetime.fromisoformat(event["time"]).tzinfo is datetime.UTC
    assert re.fullmatch(r"/kveil/[^/\s]+/[0-9]+", event["source"])
    assert set(event) == {"specversion", "id", "source", "type", "time", "subject", "datacontenttype", "data"}


def test_the_types_are_for_ever():
    assert set(KINDS) >= {
        "key.created",
        "key.erased",
        "key.refused",
        "key.unwrapped",
        "plain.passed",
        "records.skipped",
        "topic.renamed",
    }


def test_no_two_events_have_one_id():
    assert len({audit("plain.passed", "t")["id"] for _ in range(100)}) == 100


def test_an_event_is_a_log_line():
    with capture_logs() as lines:
        event = audit("key.created", "orders", kid="00ff")
    (line,) = lines
    assert line["event"] == "audit"
    assert line["log_level"] == "info"
    assert line["cloudevent"] == event


def test_an_event_shows_no_secret():
    event = audit("key.unwrapped", "orders", secret=Secret(b"hunter2"), wrapped=b"hunter2")
    assert "hunter2" not in repr(event)
    assert event["data"]["wrapped"] == "<7 bytes>"
