"""Bytes that a broker changed: a sealed batch opens as it was sealed, or the client gets CORRUPT_MESSAGE."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from kveil.protocol.envelope.header import HEADER
from kveil.protocol.kafka.record_batch import CONTROL, split_batches
from tests.support.kafka import Cluster
from tests.support.proxy import Proxy, kveil_proxy
from tests.support.raw_client import Fetched, RawClient, batch
from tests.support.tampering import Relay, flip, tampering_relay
from tests.support.waiting import wait_until

CORRUPT_MESSAGE = 2
BATCH_LENGTH = range(8, 12)
ATTRIBUTES_LOW = 22
COUNT = range(57, 61)


@dataclass
class Scene:
    """A proxy behind a hostile network, and one connection through it."""

    kafka: Cluster
    relay: Relay
    proxy: Proxy
    client: RawClient

    def store(self, topic: str, *batches: bytes) -> list[bytes]:
        """Produce batches through the proxy and return them as they are stored."""
        self.kafka.create_topic(topic)
        for each in batches:
            assert self.client.produce({topic: {0: each}})[topic, 0][0] == 0
        return [bytes(each) for each in split_batches(self.kafka.stored_bytes(topic))]

    def lines(self, topic: str) -> list[dict[str, Any]]:
        """The proxy's lines about the topic's batches."""
        return [line for line in self.proxy.events("batch_unopened") if line["topic"] == topic]

    def fetch_changed(self, topic: str, stored: bytes, changed: bytes, offset: int = 0) -> Fetched:
        """Fetch with one batch changed on its way."""
        self.relay.replace(stored, changed)
        return self.client.fetch(topic, 0, offset)


# A partition whose keys are refused one after the other costs no further calls for this long, and the client is told to
# try again. Here each is to be looked at.
EVERY_KEY_AGAIN = {"limits": {"refused_key_seconds": 0.001}}


@pytest.fixture(scope="module")
def scene(kafka: Cluster) -> Iterator[Scene]:
    with (
        tampering_relay(kafka.bootstrap) as relay,
        kveil_proxy(relay.address, config=EVERY_KEY_AGAIN) as proxy,
        RawClient(proxy.bootstrap) as client,
    ):
        client.metadata()
        yield Scene(kafka, relay, proxy, client)


VALUES = {"uncompressed": [b"one", b"two", b"three"], "zstd": [f"value {number}".encode() for number in range(40)]}


@pytest.mark.parametrize("kind", VALUES)
def test_any_byte_changed(scene: Scene, topic: str, kind: str):
    """Every byte of a batch with plain stubs, and of one whose stubs are compressed: never anything else is given."""
    (stored,) = scene.store(topic, batch(VALUES[kind]))
    expected = list(enumerate(VALUES[kind]))
    assert scene.fetch_changed(topic, stored, stored).values == expected
    envelope = stored.index(b"\xc5\x4b\x56")
    tag_end = envelope + _envelope_length(stored, envelope)
    delivered = []
    for at in range(len(stored)):
        fetched = scene.fetch_changed(topic, stored, flip(stored, at, 1 << at % 8))
        if fetched.error:
            assert (fetched.error, fetched.records) == (CORRUPT_MESSAGE, b""), f"byte {at}"
        else:
            delivered.append(at)
            given = [value for _, value in fetched.values]
            cut = at in BATCH_LENGTH and not given  # a batch that seems to go on behind the answer's end
            assert cut or given == VALUES[kind], f"byte {at} was changed, and {given} delivered"
    assert not [at for at in delivered if envelope <= at < tag_end], "a changed envelope was opened"
    assert not set(COUNT) & set(delivered)


def _envelope_length(stored: bytes, at: int) -> int:
    _, _, _, _, extensions, _, _, _, plaintext = HEADER.unpack_from(stored, at)
    return HEADER.size + extensions + 32 + plaintext + 16


def test_control_bit_hides_no_plain_records(scene: Scene, topic: str):
    """Consumers step over control batches unread, and some clients would show them: only true markers pass."""
    (stored,) = scene.store(topic, batch([b"only"]))
    forged = flip(stored, ATTRIBUTES_LOW, CONTROL)
    assert scene.fetch_changed(topic, stored, forged).error == CORRUPT_MESSAGE
    wait_until(lambda: bool(scene.lines(topic)))
    assert "control" in scene.lines(topic)[0]["reason"]


def test_good_batches_before_are_delivered_and_one_line_tells_of_the_bad_one(scene: Scene, topic: str):
    """The line has its offsets and the next good one; repeats of it are held back."""
    _, second, _ = scene.store(topic, *(batch([value, value]) for value in (b"a", b"b", b"c")))
    changed = flip(second, len(second) // 2)
    fetched = scene.fetch_changed(topic, second, changed)
    assert (fetched.error, fetched.values) == (0, [(0, b"a"), (1, b"a")])
    for _ in range(5):
        fetched = scene.fetch_changed(topic, second, changed, offset=2)
        assert (fetched.error, fetched.records) == (CORRUPT_MESSAGE, b"")
    wait_until(lambda: bool(scene.lines(topic)))
    lines = scene.lines(topic)
    assert len(lines) == 1
    seen = {name: lines[0][name] for name in ("partition", "first_offset", "last_offset", "next_good_offset", "level")}
    assert seen == {"partition": 0, "first_offset": 2, "last_offset": 3, "next_good_offset": 4, "level": "error"}
    assert lines[0]["reason"]
    assert scene.fetch_changed(topic, second, changed, offset=4).values == [(4, b"c"), (5, b"c")]


def test_other_partitions_keep_flowing(scene: Scene):
    topic = f"flowing-{uuid.uuid4().hex}"
    scene.kafka.create_topic(topic, partitions=2)
    sent = scene.client.produce({topic: {0: batch([b"bad"]), 1: batch([b"good"])}})
    assert sent == {(topic, 0): (0, 0), (topic, 1): (0, 0)}
    with RawClient(scene.kafka.bootstrap) as direct:
        stored = direct.fetch(topic).records
    scene.relay.replace(stored, flip(stored, len(stored) - 3))
    answer = scene.client.fetch_all({topic: {0: 0, 1: 0}})
    assert (answer[topic, 0].error, answer[topic, 0].records) == (CORRUPT_MESSAGE, b"")
    assert (answer[topic, 1].error, answer[topic, 1].values) == (0, [(0, b"good")])
