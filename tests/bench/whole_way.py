"""A request and its answer through the whole of the proxy's core, without sockets."""

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kveil.protocol.envelope.batch import seal
from kveil.protocol.kafka.api_table import ApiKey
from kveil.protocol.kafka.messages import encode_request, encode_response
from kveil.protocol.kafka.record_batch import check_produced
from kveil.proxy import log
from kveil.proxy.addresses import LocalPorts
from kveil.proxy.config import Direction, Override, load
from kveil.proxy.context import Connection, Shared
from kveil.proxy.keys.keyfile import new_key_file
from kveil.proxy.keys.keyfile_store import create_key_file
from kveil.proxy.server import share
from kveil.proxy.session import Session
from kveil.proxy.topics import DEFAULT_MAX_MESSAGE_BYTES, TopicSettings

TOPIC = "bench"
PLAIN_TOPIC = "bench-plain"
PRODUCE_VERSION, FETCH_VERSION, METADATA_VERSION = 11, 12, 12


def new_session() -> Session:
    """A session as a connection has it, with keys that seal the topic."""
    log.configure("json", "error")
    with TemporaryDirectory(prefix="kveil-micro-") as folder:
        keys = Path(folder, "keys.json")
        create_key_file(keys, new_key_file(realm="bench"))
        values: dict[tuple[str, ...], Any] = {
            ("upstream", "bootstrap"): "127.0.0.1:9092",
            ("keys", "path"): str(keys),
            ("limits", "topic_settings_seconds"): 3600,
            ("topics",): [{"match": PLAIN_TOPIC, "seal": "none"}],
        }
        settings = load(environ={}, overrides=[Override(path=k, value=v, origin="bench") for k, v in values.items()])
        shared = share(settings)
        asyncio.run(_make_key(shared))
        ordinary = TopicSettings(cleanup_policy=frozenset({"delete"}), max_message_bytes=DEFAULT_MAX_MESSAGE_BYTES)
        shared.topic_settings.learn(TOPIC, ordinary, shared.now())
    return Session(
        Connection(
            shared=shared,
            log=log.get_logger(__name__),
            direction=Direction.BOTH,
            ports=LocalPorts(5000, 4, {}),
            host="127.0.0.1",
            node_id=None,
        )
    )


async def _make_key(shared: Shared) -> None:
    await shared.keys.renew(TOPIC, shared.policy.rule_for(TOPIC))


def produce_call(batch: bytes, *, topic: str = TOPIC, partitions: int = 1) -> Callable[[], None]:
    """A Produce request with the same batch for each partition, and its answer."""
    session = new_session()
    rows = [{"index": each, "records": batch} for each in range(partitions)]
    values = {"acks": -1, "timeout": 1000, "topic_data": [{"name": topic, "partition_data": rows}]}
    request = encode_request(ApiKey.PRODUCE, PRODUCE_VERSION, 7, "bench", values)
    answers = [{"index": each, "base_offset": 1} for each in range(partitions)]
    responses = [{"name": topic, "partition_responses": answers}]
    answer = encode_response(ApiKey.PRODUCE, PRODUCE_VERSION, 7, {"responses": responses})
    return _exchange(session, request, lambda: bytearray(answer))


def fetch_call(batch: bytes, *, topic: str = TOPIC, partitions: int = 1) -> Callable[[], None]:
    """A Fetch request, and an answer with one batch for each partition, sealed unless the topic is plain."""
    session = new_session()
    asked = [{"partition": each, "partition_max_bytes": 1 << 20} for each in range(partitions)]
    topics = [{"topic": topic, "partitions": asked}]
    request = encode_request(ApiKey.FETCH, FETCH_VERSION, 7, "bench", {"topics": topics})
    rows = [
        {
            "partition_index": each,
            "high_watermark": 1,
            "records": batch if topic == PLAIN_TOPIC else _sealed_by(session, batch, each),
        }
        for each in range(partitions)
    ]
    values = {"responses": [{"topic": topic, "partitions": rows}]}
    answer = encode_response(ApiKey.FETCH, FETCH_VERSION, 7, values)
    return _exchange(session, request, lambda: bytearray(answer))


def metadata_call(topics: int, partitions: int) -> Callable[[], None]:
    """A Metadata request, and an answer that differs from call to call: no memory of an earlier one helps."""
    session = new_session()
    request = encode_request(ApiKey.METADATA, METADATA_VERSION, 7, "bench", {"topics": None})
    brokers = [{"node_id": each, "host": f"broker-{each}.example.net", "port": 9092} for each in range(3)]
    replicas = {"replica_nodes": (0, 1, 2), "isr_nodes": (0, 1, 2)}
    rows = [{"partition_index": each, "leader_id": each % 3, **replicas} for each in range(partitions)]
    mark = 0x5EA1_7ED5
    marked = [rows[0] | {"leader_epoch": mark}, *rows[1:]]
    listed = [
        {
            "name": f"topic-{each}",
            "topic_id": (each + 1).to_bytes(16, "big"),
            "partitions": rows if each else marked,
        }
        for each in range(topics)
    ]
    values = {"brokers": brokers, "cluster_id": "bench", "controller_id": 0, "topics": listed}
    answer = bytearray(encode_response(ApiKey.METADATA, METADATA_VERSION, 7, values))
    place = answer.index(mark.to_bytes(4, "big"))
    epochs = itertools.count(1)

    def next_answer() -> bytearray:
        answer[place : place + 4] = next(epochs).to_bytes(4, "big")
        return bytearray(answer)

    return _exchange(session, request, next_answer)


def _exchange(session: Session, request: bytes, answer: Callable[[], bytearray]) -> Callable[[], None]:
    """A call that takes both frames through the session; each time fresh copies, since they are written over."""

    def call() -> None:
        assert session.receive_request(memoryview(bytearray(request))) is None
        assert session.receive_response(memoryview(answer())) is None
        session.to_broker.clear()
        session.to_client.clear()

    return call


def _sealed_by(session: Session, batch: bytes, partition: int) -> bytes:
    shared = session.connection.shared
    key = shared.keys.sealing_key(TOPIC, shared.policy.rule_for(TOPIC), shared.now())
    assert key is not None
    view = memoryview(bytearray(batch))
    return b"".join(seal(view, check_produced(view), key=key, partition=partition))
