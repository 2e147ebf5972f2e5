"""Records out of fetched batches and into produced ones, with nothing lost of them and nothing that was aborted."""

import gzip
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kveil.protocol.kafka.errors import CorruptBatch
from kveil.protocol.kafka.record_batch import LOG_APPEND_TIME, TRANSACTIONAL, check_produced, read_header
from kveil.protocol.kafka.records import NO_HEADERS
from kveil.proxy.migrate.records import (
    MOST_RECORDS,
    CopiedRecord,
    FetchedBatch,
    ProducedBatch,
    committed_batches,
    encode_batch,
    gathered,
)
from tests.support.records import at_offset, client_batch, marker
from tests.vectors.reference import Batch, client_records, record

FOREVER = 2**63 - 1


def offsets(records: bytes, aborted=(), start: int = 0, before: int = FOREVER) -> list[int]:
    found = committed_batches(records, aborted, start, before)
    return [offset for _, batch in found if batch is not None for offset, _ in batch.records]


def of_transaction(producer_id: int, offset: int, count: int = 2) -> bytes:
    batch = client_batch(count, attributes=TRANSACTIONAL, producer_id=producer_id, producer_epoch=0, base_sequence=0)
    return at_offset(batch, offset)


def aborted(producer_id: int, first_offset: int) -> SimpleNamespace:
    return SimpleNamespace(producer_id=producer_id, first_offset=first_offset)


class TestCommitted:
    def test_all_of_ordinary_batches(self):
        records = at_offset(client_batch(3), 5) + at_offset(client_batch(2), 9)
        assert offsets(records) == [5, 6, 7, 9, 10]
        assert [position for position, _ in committed_batches(records, (), 0, FOREVER)] == [8, 11]

    def test_from_an_offset_to_another(self):
        records = at_offset(client_batch(3), 5) + at_offset(client_batch(2), 9)
        assert offsets(records, start=6, before=10) == [6, 7, 9]
        assert offsets(records, start=8) == [9, 10]

    def test_an_aborted_transaction_is_left_out_up_to_its_marker(self):
        records = of_transaction(7, 0) + marker(commit=False, offset=2) + of_transaction(7, 3)
        assert offsets(records, [aborted(7, 0)]) == [3, 4]

    def test_other_producers_and_transactions_of_the_same_one_stay(self):
        records = of_transaction(8, 0) + of_transaction(7, 2) + marker(offset=4) + of_transaction(7, 5)
        assert offsets(records, [aborted(7, 5)]) == [0, 1, 2, 3]
        assert offsets(records, [aborted(7, 2)]) == [0, 1, 5, 6]

    def test_two_aborted_ones_in_any_order_of_the_list(self):
        records = of_transaction(7, 0) + of_transaction(8, 2) + at_offset(client_batch(1), 4)
        assert offsets(records, [aborted(8, 2), aborted(7, 0)]) == [4]

    def test_one_that_began_before_what_was_fetched(self):
        assert offsets(of_transaction(7, 50), [aborted(7, 3)]) == []

    def test_a_batch_that_is_not_of_a_transaction_stays_though_its_producer_has_aborted(self):
        batch = at_offset(client_batch(1, producer_id=7, producer_epoch=0, base_sequence=0), 1)
        assert offsets(batch, [aborted(7, 0)]) == [1]

    def test_empty_batches_and_gaps_of_the_log_cleaner(self):
        empty = Batch(b"", 0, base_offset=5, last_offset_delta=3).encode()
        gap = Batch(record(2, None, b"x"), 1, base_offset=10, last_offset_delta=4).encode()
        assert offsets(empty + gap) == [12]
        assert [position for position, _ in committed_batches(empty + gap, (), 0, FOREVER)] == [9, 15]

    def test_what_is_cut_comes_with_the_next_answer(self):
        records = at_offset(client_batch(1), 0) + at_offset(client_batch(1), 1)
        assert offsets(records[:-1]) == [0]

    def test_records_that_are_none(self):
        with pytest.raises(CorruptBatch):
            offsets(b"\0" * 70)

    def test_the_brokers_timestamp_counts_where_it_set_one(self):
        own = Batch(client_records(2), 2, base_timestamp=100, max_timestamp=900)
        broker = Batch(client_records(2), 2, attributes=LOG_APPEND_TIME, base_timestamp=100, max_timestamp=900)
        stamps = [
            [
                each.timestamp
                for _, batch in committed_batches(one.encode(), (), 0, FOREVER)
                for _, each in batch.records
            ]
            for one in (own, broker)
        ]
        assert stamps[0] != stamps[1] == [900, 900]

    def test_the_codec_is_known(self):
        batch = Batch(gzip.compress(client_records(2)), 2, attributes=1).encode()
        ((_, found),) = committed_batches(batch, (), 0, FOREVER)
        assert (found.codec, len(found.records), found.stored_bytes) == (1, 2, len(batch))


# Batches that are produced --------------------------------------------------------------------------------------------


def fetched(*values: bytes, codec: int = 0) -> FetchedBatch:
    return FetchedBatch(-1, codec, 0, [(n, CopiedRecord(n, None, each, NO_HEADERS)) for n, each in enumerate(values)])


class TestGathered:
    def test_small_batches_become_large_ones(self):
        made = gathered([fetched(b"a"), fetched(b"b", b"c")], 1000)
        assert [[each.value for each in batch.records] for batch in made] == [[b"a", b"b", b"c"]]

    def test_not_over_the_size(self):
        made = gathered([fetched(bytes(400), bytes(400), bytes(400))], 1000)
        assert [len(batch.records) for batch in made] == [2, 1]

    def test_a_record_over_the_size_stands_alone(self):
        made = gathered([fetched(b"a", bytes(5000), b"b")], 1000)
        assert [len(batch.records) for batch in made] == [1, 1, 1]

    def test_another_codec_is_another_batch(self):
        made = gathered([fetched(b"a"), fetched(b"b", codec=4), fetched(b"c", codec=4)], 1000)
        assert [(batch.codec, len(batch.records)) for batch in made] == [(0, 1), (4, 2)]

    def test_not_over_the_count(self):
        made = gathered([fetched(*[b""] * (MOST_RECORDS + 1))], 10**6)
        assert [len(batch.records) for batch in made] == [MOST_RECORDS, 1]

    def test_nothing(self):
        assert gathered([], 1000) == []


copied = st.builds(
    CopiedRecord,
    st.integers(-1, 2**41),
    st.none() | st.binary(max_size=20),
    st.none() | st.binary(max_size=20),
    st.sampled_from([NO_HEADERS, b"\x02\x02a\x01", b"\x02\x02a\x00"]),
)


@given(st.lists(copied, min_size=1, max_size=20), st.integers(0, 4))
def test_a_batch_holds_what_was_put_into_it(records, codec):
    made = encode_batch(ProducedBatch(codec, records), producer_id=9, producer_epoch=3, base_sequence=17)
    header = check_produced(memoryview(made))
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (9, 3, 17)
    assert (header.codec, header.is_transactional) == (codec, True)
    assert header.max_timestamp == max(each.timestamp for each in records)
    ((_, found),) = committed_batches(made, (), 0, FOREVER)
    assert [each for _, each in found.records] == records


@given(copied, copied)
def test_no_two_records_have_the_same_digest(one, other):
    assert (one.digested() == other.digested()) == (one == other)


def test_null_is_not_empty():
    null, empty = CopiedRecord(0, None, None, NO_HEADERS), CopiedRecord(0, b"", b"", NO_HEADERS)
    assert null.digested() != empty.digested()
    assert read_header(encode_batch(ProducedBatch(0, [null]), producer_id=1, producer_epoch=0, base_sequence=0))
