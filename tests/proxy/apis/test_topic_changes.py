"""Requests that change topics: what was known of their settings is forgotten."""

import pytest

from kveil.protocol.kafka.api_table import ApiKey
from tests.support.conversation import DELETED
from tests.support.kio_instances import versions_of

ID = bytes(range(16))
TOPIC, BROKER = 2, 4


def known(talk):
    now = talk.shared.now()
    return {name for name in ("t", "u", "v") if talk.shared.topic_settings.find(name, now)}


def learn(talk):
    for name in ("t", "u", "v"):
        talk.shared.topic_settings.learn(name, DELETED, talk.shared.now())


def resources(*pairs):
    return {"resources": [{"resource_type": kind, "resource_name": name, "configs": []} for kind, name in pairs]}


CHANGES = [
    *((ApiKey.CREATE_TOPICS, v, {"topics": [{"name": "t"}, {"name": "u"}]}) for v in versions_of(ApiKey.CREATE_TOPICS)),
    *((ApiKey.DELETE_TOPICS, v, {"topic_names": ["t", "u"]}) for v in versions_of(ApiKey.DELETE_TOPICS) if v < 6),
    *(
        (ApiKey.DELETE_TOPICS, v, {"topics": [{"name": "t"}, {"name": None, "topic_id": ID}]})
        for v in versions_of(ApiKey.DELETE_TOPICS)
        if v >= 6
    ),
    *(
        (key, v, resources((TOPIC, "t"), (TOPIC, "u"), (BROKER, "v")))
        for key in (ApiKey.ALTER_CONFIGS, ApiKey.INCREMENTAL_ALTER_CONFIGS)
        for v in versions_of(key)
    ),
]


@pytest.mark.parametrize(("api_key", "version", "values"), CHANGES, ids=lambda v: getattr(v, "name", str(v)[:3]))
def test_settings_are_forgotten_with_the_request_and_again_with_the_answer(converse, api_key, version, values):
    talk = converse()
    talk.shared.topic_names.learn(ID, "u")
    learn(talk)
    number = talk.client(api_key, version, values)
    assert known(talk) == {"v"}
    learn(talk)  # another connection asked before the broker had changed them
    talk.broker(api_key, version, number)
    assert known(talk) == {"v"}
