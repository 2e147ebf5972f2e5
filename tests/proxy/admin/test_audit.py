"""Audit events are CloudEvents 1.0, say who asked for what, and show no secret."""

import asyncio
import io
import json
import typing

import pytest
from jsonschema import ValidationError
from structlog.testing import capture_logs

from kveil.proxy import log
from kveil.proxy.admin.audit import MAX_TEXT, AuditType, Cause, audit, caused_by
from kveil.proxy.secret import Secret
from tests.support.cloudevents import check_event

KINDS = typing.get_args(AuditType)
CAUSE = Cause(principal="billing", client_id="app-1", address="10.1.2.3", operation="Fetch", correlation_id=7)


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_has_what_the_specification_asks(kind, audited):
    event = audit(kind, "orders", CAUSE, records=3)
    assert check_event(json.loads(json.dumps(event))) == event
    assert event["type"] == f"io.kveil.{kind}"
    assert event["subject"] == "orders"
    assert event["data"] == {**CAUSE._asdict(), "records": 3}
    assert set(event) == {"specversion", "id", "source", "type", "time", "subject", "datacontenttype", "data"}
    assert audited == [event]


@pytest.mark.parametrize(
    "change",
    [
        {"specversion": "0.3"},
        {"id": ""},
        {"source": "two words"},
        {"time": "2026-03-01 08:00:00"},
        {"time": "2026-03-01T08:00:00+01:00"},
        {"subject": ""},
        {"Subject": "orders"},
        {"correlation_id": 7},
        {"extension": {"a": 1}},
        {"data_base64": "AA=="},
        {"datacontenttype": "json"},
    ],
)
def test_what_is_no_event_is_found_out(change, audited):
    with pytest.raises(ValidationError):
        check_event({**audit("key.created", "orders"), **change})


@pytest.mark.parametrize("name", ["id", "source", "specversion", "type"])
def test_what_lacks_an_attribute_is_found_out(name, audited):
    event = audit("key.created", "orders")
    del event[name]
    with pytest.raises(ValidationError):
        check_event(event)


def test_the_types_are_for_ever():
    assert set(KINDS) >= {
        "access.granted",
        "access.refused",
        "batch.refused",
        "config.changed",
        "key.added",
        "key.created",
        "key.destroyed",
        "key.erased",
        "key.refused",
        "key.rotated",
        "key.unwrapped",
        "login.granted",
        "login.refused",
        "plain.passed",
        "proxy.started",
        "proxy.stopped",
        "records.skipped",
        "topic.copied_plain",
        "topic.limit_raised",
        "topic.renamed",
        "user.added",
        "user.changed",
        "user.removed",
    }


def test_no_two_events_have_one_id(audited):
    assert len({audit("plain.passed", "t")["id"] for _ in range(100)}) == 100


class TestCause:
    async def test_tasks_inherit_it(self, audited):
        async def decide():
            audit("key.created", "orders")

        async def work():
            caused_by.set(CAUSE)
            await asyncio.create_task(decide())

        await asyncio.create_task(work())
        audit("key.created", "orders")  # its own context has none
        assert [event["data"] for event in audited] == [CAUSE._asdict(), {}]

    def test_what_the_caller_says_counts(self, audited):
        token = caused_by.set(CAUSE)
        try:
            event = audit("key.created", "orders", CAUSE._replace(principal="audit", correlation_id=8))
        finally:
            caused_by.reset(token)
        assert (event["data"]["principal"], event["data"]["correlation_id"]) == ("audit", 8)

    def test_what_is_not_known_is_left_out_but_for_the_principal(self, audited):
        event = audit("key.created", "orders", Cause(None, None, "10.1.2.3", "Fetch", 0))
        assert event["data"] == {"principal": None, "address": "10.1.2.3", "operation": "Fetch", "correlation_id": 0}

    def test_what_a_client_chooses_is_cut(self, audited):
        event = audit("key.created", "orders", CAUSE._replace(client_id="x" * 32_000))
        assert event["data"]["client_id"] == "x" * MAX_TEXT


class TestLog:
    def test_an_event_is_a_line(self):
        with capture_logs() as lines:
            event = audit("key.created", "orders", kid="00ff")
        (line,) = lines
        assert line["event"] == "audit"
        assert line["log_level"] == "info"
        assert line["cloudevent"] == event

    @pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
    def test_whatever_the_level_is(self, level):
        out = io.StringIO()
        log.configure("json", level, out)
        event = audit("key.created", "orders")
        line = json.loads(out.getvalue())
        assert (line["event"], line["cloudevent"]) == ("audit", event)
        assert line["module"] == "proxy.admin.audit"

    def test_other_lines_have_their_level(self):
        out = io.StringIO()
        log.configure("json", "error", out)
        log.get_logger("kveil.proxy.x").warning("something")
        assert out.getvalue() == ""


def test_an_event_shows_no_secret(audited):
    event = audit("key.unwrapped", "orders", secret=Secret(b"hunter2"), wrapped=b"hunter2", deep={"a": [b"hunter2"]})
    assert "hunter2" not in repr(event)
    assert event["data"]["wrapped"] == "<7 bytes>"
