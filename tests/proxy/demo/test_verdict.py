"""What the demo calls good, and what it doesn't."""

from dataclasses import replace

import pytest

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.header import HEADER, KeyBlock, encode_extensions
from kveil.proxy.demo.round_trip import Record, more_records, shown_records
from kveil.proxy.demo.verdict import judge, read_envelope

BLOCK = KeyBlock(
    provider=registry.KEY_FILE, name="default", mechanism=registry.KVEIL_WRAP, version="3", wrapped=b"w" * 72
)


def envelope(count: int = 2, plaintext_length: int = 40) -> bytes:
    extensions = encode_extensions(BLOCK)
    header = HEADER.pack(registry.MAGIC, 1, 1, 1, len(extensions), b"k" * 16, b"s" * 24, count, plaintext_length)
    return header + extensions + b"c" * 32 + b"\xee" * (plaintext_length + 16)


def placed(records: list[Record]) -> list[Record]:
    return [replace(record, partition=0, offset=offset) for offset, record in enumerate(records)]


WRITTEN = placed(shown_records())
STORED = [
    Record(key=b"r" * 16, value=envelope(3), partition=0, offset=0),
    Record(key=None, value=None, partition=0, offset=1),
    Record(key=None, value=None, partition=0, offset=2),
]


def test_what_an_envelope_shows():
    found = read_envelope(envelope(2, 40))
    assert (found.magic, found.version, found.mode, found.records) == (b"\xc5KV", 1, "batch", 2)
    assert (found.key.name, found.key.version, found.kid) == ("default", "3", b"k" * 16)
    assert found.plaintext_bytes == 40
    assert found.ciphertext == b"\xee" * 56
    assert found.size == len(envelope(2, 40))


@pytest.mark.parametrize("value", [None, b"", b"plain", registry.MAGIC, envelope()[:70]])
def test_what_is_no_envelope(value):
    assert read_envelope(value) is None


def test_all_is_well():
    verdict = judge(WRITTEN, STORED, WRITTEN)
    assert verdict.is_good
    assert (verdict.written, verdict.same, verdict.surplus) == (3, 3, 0)
    assert verdict.pieces == len({piece for record in WRITTEN for piece in record.pieces})


@pytest.mark.parametrize(
    "change",
    [
        {"key": b"other"},
        {"value": None},
        {"headers": ()},
        {"timestamp_ms": 1},
        {"offset": 7},
        {"partition": 7},
    ],
)
def test_a_record_that_came_back_otherwise(change):
    got = [replace(WRITTEN[0], **change), *WRITTEN[1:]]
    verdict = judge(WRITTEN, STORED, got)
    assert not verdict.is_exact
    assert (verdict.same, verdict.surplus) == (2, 1)


def test_a_lost_record_and_one_too_many():
    assert not judge(WRITTEN, STORED, WRITTEN[1:]).is_exact
    assert not judge(WRITTEN, STORED, [*WRITTEN, WRITTEN[0]]).is_exact


@pytest.mark.parametrize("field", ["key", "value"])
def test_plaintext_at_the_broker(field):
    stored = [replace(STORED[0], **{field: b"..." + WRITTEN[1].value + b"..."}), *STORED[1:]]
    verdict = judge(WRITTEN, stored, WRITTEN)
    assert verdict.is_exact
    assert WRITTEN[1].value in verdict.leaked
    assert not verdict.is_good


def test_plaintext_in_a_header_at_the_broker():
    stored = [replace(STORED[0], headers=(("clinic", WRITTEN[0].headers[0][1]),)), *STORED[1:]]
    assert judge(WRITTEN, stored, WRITTEN).leaked == [b"clinic-north"]


def test_something_else_than_an_envelope_at_the_broker():
    verdict = judge(WRITTEN, [replace(STORED[0], value=b"who knows")], WRITTEN)
    assert verdict.outside == 1
    assert not verdict.is_good


def test_plaintext_on_the_disk():
    value = WRITTEN[0].value
    assert judge(WRITTEN, STORED, WRITTEN, disk_holds=lambda piece: piece == value).leaked == [value]
    assert judge(WRITTEN, STORED, WRITTEN, disk_holds=lambda _: False).is_good


def test_the_records_can_be_told_from_chance():
    for record in (*shown_records(), *more_records()):
        assert all(len(piece) >= 12 for piece in record.pieces)
