"""The key-hiding key where a key service keeps the keys: wrapped once, unwrapped when record mode first needs it."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import KafkaError

from tests.support.clients import Record, librdkafka_produce, librdkafka_read, librdkafka_refusal, numbered
from tests.support.kafka import Cluster
from tests.support.key_services.own import OWN_PROVIDER
from tests.support.proxy import Proxy, kveil, kveil_proxy
from tests.support.raw_client import RawClient, batch

SECONDS = 60.0
T = 1_700_000_000_000
NOT_ENOUGH_REPLICAS, KAFKA_STORAGE_ERROR = 19, 56
RECORDS = [Record(value=b"%d" % number, key=b"customer %d" % (number % 3), timestamp=T) for number in range(9)]


@pytest.fixture
def service(tmp_path: Path) -> Path:
    """What the key service holds; without the file it is down."""
    path = tmp_path / "service.json"
    assert kveil("keys", "init", "--keys", str(path), "--realm", "lab").returncode == 0
    return path


@pytest.fixture
def keys(tmp_path: Path, service: Path) -> dict[str, Any]:
    """The section `keys` of a proxy's configuration, with a file made by it."""
    section = {
        "provider": OWN_PROVIDER,
        "path": str(tmp_path / "keys.json"),
        "options": {"path": str(service)},
        "lazy": True,
        "call_timeout_seconds": 1,
    }
    config = tmp_path / "init.yaml"
    config.write_text(yaml.safe_dump({"keys": section, "realm": "lab"}))
    done = kveil("keys", "init", "-c", str(config))
    assert done.returncode == 0, done.stderr
    return section


@pytest.fixture
def pair(kafka: Cluster, keys: dict[str, Any]) -> Iterator[tuple[Proxy, Proxy]]:
    """Two hosts. Their topics' keys are in the file, so that only the key-hiding key needs the service."""
    assert kveil("keys", "add", "keyfile:local", "--keys", keys["path"]).returncode == 0
    config = {"keys": {**keys, "default": "keyfile:local"}}
    path = Path(keys["path"])
    with (
        kveil_proxy(kafka.bootstrap, keys=path, config=config) as one,
        kveil_proxy(kafka.bootstrap, keys=path, config=config) as two,
    ):
        yield one, two


def test_keys_are_hidden_alike_at_every_host(kafka: Cluster, pair: tuple[Proxy, Proxy], topic: str):
    kafka.create_topic(topic, config={"cleanup.policy": "compact"})
    for proxy in pair:
        librdkafka_produce(proxy.bootstrap, topic, RECORDS)
    for proxy in pair:
        assert librdkafka_read(proxy.bootstrap, topic) == numbered(RECORDS + RECORDS)
    wire = [record.key for record in librdkafka_read(kafka.bootstrap, topic)]
    assert {len(key) for key in wire} == {32}
    assert len(set(wire)) == 3
    assert wire[:3] * 6 == wire
    for proxy in pair:
        events = [line["cloudevent"] for line in proxy.events("audit")]
        unwrapped = [
            event for event in events if (event["type"], event["subject"]) == ("io.kveil.key.unwrapped", "lab")
        ]
        assert len(unwrapped) == 1


def test_without_the_service_clients_are_told_to_try_again(
    kafka: Cluster, pair: tuple[Proxy, Proxy], service: Path, topic: str
):
    """And what they tried works as soon as the service is back."""
    writer, reader = pair
    kafka.create_topic(topic, config={"cleanup.policy": "compact"})
    away = service.with_suffix(".away")
    service.rename(away)
    assert produce(writer, topic) == NOT_ENOUGH_REPLICAS
    away.rename(service)
    until_it_works(lambda: produce(writer, topic) == 0)
    service.rename(away)
    assert fetch_error(reader, topic) == KAFKA_STORAGE_ERROR
    away.rename(service)
    until_it_works(lambda: fetch_error(reader, topic) == 0)
    (record,) = librdkafka_read(reader.bootstrap, topic)
    assert (record.key, record.value) == (b"k", b"v")
    for proxy in pair:
        assert proxy.child.exit_code is None


def produce(proxy: Proxy, topic: str) -> int:
    with RawClient(proxy.bootstrap) as client:
        return client.produce({topic: {0: batch([b"v"], key=b"k")}})[topic, 0][0]


def fetch_error(proxy: Proxy, topic: str) -> int:
    with RawClient(proxy.bootstrap) as client:
        return client.fetch(topic).error


def until_it_works(works: Callable[[], bool]) -> None:
    """Within the time after which a service is asked again that was down."""
    deadline = time.monotonic() + SECONDS
    while not works():
        assert time.monotonic() < deadline, "the service is back, and was not asked"


def test_without_any_no_key_is_shown(kafka: Cluster, keys: dict[str, Any], topic: str):
    """Batch mode needs none; record mode is refused, with the way out in the log."""
    Path(keys["path"]).unlink()
    plain_mode, record_mode = f"{topic}-batch", f"{topic}-record"
    kafka.create_topic(plain_mode)
    kafka.create_topic(record_mode, config={"cleanup.policy": "compact"})
    with kveil_proxy(kafka.bootstrap, keys=Path(keys["path"]), config={"keys": keys, "realm": "lab"}) as proxy:
        librdkafka_produce(proxy.bootstrap, plain_mode, RECORDS)
        assert librdkafka_read(proxy.bootstrap, plain_mode) == numbered(RECORDS)
        refused = librdkafka_refusal(proxy.bootstrap, record_mode)
        assert refused.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
        assert "kveil keys init" in proxy.events("produce_refused")[-1]["reason"]
    assert kafka.stored_bytes(record_mode) == b""
