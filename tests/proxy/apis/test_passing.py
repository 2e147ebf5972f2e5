"""Frames that need no change leave as the very same bytes (R4), whatever a newer peer put into them."""

import random
from dataclasses import fields

import pytest

from kveil.protocol.kafka.api_table import API_TABLE, Action, ApiKey
from tests.support.kio_instances import SPARSE, Kind, make, versions_of, write_frame_of

NEWER = [(900, b"from a newer peer"), (901, b"")]
FORWARDED = [row for row in API_TABLE.values() if row.action is Action.FORWARD]
SEEDS = (SPARSE, 0, 1, 2)


def frames(api_key, version, *, is_request, chosen=None, unknown=NEWER, **options):
    for seed in SEEDS:
        schema = Kind(api_key, version, is_request=is_request).schema
        known = {field.name for field in fields(schema)}
        entity = make(schema, seed, **{name: value for name, value in (chosen or {}).items() if name in known})
        yield write_frame_of(entity, unknown, **options)


def both_ways(talk, request, response):
    talk.client_frame(request)
    talk.meet()
    assert talk.to_broker == [request]
    talk.broker_frame(response)
    talk.meet()
    assert talk.to_client == [response]


@pytest.mark.parametrize("row", FORWARDED, ids=lambda row: row.name)
def test_forwarded_apis(converse, row):
    talk = converse()
    for version in versions_of(row.key):
        pairs = zip(frames(row.key, version, is_request=True), frames(row.key, version, is_request=False), strict=True)
        for request, response in pairs:
            both_ways(talk, request, response)


@pytest.mark.parametrize("row", FORWARDED, ids=lambda row: row.name)
def test_answers_of_forwarded_apis_are_not_even_read(converse, row):
    """Unknown error codes, damage, other layouts: all of it is between the client and the broker."""
    talk, chance = converse(), random.Random(row.key)
    request = next(frames(row.key, row.max_version, is_request=True))
    for size in (0, 1, 50, 5000):
        both_ways(talk, request, request[4:8] + chance.randbytes(size))


NO_ADDRESSES = {"node_endpoints": (), "brokers": (), "coordinators": (), "node_id": -1, "host": "", "port": -1}
REWRITTEN = [
    # API, what to choose in the request, what in the answer
    (ApiKey.METADATA, {}, NO_ADDRESSES | {"topics": ()}),
    (ApiKey.FIND_COORDINATOR, {}, NO_ADDRESSES),
    (ApiKey.DESCRIBE_CLUSTER, {}, NO_ADDRESSES),
    (ApiKey.SHARE_ACKNOWLEDGE, {}, NO_ADDRESSES),
    (ApiKey.SHARE_FETCH, {"topics": ()}, NO_ADDRESSES | {"responses": ()}),
    (ApiKey.FETCH, {"topics": (), "replica_id": -1, "replica_state": None}, NO_ADDRESSES | {"responses": ()}),
    (ApiKey.PRODUCE, {"acks": -1, "topic_data": ()}, NO_ADDRESSES),
    (ApiKey.LIST_OFFSETS, {"topics": ()}, {}),
    (ApiKey.CREATE_TOPICS, {}, {}),
    (ApiKey.DELETE_TOPICS, {}, {}),
    (ApiKey.ALTER_CONFIGS, {}, {}),
    (ApiKey.INCREMENTAL_ALTER_CONFIGS, {}, {}),
    (ApiKey.SASL_HANDSHAKE, {"mechanism": "PLAIN"}, {}),
    (ApiKey.SASL_AUTHENTICATE, {}, {}),
]


@pytest.mark.parametrize(
    ("api_key", "request_values", "response_values"), REWRITTEN, ids=lambda v: getattr(v, "name", "")
)
def test_rewritten_apis_with_nothing_to_rewrite(converse, api_key, request_values, response_values):
    # In answers with addresses a newer broker's fields are dropped: test_addresses.py.
    unknown = () if response_values else NEWER
    if api_key == ApiKey.FETCH:
        state = {field.name: field for field in fields(Kind(1, 17, is_request=True).schema)}["replica_state"].default
        request_values = request_values | {"replica_state": state}
    for version in versions_of(api_key):
        requests = frames(api_key, version, is_request=True, chosen=request_values)
        responses = frames(api_key, version, is_request=False, chosen=response_values, unknown=unknown)
        for request, response in zip(requests, responses, strict=True):
            both_ways(converse(), request, response)


def test_plain_topics_pass_with_their_records(converse):
    for version in range(3, 14):
        talk = converse(topics=[{"match": "*", "seal": "none"}])
        topics = make(Kind(0, version, is_request=True).schema, 0).topic_data
        for topic in topics if version >= 13 else ():
            talk.shared.topic_names.learn(topic.topic_id.bytes, "t")
            talk.shared.topic_names.give(("127.0.0.1", "app"), topic.topic_id.bytes)
        request = next(frames(0, version, is_request=True, chosen={"acks": 1, "topic_data": topics}))
        talk.client_frame(request)
        talk.meet()
        assert talk.to_broker == [request]


def test_fetched_plain_topics_pass_with_their_records(converse):
    for version in versions_of(1):
        talk = converse(topics=[{"match": "*", "seal": "none"}])
        schema = Kind(1, version, is_request=False).schema
        entity = make(schema, 0, **({"node_endpoints": ()} if version >= 16 else {}))
        for topic in entity.responses if version >= 13 else ():
            talk.shared.topic_names.learn(topic.topic_id.bytes, "t")
            talk.shared.topic_names.give(("127.0.0.1", "app"), topic.topic_id.bytes)
        talk.client(1, version, number=7)
        talk.broker_frame(write_frame_of(entity))
        assert talk.to_client == [write_frame_of(entity)]
