"""Rows of stored batches: each envelope by itself, and what a reader refuses as a row that says why."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kveil.protocol.envelope.errors import Reason
from kveil.proxy.inspection import rows
from kveil.proxy.inspection.rows import Row, rows_of
from tests.support.conversation import COMPACTED, DELETED, Conversation, make_shared
from tests.support.producing import PRODUCE, sent
from tests.support.records import at_offset, client_batch, legacy, marker, produced, sealed, tampered
from tests.support.tampering import with_checksum
from tests.vectors.reference import Batch, record

VECTORS = Path(__file__).parents[2] / "vectors"
REFUSED = [
    pytest.param(vector, id=f"{name}: {vector['name']}")
    for name in ("batch", "record")
    for vector in json.loads((VECTORS / f"{name}-refused.json").read_text())
]
OPENS = {name: json.loads((VECTORS / f"{name}-opens.json").read_text()) for name in ("batch", "record")}
SOME = [*OPENS["batch"], *OPENS["record"]]
# What shows without a key, where it stands in an envelope of the mode that is met there.
SHOWS = {
    *(Reason.OUTER_CODEC, Reason.LENGTH, Reason.VERSION, Reason.MODE, Reason.SUITE, Reason.EXTENSIONS),
    *(Reason.EXTENSION_ORDER, Reason.EXTENSION_UNKNOWN, Reason.KEY_BLOCK_MISSING, Reason.KEY_BLOCK),
    *(Reason.PROVIDER, Reason.MECHANISM, Reason.COUNT, Reason.RECORD, Reason.MIXED, Reason.OUT_OF_PLACE, Reason.INDEX),
}
HEADER = 61


def look(batch: bytes, partition: int = 0) -> list[Row]:
    return list(rows_of(partition, memoryview(batch)))


@pytest.fixture
def shared(tmp_path):
    return make_shared(tmp_path)


def record_sealed(tmp_path, batch: bytes, *, settings=COMPACTED, **config) -> bytes:
    """A batch as the proxy sends it, in record mode unless the topic's settings say otherwise."""
    talk = Conversation(tmp_path, **config)
    talk.settings["t"] = settings
    talk.client(PRODUCE, 9, produced({"t": {0: batch}}))
    return sent(talk)["t", 0]


def altered(batch: bytes, at: int, byte: int) -> bytes:
    """With one byte of its first envelope set, and a checksum to match."""
    place = batch.index(b"\xc5KV") + at
    return with_checksum(batch[:place] + bytes((byte,)) + batch[place + 1 :])


@pytest.mark.parametrize("vector", REFUSED)
def test_what_a_reader_refuses_is_a_row(vector):
    found = look(bytes.fromhex(vector["batch"]))
    assert found
    problems = {row.problem for row in found}
    if vector["reason"] in SHOWS:
        assert vector["reason"] in problems
    if problems == {None}:  # then it is plain, or only a key can tell
        assert {row.kind for row in found} <= {rows.SEALED, rows.PLAIN}


@pytest.mark.parametrize("name", OPENS)
def test_what_opens_is_a_row_without_a_problem(name):
    for vector in OPENS[name]:
        found = look(bytes.fromhex(vector["batch"]))
        assert {(row.kind, row.problem, row.version) for row in found} == {(rows.SEALED, None, 1)}
        assert all(row.outline.says is not None for row in found)
        assert all(0 < row.overhead_bytes < row.stored_bytes for row in found)


def test_a_batch_says_to_the_byte_what_sealing_adds(tmp_path):
    batch = client_batch(40)
    stored = at_offset(record_sealed(tmp_path, batch, settings=DELETED), 7)
    (row,) = look(stored, partition=3)
    assert (row.partition, row.first_offset, row.last_offset, row.records) == (3, 7, 46, 40)
    assert (row.stored_bytes, row.payload_bytes, row.overhead_bytes) == (
        len(stored),
        len(batch),
        len(stored) - len(batch),
    )
    assert (row.outline.mode_name, row.outline.suite_name) == ("batch", "HKDF-SHA512 + AES-256-GCM")
    assert row.outline.says.block.name == "default"


@pytest.mark.parametrize("keys", ["hidden", "clear"])
def test_record_mode_is_a_row_for_each_record(tmp_path, keys):
    records = [record(0, b"k", b"v" * 30), record(1, b"k", None), record(2, None, b"v" * 30)]
    batch = Batch(b"".join(records), 3).encode()
    found = look(at_offset(record_sealed(tmp_path, batch, topics=[{"match": "*", "keys": keys}]), 5))
    assert [(row.first_offset, row.batch_offset, row.records, row.outline.mode_name) for row in found] == [
        (5, 5, 1, "record"),
        (6, 5, 1, "tombstone"),
        (7, 5, 1, "record"),
    ]
    assert {row.outline.says.hiding_key_id is not None for row in found} == {keys == "hidden"}
    for row, one in zip(found, records, strict=True):
        assert 0 <= row.payload_bytes - len(one) <= 4, "but for the lengths of lengths"


def test_each_record_key_has_its_own(tmp_path):
    rule = {"match": "*", "mode": "record", "key": "eu", "key_per": "record_key"}
    batch = Batch(b"".join(record(n, key, b"v") for n, key in enumerate((b"a", b"b", b"a"))), 3).encode()
    first, second, third = look(record_sealed(tmp_path, batch, topics=[rule]))
    assert first.outline.kid == third.outline.kid != second.outline.kid
    assert first.outline.says.block.name == "eu"


def test_what_is_not_sealed_is_one_row(tmp_path):
    (plain,) = look(at_offset(client_batch(3), 10))
    assert (plain.kind, plain.records, plain.overhead_bytes, plain.problem) == (rows.PLAIN, 3, 0, None)
    (control,) = look(marker(offset=13))
    assert (control.kind, control.is_transactional, control.problem) == (rows.CONTROL, True, None)
    (disguised,) = look(marker(content=record(0, b"\0\0\0\1", b"plain in disguise")))
    assert disguised.problem == "control record has another layout than a marker"
    (empty,) = look(Batch(b"", 0, base_offset=14).encode())
    assert (empty.kind, empty.records, empty.problem) == (rows.EMPTY, 0, None)


@pytest.mark.parametrize("magic", [0, 1])
def test_a_message_of_an_old_format_is_a_row(magic):
    (row,) = look(legacy(magic))
    assert (row.kind, row.first_offset, row.problem) == (rows.OTHER, 0, f"magic {magic}, which can't be sealed")


def test_an_unknown_version_says_which(shared, tmp_path):
    """And nothing else, since its header may be another."""
    (row,) = look(altered(sealed(shared, "t", 0, client_batch(2)), 3, 9))
    assert (row.kind, row.version, row.outline, row.problem) == (rows.UNREADABLE, 9, None, Reason.VERSION)
    first, second = look(altered(record_sealed(tmp_path, client_batch(2)), 3, 9))
    assert [(one.records, one.version, one.problem) for one in (first, second)] == [
        (1, 9, Reason.VERSION),
        (1, 1, None),
    ]
    first, second = look(altered(record_sealed(tmp_path, client_batch(2)), 5, 9))
    assert (first.problem, first.outline.suite, first.outline.mode_name) == (Reason.SUITE, 9, "record")
    assert second.problem is None


def test_damage_shows_in_the_checksum(shared, tmp_path):
    """What has a good one and is damaged all the same only shows when it is opened."""
    stored = sealed(shared, "t", 0, client_batch(2))
    (row,) = look(tampered(stored))
    assert (row.kind, row.problem) == (rows.SEALED, "checksum")
    (again,) = look(with_checksum(tampered(stored)))
    assert again.problem is None
    assert {row.problem for row in look(tampered(record_sealed(tmp_path, client_batch(2))))} == {"checksum"}


@given(data=st.data())
def test_whatever_a_broker_makes_of_a_batch_is_a_row(data):
    """A few bytes are changed behind the magic number of the format, with the checksum made right."""
    vector = data.draw(st.sampled_from(SOME))
    batch = bytearray.fromhex(vector["batch"])
    for _ in range(data.draw(st.integers(1, 3))):
        batch[data.draw(st.integers(21, len(batch) - 1))] = data.draw(st.integers(0, 255))
    found = look(with_checksum(bytes(batch)))
    assert found
    assert all(row.problem is not None for row in found if row.kind == rows.UNREADABLE)


def test_every_cut_of_a_batch_is_a_row(shared):
    """Its length in front made right, as split_batches wants it."""
    stored = sealed(shared, "t", 0, client_batch(1))
    for end in range(HEADER, len(stored)):
        cut = stored[:8] + (end - 12).to_bytes(4, "big") + stored[12:end]
        (row,) = look(with_checksum(cut))
        assert row.problem is not None, end
