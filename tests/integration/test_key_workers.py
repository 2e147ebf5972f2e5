"""Several processes at one PKCS#11 token: the library must be initialised in each of them, after the fork."""

import pytest

from kveil.protocol.envelope.batch import peek
from kveil.protocol.kafka.record_batch import read_header, split_batches
from tests.support.key_services.pkcs11 import Server
from tests.support.proxy import kveil_proxy
from tests.support.raw_client import RawClient, batch
from tests.support.workers import one_client_each

WORKERS = 3


@pytest.fixture
def server(tmp_path):
    started = Server(tmp_path)
    started.make_key("orders")
    yield started
    started.stop()


@pytest.mark.broker
def test_workers_seal_and_open_with_one_token(kafka, topic, server, tmp_path):
    kafka.create_topic(topic)
    config = {"realm": "test", "workers": WORKERS, "keys": server.keys_settings()}
    rules = [{"match": "*", "mode": "batch", "key": "orders"}]
    values = [b"%d" % number for number in range(WORKERS)]
    with (
        kveil_proxy(kafka.bootstrap, keys=tmp_path / "no-file.json", topics=rules, config=config) as proxy,
        one_client_each(proxy, workers=WORKERS) as clients,
    ):
        for client, value in zip(clients, values, strict=True):
            assert client.produce({topic: {0: batch([value])}})[topic, 0][0] == 0
        for client in clients:
            found = client.fetch(topic)
            assert (found.error, [value for _, value in found.values]) == (0, values)
    with RawClient(kafka.bootstrap) as client:
        kids = {peek(one, read_header(one)).kid for one in map(memoryview, split_batches(client.fetch(topic).records))}
    assert len(kids) == WORKERS
