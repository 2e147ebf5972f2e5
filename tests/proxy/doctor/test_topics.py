"""What of a topic's settings will make trouble."""

import pytest

from kveil.proxy.config import Settings
from kveil.proxy.doctor.findings import Level
from kveil.proxy.doctor.topics import judge_topics, look_at_topics
from kveil.proxy.errors import ErrorCode, Refused
from kveil.proxy.policy import Policy
from kveil.proxy.topics import TopicSettings
from tests.support.conversation import make_shared
from tests.support.scripted_broker import ScriptedBroker, describe_configs

ROOM = 1_183_757
ROOM_FOR_RECORDS = 4 * 1_048_588
WELL = {"cleanup_policy": frozenset({"delete"}), "max_message_bytes": ROOM, "compression_type": "producer"}


def judged(rule=None, **settings):
    rules = [] if rule is None else [{"match": "*", **rule}]
    policy = Policy(Settings.model_validate({"upstream": {"bootstrap": ["b:1"]}, "topics": rules}))
    return judge_topics(policy, {"orders": TopicSettings(**(WELL | settings))})


def test_a_topic_that_is_well():
    (found,) = judged()
    assert (found.check, found.level) == ("topic orders", Level.OK)
    assert found.what == "sealed in batch mode with keyfile:default (no rule: sealed)"


@pytest.mark.parametrize(
    ("rule", "settings", "level", "said", "remedy"),
    [
        ({}, {"max_message_bytes": ROOM - 1}, Level.WARNING, "max.message.bytes", "kveil prepare orders"),
        ({"mode": "record"}, {"max_message_bytes": ROOM}, Level.WARNING, "max.message.bytes", "kveil prepare orders"),
        ({"mode": "batch"}, {"cleanup_policy": {"compact"}}, Level.FAILURE, "compacted", "mode: auto"),
        ({"mode": "batch"}, {"cleanup_policy": {"compact", "delete"}}, Level.FAILURE, "compacted", "mode: auto"),
        ({}, {"unreadable": "denied", "max_message_bytes": None}, Level.WARNING, "(denied)", "DESCRIBE_CONFIGS"),
        ({}, {"compression_type": "gzip"}, Level.WARNING, "compression.type gzip", "producer"),
        (
            {"mode": "record", "timestamps": "create"},
            {"message_timestamp_type": "LogAppendTime", "max_message_bytes": ROOM_FOR_RECORDS},
            Level.FAILURE,
            "LogAppendTime",
            "CreateTime",
        ),
    ],
)
def test_trouble(rule, settings, level, said, remedy):
    (found,) = judged(rule, **settings)
    assert (found.check, found.level) == ("topic orders", level)
    assert said in found.what
    assert remedy in found.remedy


@pytest.mark.parametrize(
    ("rule", "settings"),
    [
        ({"raise_message_limit": True}, {"max_message_bytes": 100}),
        ({"mode": "batch"}, {"unreadable": "denied", "max_message_bytes": None}),
        ({}, {"cleanup_policy": {"compact"}, "max_message_bytes": ROOM_FOR_RECORDS}),
        ({"timestamps": "create"}, {"message_timestamp_type": "LogAppendTime"}),
        ({}, {"compression_type": "uncompressed"}),
        ({}, {"compression_type": None}),
    ],
)
def test_no_trouble(rule, settings):
    assert [found.level for found in judged(rule, **settings)] == [Level.OK]


def test_every_trouble_is_told():
    assert len(judged({}, max_message_bytes=100, compression_type="zstd")) == 2


def test_a_plain_topic_has_none():
    (found,) = judged({"seal": "none"}, max_message_bytes=100)
    assert (found.level, found.what) == (Level.OK, "PLAIN (topics[0] *)")


def test_a_topic_that_is_not_there():
    policy = Policy(Settings.model_validate({"upstream": {"bootstrap": ["b:1"]}}))
    unknown = Refused(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "the broker knows no such topic")
    (found,) = judge_topics(policy, {"orders": unknown})
    assert (found.level, "no such topic" in found.what) == (Level.FAILURE, True)


async def test_the_broker_is_asked_for_those_that_are_named(tmp_path):
    async with ScriptedBroker() as broker:
        shared = make_shared(tmp_path, upstream=broker.address)
        (left,) = await look_at_topics(shared, [])
        assert (left.level, broker.requests) == (Level.SKIPPED, [])
        broker.answers[32] = lambda request: describe_configs(request, **{"max.message.bytes": str(ROOM)})
        found = await look_at_topics(shared, ["a", "b"])
    assert [(one.check, one.level) for one in found] == [("topic a", Level.OK), ("topic b", Level.OK)]
