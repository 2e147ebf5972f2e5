"""Key services under a running proxy of two workers: records go through, and a start without a usable key fails."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.clients import Record, librdkafka_produce, librdkafka_read
from tests.support.kafka import Cluster
from tests.support.key_services import KEY_SERVERS, start_key_server
from tests.support.key_services.service import KeyServer
from tests.support.processes import ChildFailedError
from tests.support.proxy import Proxy, kveil_proxy

T = 1_700_000_000_000
SERVICES = [name for name in KEY_SERVERS if name != "keyfile"]
# What a service's library maps into a process that uses it.
MAPPED = {"gcp": "cygrpc"}


@pytest.fixture(scope="module", params=SERVICES)
def server(request, tmp_path_factory) -> Iterator[KeyServer]:
    with start_key_server(request.param, tmp_path_factory.mktemp(request.param)) as started:
        started.make_key("default")
        yield started


@pytest.fixture
def proxy(kafka: Cluster, server: KeyServer) -> Iterator[Proxy]:
    settings = {"realm": "test", "workers": 2, "keys": server.keys_settings()}
    with kveil_proxy(kafka.bootstrap, topics=[{"match": "*", "mode": "batch"}], start=False, config=settings) as made:
        yield made


def records(text: str) -> list[Record]:
    return [Record(value=f"{text} {number}".encode(), timestamp=T) for number in range(20)]


def values(found: list[Record]) -> list[bytes | None]:
    return [record.value for record in found]


def mapped(pid: int, library: str) -> bool:
    return library in Path(f"/proc/{pid}/maps").read_text()


def test_records_are_sealed_and_opened_by_either_worker_across_a_rotation(
    kafka: Cluster, server: KeyServer, proxy: Proxy, topic: str, request: pytest.FixtureRequest
):
    proxy.start()
    sent = records("before")
    librdkafka_produce(proxy.bootstrap, topic, sent)
    server.rotate("default")
    assert proxy.stop() == 0
    proxy.start()
    more = records("after")
    librdkafka_produce(proxy.bootstrap, topic, more)
    assert values(librdkafka_read(proxy.bootstrap, topic)) == values([*sent, *more])
    assert not [value for value in values(librdkafka_read(kafka.bootstrap, topic)) if b"before" in (value or b"")]
    library = MAPPED.get(request.node.callspec.params["server"])
    if library:
        # It runs threads of its own, so it must come after the last fork.
        workers = psutil.Process(proxy.pid).children()
        assert len(workers) == 2
        assert not mapped(proxy.pid, library)
        assert all(mapped(worker.pid, library) for worker in workers)
    assert proxy.stop() == 0


def test_a_start_whose_key_can_not_be_used_says_why(server: KeyServer, proxy: Proxy):
    proxy.config["keys"] = {**server.keys_settings(), "default": "nobody-made-it"}
    with pytest.raises(ChildFailedError):
        proxy.start()
    assert proxy.child.exit_code == 2
    said = "\n".join(proxy.child.errors.so_far())
    assert ":nobody-made-it can't be used: " in said
