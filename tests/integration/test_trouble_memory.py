"""Memory stays bounded: slow readers, many connections, long runs."""

import time
from collections.abc import Iterator

import psutil
import pytest
from confluent_kafka import Producer

from tests.support.kafka import Cluster
from tests.support.proxy import Proxy, kveil_proxy
from tests.support.raw_client import FETCH_VERSION, RawClient, offsets_and_values
from tests.support.waiting import wait_until

MIB = 1 << 20
IDLE_MIB = 90
VALUE = bytes(range(256)) * 256
FETCH = 1


@pytest.fixture
def proxy(kafka: Cluster) -> Iterator[Proxy]:
    with kveil_proxy(kafka.bootstrap) as running:
        yield running


def rss_mib(proxy: Proxy) -> float:
    return psutil.Process(proxy.pid).memory_info().rss / MIB


def received_mib(proxy: Proxy) -> float:
    """What the proxy has read of its sockets up to now."""
    return psutil.Process(proxy.pid).io_counters().read_chars / MIB


def report(name: str, figure: object) -> None:
    """For `pytest -rP`."""
    print(f"{name}: {figure}")


def fill(proxy: Proxy, topic: str, mib: int) -> int:
    """Produce so much through the proxy, and return the number of records."""
    settings = {"bootstrap.servers": proxy.bootstrap, "linger.ms": 5, "queue.buffering.max.kbytes": 32 * 1024}
    count = left = mib * MIB // len(VALUE)
    with Producer(settings) as producer:
        while left:
            try:
                producer.produce(topic, VALUE)
                left -= 1
            except BufferError:
                producer.poll(0.1)
        assert producer.flush(60) == 0
    return count


def test_idle(proxy: Proxy):
    with RawClient(proxy.bootstrap) as client:
        client.metadata()
    report("idle_rss_mib", round(rss_mib(proxy), 1))
    assert rss_mib(proxy) <= IDLE_MIB


def test_many_idle_connections(proxy: Proxy):
    before = rss_mib(proxy)
    clients = [RawClient(proxy.bootstrap) for _ in range(200)]
    try:
        for client in clients:
            client.metadata()
        each = (rss_mib(proxy) - before) * 1024 / len(clients)
        report("idle_connection_kib", round(each))
        assert each < 40
        began = time.monotonic()
        with RawClient(proxy.bootstrap) as late:
            late.metadata()
        assert time.monotonic() - began < 2
    finally:
        for client in clients:
            client.socket.close()


def test_slow_readers(kafka: Cluster, proxy: Proxy, topic: str):
    """Each asks for more than 100 MiB and reads nothing: the proxy stops reading of the broker, and so waits for them.

    Then they read, and nothing is missing.
    """
    kafka.create_topic(topic)
    records = fill(proxy, topic, 32)
    before = rss_mib(proxy)
    readers = [RawClient(proxy.bootstrap, receive_buffer=64 * 1024) for _ in range(4)]
    try:
        for reader in readers:
            for _ in range(32):
                reader.send_fetch({topic: {0: 0}}, max_bytes=4 * MIB)
        taken = settled(lambda: received_mib(proxy))
        grown = rss_mib(proxy) - before
        report("slow_reader_mib_each", round(grown / len(readers), 1))
        assert taken < 400, "the answers were read although nobody took them"
        assert grown < len(readers) * 30
        for reader in readers:
            for _ in range(32):
                answer = reader.receive(FETCH, FETCH_VERSION)
                assert answer.responses[0].partitions[0].records
        (found,) = answer.responses[0].partitions
        assert offsets_and_values(bytes(found.records)[: first_batch_length(found.records)])[0] == (0, VALUE)
        assert found.high_watermark == records
    finally:
        for reader in readers:
            reader.socket.close()


def first_batch_length(records: bytes) -> int:
    return 12 + int.from_bytes(records[8:12], "big")


def settled(measure, for_seconds: float = 1.5) -> float:
    """The measure once it has not changed for a while."""
    value, since = measure(), time.monotonic()

    def is_settled() -> bool:
        nonlocal value, since
        now = measure()
        if now != value:
            value, since = now, time.monotonic()
        return time.monotonic() - since > for_seconds

    wait_until(is_settled)
    return value


def test_long_run(kafka: Cluster, proxy: Proxy, topic: str):
    """Some 100 MiB there and back, then as much again and again: what it takes, it takes at the beginning."""
    kafka.create_topic(topic)
    sizes = []
    for _ in range(5):
        fill(proxy, topic, 64)
        read_through(proxy, topic)
        sizes.append(round(rss_mib(proxy), 1))
    report("long_run_rss_mib", str(sizes))
    assert sizes[-1] - sizes[0] < 16, sizes
    assert max(sizes) < 250, sizes


def read_through(proxy: Proxy, topic: str) -> None:
    with RawClient(proxy.bootstrap) as client:
        offset = 0
        while True:
            fetched = client.fetch(topic, offset=offset)
            if offset >= fetched.high_watermark:
                return
            assert fetched.error == 0
            last = fetched.batches[-1]
            offset = int.from_bytes(last[:8], "big") + int.from_bytes(last[23:27], "big") + 1
