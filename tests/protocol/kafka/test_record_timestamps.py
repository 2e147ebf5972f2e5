"""Offsets and timestamps of a batch's records, against aiokafka's reader."""

import pytest
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given
from hypothesis import strategies as st

from kveil.protocol.kafka import record_timestamps as module
from kveil.protocol.kafka.errors import BatchRefused
from kveil.protocol.kafka.record_timestamps import record_timestamps
from tests.support.raw_client import batch
from tests.support.records import at_offset
from tests.vectors.reference import Batch, client_records, record, varint

T = 1_700_000_000_000
CODECS = range(5)


@pytest.mark.parametrize("codec", CODECS)
@given(stamps=st.lists(st.integers(0, 2**61), min_size=1, max_size=300), offset=st.integers(0, 2**62))
def test_as_aiokafka_reads_them(codec, stamps, offset):
    stored = at_offset(batch([b"value"] * len(stamps), codec=codec, timestamp_ms=stamps), offset)
    expected = [(each.offset, each.timestamp) for each in DefaultRecordBatch(bytearray(stored))]
    assert list(record_timestamps(stored)) == expected == list(enumerate(stamps, offset))


def test_the_brokers_time_stands_for_every_record():
    stored = Batch(client_records(3), 3, base_offset=7, attributes=0x08, max_timestamp=T + 99).encode()
    assert list(record_timestamps(stored)) == [(7, T + 99), (8, T + 99), (9, T + 99)]


def test_holes_that_the_log_cleaner_left():
    stored = Batch(
        record(2, None, b"a", delta=5) + record(6, None, b"b", delta=-4), 2, base_offset=10, last_offset_delta=6
    ).encode()
    assert list(record_timestamps(stored)) == [(12, T + 5), (16, T - 4)]


def test_no_records():
    assert list(record_timestamps(Batch(b"", 0).encode())) == []


@pytest.mark.parametrize(
    "records",
    [
        b"",
        client_records(2),
        client_records(3)[:-1],
        varint(-5) + bytes(9),
        varint(2**31 - 1) + bytes(9),
        varint(2) + bytes(2) + client_records(2),
        b"\xff" * 40,
    ],
    ids=["none", "too few", "cut", "negative", "endless", "shorter than its head", "no varint"],
)
def test_malformed_records(records):
    with pytest.raises(BatchRefused):
        list(record_timestamps(Batch(records, 3).encode()))


@pytest.mark.parametrize("codec", [1, 2, 3, 4, 5, 7])
def test_what_does_not_decompress(codec):
    with pytest.raises(BatchRefused):
        list(record_timestamps(Batch(b"not compressed at all", 3, attributes=codec).encode()))


@pytest.mark.parametrize("codec", [1, 2, 3, 4])
def test_decompression_is_bounded(codec, monkeypatch):
    stored = batch([bytes(100_000)], codec=codec, timestamp_ms=T)
    monkeypatch.setattr(module, "MAX_DECOMPRESSED", 50_000)
    with pytest.raises(BatchRefused, match="limit"):
        list(record_timestamps(stored))
