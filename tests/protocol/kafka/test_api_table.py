"""The table is closed: every API of Kafka 4.3 has a row and a reason."""

import pytest
from kio.schema.index import api_key_map

from kveil.protocol.kafka.api_table import API_TABLE, FETCH_MIN_VERSION, Action, ApiKey
from kveil.proxy.apis import REWRITES
from kveil.proxy.apis.exchange import Exchange
from tests.support.kio_instances import versions_of

LAST = 92
"""DeleteShareGroupOffsets, the last API of Kafka 4.3."""
REFUSED = {4, 5, 6, 7, *range(52, 55), 56, 58, 59, 62, 63, 67, 70, 73, *range(82, 88)}
"""Never sent by clients."""
WITH_ADDRESSES = {ApiKey.PRODUCE, ApiKey.FETCH, ApiKey.METADATA, ApiKey.FIND_COORDINATOR, ApiKey.DESCRIBE_CLUSTER,
                  ApiKey.SHARE_FETCH, ApiKey.SHARE_ACKNOWLEDGE}  # fmt: skip


def rows(action):
    return {key for key, row in API_TABLE.items() if row.action is action}


def test_every_api_has_a_row_and_a_reason():
    assert set(API_TABLE) == set(range(LAST + 1))
    assert set(api_key_map) <= set(API_TABLE)
    assert all(row.key == key and row.name and row.reason for key, row in API_TABLE.items())


def test_what_brokers_and_controllers_say_to_each_other_is_refused():
    assert rows(Action.REFUSE) == REFUSED


def test_whatever_is_rewritten_has_a_module():
    assert set(REWRITES) == rows(Action.REWRITE)
    assert all(issubclass(exchange, Exchange) for exchange in REWRITES.values())


def test_answers_with_addresses_drop_what_is_unknown():
    assert {key for key, exchange in REWRITES.items() if exchange.CARRIES_ADDRESSES} == WITH_ADDRESSES


@pytest.mark.parametrize("row", API_TABLE.values(), ids=lambda row: row.name)
def test_versions_are_those_that_kio_knows(row):
    if row.action is Action.REFUSE:
        assert row.min_version > row.max_version
    else:
        assert list(range(row.min_version, row.max_version + 1)) == versions_of(row.key)


def test_names_are_those_of_the_schemas():
    assert {key: API_TABLE[key].name for key in ApiKey} == {
        key: "".join(word.capitalize() for word in key.name.split("_")) for key in ApiKey
    }
    assert all(row.name[0].isupper() and row.name.isalpha() for row in API_TABLE.values())


def test_least_versions():
    assert API_TABLE[ApiKey.FETCH].min_version >= FETCH_MIN_VERSION
    assert API_TABLE[ApiKey.PRODUCE].min_version == 3
