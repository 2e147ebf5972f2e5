"""The drills of docs/keys.md, each with a real key service, proxies as users run them, and a real broker."""

import base64
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from kveil.protocol.envelope.batch import peek
from kveil.protocol.envelope.sealed_batch import SealedBatch
from kveil.protocol.kafka.record_batch import read_header, split_batches
from tests.support.kafka import Cluster
from tests.support.key_services import KEY_SERVERS, start_key_server
from tests.support.key_services.service import KeyServer
from tests.support.proxy import Proxy, kveil_proxy
from tests.support.raw_client import RawClient, batch
from tests.support.waiting import wait_until

NOT_ENOUGH_REPLICAS = 19
TOPIC_AUTHORIZATION_FAILED = 29
KAFKA_STORAGE_ERROR = 56

LEASE_SECONDS = 3.0
CACHE_SECONDS = 4.0
SLACK_SECONDS = 3.0
"""For a busy machine, and for the 1 s in which a refusal is remembered."""

KEY = "drill"


@pytest.fixture(scope="module", params=KEY_SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyServer]:
    with start_key_server(request.param, tmp_path_factory.mktemp(request.param)) as started:
        yield started


@pytest.fixture
def key(server: KeyServer, topic: str) -> str:
    """A key of this test's own."""
    name = f"{KEY}-{topic[-8:]}"
    server.make_key(name)
    return name


@contextmanager
def proxy_with(kafka: Cluster, server: KeyServer, key: str, folder: Path, **keys: Any) -> Iterator[Proxy]:
    """A proxy whose topics have this key."""
    settings = {
        "path": str(folder / "no-file.json"),
        **server.keys_settings(),
        "seal_lease_seconds": LEASE_SECONDS,
        "unwrap_cache_seconds": CACHE_SECONDS,
        "call_timeout_seconds": 1,
        **keys,
    }
    config = {"realm": "test", "keys": settings, "limits": {"refused_key_seconds": 1}}
    rules = [{"match": "*", "mode": "batch", "key": key}]
    with kveil_proxy(kafka.bootstrap, keys=folder / "no-file.json", topics=rules, config=config) as proxy:
        yield proxy


def produce(proxy: Proxy, topic: str, value: bytes = b"value") -> int:
    """The error code of a Produce, 0 if it was taken."""
    with RawClient(proxy.bootstrap) as client:
        return client.produce({topic: {0: batch([value])}})[topic, 0][0]


def fetch(proxy: Proxy, topic: str, offset: int = 0) -> tuple[int, list[bytes | None]]:
    """The error code of a Fetch, and the values."""
    with RawClient(proxy.bootstrap) as client:
        found = client.fetch(topic, offset=offset)
        return found.error, [value for _, value in found.values]


def envelopes(stored: bytes) -> list[SealedBatch]:
    return [peek(one, read_header(one)) for one in map(memoryview, split_batches(stored))]


def versions(kafka: Cluster, topic: str) -> list[str]:
    """Of which version of the key the envelopes on the broker speak."""
    with RawClient(kafka.bootstrap) as client:
        return [one.block.version for one in envelopes(client.fetch(topic).records)]


def seconds_until(is_so: Callable[[], bool]) -> float:
    began = time.monotonic()
    wait_until(is_so)
    return time.monotonic() - began


def calls(proxy: Proxy) -> int:
    """How many calls to key services there were."""
    proxy.signal(signal.SIGUSR1)
    samples = proxy.wait_for_event("metrics")
    return sum(count for name, count in samples.items() if name.startswith("kveil_key_calls_total"))


@pytest.mark.broker
def test_a_disabled_key_stops_sealing_and_opening_in_time(kafka, server, key, topic, tmp_path):
    kafka.create_topic(topic)
    with proxy_with(kafka, server, key, tmp_path) as writer, proxy_with(kafka, server, key, tmp_path) as reader:
        assert produce(writer, topic) == 0
        assert fetch(reader, topic) == (0, [b"value"])
        server.disable(key)
        began = time.monotonic()
        sealing = seconds_until(lambda: produce(writer, topic) == TOPIC_AUTHORIZATION_FAILED)
        wait_until(lambda: fetch(reader, topic)[0] == TOPIC_AUTHORIZATION_FAILED)
        opening = time.monotonic() - began
        assert sealing <= LEASE_SECONDS + SLACK_SECONDS
        assert opening <= CACHE_SECONDS + SLACK_SECONDS
        server.enable(key)
        wait_until(lambda: produce(writer, topic, b"again") == 0)
        wait_until(lambda: fetch(reader, topic)[1][-1:] == [b"again"])


@pytest.mark.broker
def test_a_rotated_key_seals_by_itself_and_the_old_version_still_opens(kafka, server, key, topic, tmp_path):
    kafka.create_topic(topic)
    with proxy_with(kafka, server, key, tmp_path) as proxy:
        assert produce(proxy, topic) == 0
        server.rotate(key)
        if server.has_versions:
            wait_until(lambda: produce(proxy, topic) == 0 and len(set(versions(kafka, topic))) == 2)
        else:
            assert produce(proxy, topic) == 0
    with proxy_with(kafka, server, key, tmp_path) as fresh:
        error, values = fetch(fresh, topic)
        assert (error, set(values)) == (0, {b"value"})
        assert len(values) == len(versions(kafka, topic))


@pytest.mark.broker
def test_sighup_takes_up_a_rotation_at_once(kafka, server, key, topic, tmp_path):
    kafka.create_topic(topic)
    with proxy_with(kafka, server, key, tmp_path, seal_lease_seconds=3600) as proxy:
        assert produce(proxy, topic) == 0
        server.rotate(key)
        proxy.signal(signal.SIGHUP)
        proxy.wait_for_event("reloading")
        assert produce(proxy, topic) == 0
        with RawClient(kafka.bootstrap) as client:
            first, second = envelopes(client.fetch(topic).records)
        assert first.kid != second.kid
        assert (first.block.version != second.block.version) == server.has_versions


@pytest.mark.broker
def test_an_outage_stops_only_what_is_new_and_ends_by_itself(kafka, server, key, topic, tmp_path):
    for name in (topic, f"{topic}-new"):
        kafka.create_topic(name)
    times = {"seal_lease_seconds": 3600, "unwrap_cache_seconds": 3600}
    with proxy_with(kafka, server, key, tmp_path, **times) as known, proxy_with(kafka, server, key, tmp_path) as fresh:
        assert produce(known, topic) == 0
        server.pause()
        try:
            if server.pauses_calls:
                assert produce(known, f"{topic}-new") == NOT_ENOUGH_REPLICAS
                assert fetch(fresh, topic)[0] == KAFKA_STORAGE_ERROR
            assert produce(known, topic, b"on") == 0
            assert fetch(known, topic) == (0, [b"value", b"on"])
        finally:
            server.resume()
        assert seconds_until(lambda: produce(known, f"{topic}-new") == 0) <= 30
        assert seconds_until(lambda: fetch(fresh, topic) == (0, [b"value", b"on"])) <= 30


@pytest.mark.broker
def test_a_start_during_an_outage_fails_unless_keys_may_come_later(kafka, server, key, topic, tmp_path):
    kafka.create_topic(topic)
    if not server.pauses_calls:
        pytest.skip("a key file that is away is a start that fails, in test_keys")
    server.pause()
    try:
        with proxy_with(kafka, server, key, tmp_path, lazy=True) as proxy:
            assert produce(proxy, topic) == NOT_ENOUGH_REPLICAS
            server.resume()
            assert seconds_until(lambda: produce(proxy, topic) == 0) <= 30
    finally:
        server.resume()


@pytest.mark.broker
def test_what_a_destroyed_key_sealed_is_gone_for_everyone(kafka, server, key, topic, tmp_path):
    other = f"{key}-kept"
    server.make_key(other)
    kafka.create_topic(topic)
    kafka.create_topic(f"{topic}-kept")
    with proxy_with(kafka, server, key, tmp_path) as proxy, proxy_with(kafka, server, other, tmp_path) as kept:
        assert produce(proxy, topic) == 0
        assert produce(kept, f"{topic}-kept") == 0
    server.destroy(key)
    with proxy_with(kafka, server, key, tmp_path, lazy=True) as reader:
        error, values = fetch(reader, topic)
        assert error
        assert values == []
    with proxy_with(kafka, server, other, tmp_path) as reader:
        assert fetch(reader, f"{topic}-kept") == (0, [b"value"])


@pytest.mark.broker
def test_a_wrap_for_each_topic_and_an_unwrap_for_each_kid(kafka, server, key, topic, tmp_path):
    names = [f"{topic}-{number}" for number in range(5)]
    for name in names:
        kafka.create_topic(name)
    times = {"seal_lease_seconds": 3600, "unwrap_cache_seconds": 3600}
    with (
        proxy_with(kafka, server, key, tmp_path, **times) as writer,
        proxy_with(kafka, server, key, tmp_path, **times) as reader,
    ):
        for _ in range(10):
            for name in names:
                assert produce(writer, name) == 0
        for _ in range(3):
            for name in names:
                assert len(fetch(reader, name)[1]) == 10
        assert calls(writer) == calls(reader) == len(names)


def forms(secret: bytes) -> list[str]:
    """How bytes may look in a text."""
    return [secret.hex(), base64.b64encode(secret).decode().rstrip("="), repr(secret)[2:-1]]


@pytest.mark.broker
def test_no_secret_and_no_wrap_is_shown_anywhere(kafka, server, key, topic, tmp_path):
    """At debug level: in the log, the metrics, the errors that clients get, and the arguments of the process."""
    kafka.create_topic(topic)
    with proxy_with(kafka, server, key, tmp_path) as proxy:
        assert produce(proxy, topic, b"a secret of the client") == 0
        assert fetch(proxy, topic)[1] == [b"a secret of the client"]
        server.disable(key)
        wait_until(lambda: produce(proxy, topic) == TOPIC_AUTHORIZATION_FAILED)
        wait_until(lambda: fetch(proxy, topic)[0] == TOPIC_AUTHORIZATION_FAILED)
        server.enable(key)
        with RawClient(kafka.bootstrap) as client:
            wraps = {one.block.wrapped for one in envelopes(client.fetch(topic).records)}
        calls(proxy)
        shown = "\n".join([*proxy.child.errors.so_far(), *psutil.Process(proxy.pid).cmdline()])
    assert key in shown
    hidden = [*server.secrets(), *(form for wrap in wraps for form in forms(wrap)), "secret of the client"]
    assert len(hidden) > 4
    assert [secret for secret in hidden if secret in shown] == []
