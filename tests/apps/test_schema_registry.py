"""Users of a schema registry, and the registry itself, which keeps its schemas in a compacted topic."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient

from tests.support.clients import Record, librdkafka_produce, librdkafka_read
from tests.support.kafka import Cluster
from tests.support.proxy import Proxy, kveil_proxy
from tests.support.schemas import Order, codec

T = 1_700_000_000_000
ORDERS: list[Order] = [
    {"id": number + 1, "customer": f"veiled customer {number}", "notes": ["ünï"] * (1 + number % 3)}
    for number in range(50)
]
Key = dict[str, Any]


@pytest.fixture(scope="module")
def preset_proxy(kafka: Cluster) -> Iterator[Proxy]:
    """A proxy that leaves the registry's topic plain on purpose."""
    with kveil_proxy(kafka.bootstrap, config={"presets": ["schema-registry"]}) as running:
        yield running


@pytest.mark.parametrize("proxy", ["auto", "record"], indirect=True)
@pytest.mark.parametrize("schema_id", ["before the value", "in a header"])
@pytest.mark.parametrize("kind", ["avro", "json", "protobuf"])
def test_serializers(kafka: Cluster, proxy: Proxy, topic: str, kind: str, schema_id: str):
    """The same bytes and headers as without a proxy, and the same values."""
    registry = SchemaRegistryClient.new_client({"url": "mock://"})
    orders = codec(kind, registry, in_headers=schema_id == "in a header")
    records = [orders.encode(order, topic, key=b"%d" % (n % 5), timestamp=T + n) for n, order in enumerate(ORDERS)]
    assert (records[0].headers != ()) == (schema_id == "in a header")
    read = []
    for name, bootstrap in ((f"{topic}-direct", kafka.bootstrap), (topic, proxy.bootstrap)):
        kafka.create_topic(name)
        librdkafka_produce(bootstrap, name, records, linger_ms=50)
        read.append(librdkafka_read(bootstrap, name))
    assert read[1] == read[0] == [replace(record, offset=n) for n, record in enumerate(records)]
    assert [orders.decode(record, topic) for record in read[1]] == ORDERS
    assert b"veiled" in kafka.stored_bytes(f"{topic}-direct")
    assert b"veiled" not in kafka.stored_bytes(topic)


class SchemaStore:
    """The registry's own table: JSON keys and values, deletes, and a record that it writes to find the end."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._bootstrap, self._topic = bootstrap, topic

    def put(self, key: Key, value: dict[str, Any] | None) -> None:
        """Write one row, or delete it."""
        text = None if value is None else json.dumps(value).encode()
        librdkafka_produce(self._bootstrap, self._topic, [Record(key=json.dumps(key).encode(), value=text)])

    def rows(self) -> dict[str, Any]:
        """All rows, read from the beginning to a record of its own."""
        end = {"keytype": "NOOP", "magic": 0}
        self.put(end, None)
        table: dict[str, Any] = {}
        read = librdkafka_read(self._bootstrap, self._topic)
        assert json.loads(read[-1].key or b"") == end
        for record in read:
            table[(record.key or b"").decode()] = None if record.value is None else json.loads(record.value)
        return table


def schema_key(subject: str, version: int) -> Key:
    """The key of a schema's version."""
    return {"keytype": "SCHEMA", "subject": subject, "version": version, "magic": 1}


def life_of_a_registry(kafka: Cluster, bootstrap: str, topic: str) -> list[dict[str, Any]]:
    """Register schemas, change and delete some of them; gives the table after each part, as a new process reads it."""
    kafka.create_topic(topic, config={"cleanup.policy": "compact"})
    seen = []
    store = SchemaStore(bootstrap, topic)
    for number in range(10):
        schema = {"subject": f"veiled-{number % 5}", "version": 1 + number // 5, "id": number, "deleted": False}
        store.put(schema_key(schema["subject"], schema["version"]), schema | {"schema": '{"type":"string"}'})
    store.put({"keytype": "CONFIG", "subject": None, "magic": 0}, {"compatibilityLevel": "FULL"})
    seen.append(SchemaStore(bootstrap, topic).rows())
    store.put(schema_key("veiled-1", 2), {"subject": "veiled-1", "version": 2, "id": 6, "deleted": True})
    store.put(schema_key("veiled-3", 1), None)
    store.put({"keytype": "CONFIG", "subject": None, "magic": 0}, {"compatibilityLevel": "NONE"})
    seen.append(SchemaStore(bootstrap, topic).rows())
    return seen


@pytest.fixture(scope="module")
def plain_tables(kafka: Cluster) -> list[dict[str, Any]]:
    """What the registry reads without a proxy."""
    return life_of_a_registry(kafka, kafka.bootstrap, "schemas-plain")


def test_the_plain_tables(plain_tables: list[dict[str, Any]]):
    assert [len(table) for table in plain_tables] == [12, 12]
    assert plain_tables[1][json.dumps(schema_key("veiled-3", 1))] is None


def test_the_registrys_topic_plain_by_the_preset(
    kafka: Cluster, preset_proxy: Proxy, plain_tables: list[dict[str, Any]]
):
    assert life_of_a_registry(kafka, preset_proxy.bootstrap, "_schemas") == plain_tables
    assert b"veiled-3" in kafka.stored_bytes("_schemas")
    kafka.delete_topic("_schemas")  # the name is not this test's alone


@pytest.mark.parametrize("proxy", ["auto", "record"], indirect=True)
def test_the_registrys_topic_sealed(kafka: Cluster, proxy: Proxy, plain_tables: list[dict[str, Any]], topic: str):
    """Its keys too: the broker compacts by what it can't read."""
    assert life_of_a_registry(kafka, proxy.bootstrap, topic) == plain_tables
    stored = kafka.stored_bytes(topic)
    assert stored
    assert b"veiled" not in stored
    assert b"keytype" not in stored
