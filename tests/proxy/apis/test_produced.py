"""A sealed batch is no larger than its topic takes, wherever compressing can make it so."""

import random

import pytest

from kveil.protocol.kafka import compression
from kveil.protocol.kafka.record_batch import read_header, split_batches
from kveil.proxy.errors import ErrorCode, QuestionFailed
from kveil.proxy.topics import TopicSettings
from tests.support.fetching import fetch
from tests.support.producing import BATCHES, PRODUCE, error_of, sent
from tests.support.records import produced
from tests.vectors.reference import Batch, record

CODECS = range(5)
TEXT = b"a record of many that look alike, and so may shrink: "


def batch_of(values: list[bytes], codec: int = 0) -> bytes:
    section = b"".join(record(index, None, value) for index, value in enumerate(values))
    return Batch(compression.compress(codec, section), len(values), attributes=codec).encode()


def random_text(size: int, seed: int = 1) -> bytes:
    """Bytes that a stronger compression makes smaller than lz4 and snappy do."""
    return bytes(random.Random(seed).choices(range(64), k=size))


def limited(limit: int | None, **more) -> TopicSettings:
    return TopicSettings(cleanup_policy=frozenset({"delete"}), max_message_bytes=limit, **more)


def seal_within(converse, batch: bytes, limit: int | None, version: int = 9, **rule) -> bytes:
    """What the broker gets."""
    talk = converse(topics=[{"match": "*", **rule}])
    talk.settings["t"] = limited(limit)
    talk.client(PRODUCE, version, produced({"t": {0: batch}}))
    return sent(talk)["t", 0]


def delivered(converse, stored: bytes) -> list[tuple[int, bytes]]:
    """Codec and decompressed records of each batch that a consumer gets for it."""
    (_, records) = fetch(converse(), {"t": {0: stored}})["t", 0]
    found = []
    for view in split_batches(records):
        codec = read_header(view).codec
        found.append((codec, bytes(compression.decompress(codec, view[61:], 1 << 22))))
    return found


def test_a_batch_that_has_room_is_left_as_it_is(converse):
    batch = batch_of([TEXT * 100])
    stored = seal_within(converse, batch, len(batch) + 1000)
    assert len(stored) > len(batch)
    assert delivered(converse, stored) == [(0, batch[61:])]


@pytest.mark.parametrize("records", [1, 10, 500])
def test_a_full_batch_fits_once_compressed(converse, records):
    batch = batch_of([TEXT * (20_000 // records)] * records)
    stored = seal_within(converse, batch, len(batch))
    assert len(stored) <= len(batch)
    assert delivered(converse, stored) == [(0, batch[61:])]


@pytest.mark.parametrize("codec", [compression.SNAPPY, compression.LZ4])
def test_a_weaker_compression_is_replaced_with_a_stronger_one(converse, codec):
    values = [random_text(30_000, seed) for seed in range(4)]
    batch = batch_of(values, codec)
    stored = seal_within(converse, batch, len(batch))
    assert len(stored) <= len(batch)
    assert delivered(converse, stored) == [(0, batch_of(values)[61:])]


@pytest.mark.parametrize("codec", CODECS)
def test_what_cannot_fit_is_refused_with_the_remedy(converse, codec):
    batch = batch_of([random.Random(1).randbytes(50_000)], codec)
    talk = converse()
    talk.settings["t"] = limited(len(batch))
    code, text = error_of(talk, batch)
    assert code is ErrorCode.MESSAGE_TOO_LARGE
    assert all(part in text for part in (str(len(batch)), "kveil prepare t", "max.message.bytes", "batch.size"))


def test_a_batch_that_was_too_large_in_plain_stays_so(converse):
    """Directly it would be refused as well: the same program behaves the same."""
    batch = batch_of([TEXT * 1000])
    talk = converse()
    talk.settings["t"] = limited(len(batch) - 1)
    assert error_of(talk, batch)[0] is ErrorCode.MESSAGE_TOO_LARGE


def test_a_rule_may_forbid_it(converse):
    """A broker that says what the limit is must not choose what is compressed."""
    batch = batch_of([TEXT * 1000])
    talk = converse(topics=[{"match": "*", "fit": "refuse"}])
    talk.settings["t"] = limited(len(batch))
    assert error_of(talk, batch)[0] is ErrorCode.MESSAGE_TOO_LARGE


def test_where_the_limit_is_not_known_nothing_is_refused(converse):
    for batch in (batch_of([random.Random(1).randbytes(1_048_500)]), batch_of([random.Random(1).randbytes(3_000_000)])):
        talk = converse(topics=BATCHES)
        talk.settings["t"] = QuestionFailed("no answer")
        talk.client(PRODUCE, 9, produced({"t": {0: batch}}))
        assert len(sent(talk)["t", 0]) > len(batch)


def test_where_the_limit_is_not_known_kafkas_own_is_presumed(converse):
    batch = batch_of([TEXT * 19_780])
    talk = converse(topics=BATCHES)
    talk.settings["t"] = QuestionFailed("no answer")
    talk.client(PRODUCE, 9, produced({"t": {0: batch}}))
    assert 1_048_300 < len(batch) < 1_048_588
    assert len(sent(talk)["t", 0]) < len(batch)


@pytest.mark.parametrize("version", [3, 6, 7, 9])
def test_a_rule_may_compress_everything(converse, version):
    batch = batch_of([TEXT] * 100)
    stored = seal_within(converse, batch, 1_048_588, version, compress="zstd")
    assert len(stored) < len(batch) / 2
    assert delivered(converse, stored) == [(0, batch[61:])]


def test_a_topic_that_stores_uncompressed_gets_it_uncompressed(converse):
    """Its broker would undo the compression of the stubs: what it stores is what must fit."""
    talk = converse()
    talk.settings["t"] = limited(1_048_588, compression_type="uncompressed")
    talk.client(PRODUCE, 9, produced({"t": {0: batch_of([b"x"] * 100)}}))
    (header,) = [read_header(view) for view in split_batches(sent(talk)["t", 0])]
    assert header.codec == 0


class TestRecordMode:
    def test_a_full_batch_fits_once_compressed(self, converse):
        batch = batch_of([b"x" * 200] * 300)
        loose = seal_within(converse, batch, None, mode="record")
        talk = converse()
        talk.settings["t"] = TopicSettings(cleanup_policy=frozenset({"compact"}), max_message_bytes=len(loose) - 1)
        talk.client(PRODUCE, 9, produced({"t": {0: batch}}))
        stored = sent(talk)["t", 0]
        assert len(stored) < len(loose)
        assert delivered(converse, stored)[0][1] == batch[61:]

    def test_what_cannot_fit_is_refused(self, converse):
        batch = batch_of([random.Random(1).randbytes(50_000)])
        talk = converse()
        talk.settings["t"] = TopicSettings(cleanup_policy=frozenset({"compact"}), max_message_bytes=len(batch))
        assert error_of(talk, batch)[0] is ErrorCode.MESSAGE_TOO_LARGE
