"""A request and its answer through the whole of the proxy's core, without sockets."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kveil.protocol.kafka.api_table import ApiKey
from kveil.protocol.kafka.messages import encode_request, encode_response
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
PRODUCE_VERSION, FETCH_VERSION = 11, 12


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


def produce_call(batch: bytes) -> Callable[[], None]:
    """A Produce request with one batch, and its answer."""
    session = new_session()
    data = [{"name": TOPIC, "partition_data": [{"index": 0, "records": batch}]}]
    values = {"acks": -1, "timeout": 1000, "topic_data": data}
    request = encode_request(ApiKey.PRODUCE, PRODUCE_VERSION, 7, "bench", values)
    responses = [{"name": TOPIC, "partition_responses": [{"index": 0, "base_offset": 1}]}]
    answer = memoryview(encode_response(ApiKey.PRODUCE, PRODUCE_VERSION, 7, {"responses": responses}))

    def call() -> None:
        assert session.receive_request(memoryview(bytearray(request))) is None
        assert session.receive_response(answer) is None
        session.to_broker.clear()
        session.to_client.clear()

    return call


def fetch_call(batch: bytes) -> Callable[[], None]:
    """A Fetch request, and an answer with one sealed batch."""
    session = new_session()
    sealed = _sealed_by(session, batch)
    topics = [{"topic": TOPIC, "partitions": [{"partition": 0, "partition_max_bytes": 1 << 20}]}]
    request = encode_request(ApiKey.FETCH, FETCH_VERSION, 7, "bench", {"topics": topics})
    partitions = [{"partition_index": 0, "high_watermark": 1, "records": sealed}]
    responses = {"responses": [{"topic": TOPIC, "partitions": partitions}]}
    answer = encode_response(ApiKey.FETCH, FETCH_VERSION, 7, responses)

    def call() -> None:
        assert session.receive_request(memoryview(bytearray(request))) is None
        assert session.receive_response(memoryview(bytearray(answer))) is None
        session.to_broker.clear()
        session.to_client.clear()

    return call


def _sealed_by(session: Session, batch: bytes) -> bytes:
    from kveil.protocol.envelope.batch import seal
    from kveil.protocol.kafka.record_batch import check_produced

    shared = session.connection.shared
    key = shared.keys.sealing_key(TOPIC, shared.policy.rule_for(TOPIC), shared.now())
    assert key is not None
    view = memoryview(bytearray(batch))
    return b"".join(seal(view, check_produced(view), key=key, partition=0))
