"""Records of every type: both ways, and every fault refused before or by the signature."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kveil.protocol.identity import cbor
from kveil.protocol.identity.checkpoint import Checkpoint, Ended
from kveil.protocol.identity.credential import Credential, Grant, History, Role
from kveil.protocol.identity.crypto import KemSuite
from kveil.protocol.identity.enrolment import Answer, Enrolment, Reason
from kveil.protocol.identity.errors import IdentityError, Malformed, Refused
from kveil.protocol.identity.marks import Head
from kveil.protocol.identity.progress import Mark, Progress, TransactionEnd
from kveil.protocol.identity.record import decode_record, encode_record, sign_body
from kveil.protocol.identity.signing import MAX_RECORD, RecordType, Signed, read_signed, sign
from tests.support.realm import NOW, Ending, Realm, consumes, identity, keeps, produces, value_of

SECRET = bytes(range(32))
REALM = Realm()
PRODUCER = REALM.node("producer", produces("orders", "pay-*"))
READER = REALM.node("reader", consumes(history=History.ALL))
KEEPER = REALM.node("keeper", keeps())
ENDED = Ended(id=READER.keys.id, chains={bytes(16): Head(3, bytes(32))}, marks=(Mark(bytes(16), 0, 7, 9),))
CHECKPOINT = REALM.checkpoint(ENDED)
ENDING = Ending(kid=bytes(16), marks=(Mark(bytes(16), 1, 2, 3), Mark(bytes(16), 1, 3, 1)))
ANNOUNCED = REALM.announce(PRODUCER, SECRET, READER, KEEPER, replaces=ENDING)
RECORDS = {
    "identity": (REALM.identity, REALM.authority),
    "credential": (PRODUCER.credential, REALM.authority),
    "checkpoint": (CHECKPOINT, REALM.authority),
    "answer": (
        sign_body(Answer(realm="demo", ticket_id=bytes(16), node=bytes(32), reason=Reason.USED), REALM.authority),
        REALM.authority,
    ),
    "announcement": (ANNOUNCED, PRODUCER.keys),
    "regrant": (REALM.regrant(KEEPER, ANNOUNCED, SECRET, READER), KEEPER.keys),
    "hiding": (REALM.hand(READER, SECRET), REALM.authority),
    "beacon": (
        REALM.beacon(
            PRODUCER,
            heads=(Progress(bytes(16), 0, 0, 5, 6),),
            ended=(TransactionEnd(bytes(16), 0, 0, 1, 3, True), TransactionEnd(bytes(16), 0, 0, 4, 4, False)),
        ),
        PRODUCER.keys,
    ),
}
each = pytest.mark.parametrize(("record", "signer"), RECORDS.values(), ids=RECORDS)


@each
def test_both_ways(record, signer):
    found = decode_record(value_of(record), "demo")
    assert found.signed == record
    found.signed.verify(signer.public)
    if hasattr(found.body, "to_map"):
        assert found.body.to_map() == record.fields
        assert sign_body(found.body, signer) == record


@each
def test_every_flipped_byte(record, signer):
    """Refused as malformed, or by the signature: nothing is outside of it."""
    value = value_of(record)
    for at in range(len(value)):
        bad = bytearray(value)
        bad[at] ^= 1 if at != 1 else 8  # type 4, which isn't signed, is one bit from two others
        with pytest.raises(IdentityError):
            decode_record(bytes(bad), "demo").signed.verify(signer.public)


@each
def test_every_length_but_the_right_one(record, signer):
    value = value_of(record)
    for wrong in [value[:at] for at in range(len(value))] + [value + b"\0"]:
        with pytest.raises(Malformed):
            decode_record(wrong, "demo")


@each
def test_every_field_has_to_be_there_and_of_its_kind(record, signer):
    """Even if the right signer signs it: nothing is guessed at."""
    wrongs = ({}, [[]], -1, 2**63, b"xyz", "ä" * 400)
    for key in sorted(set(record.fields) - {1}):
        for fields in [
            {k: v for k, v in record.fields.items() if k != key},
            *(record.fields | {key: w} for w in wrongs),
        ]:
            cose = sign_raw(record.type, fields, signer)
            with pytest.raises(Malformed):
                decode_record(value_of_raw(record.type, cose), "demo")
    cose = sign_raw(record.type, record.fields | {99: 0}, signer)
    with pytest.raises(Malformed, match="unknown field"):
        decode_record(value_of_raw(record.type, cose), "demo")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("beacon", {9: [[bytes(16), 0, 0, 6, 5]]}),  # more acknowledged than sealed
        ("beacon", {9: [[bytes(16), 0, 0, 5]]}),
        ("beacon", {9: [[bytes(16), 0, 0, 5, 5], [bytes(16), 0, 0, 6, 6]]}),
        ("announcement", {17: 0}),
        ("announcement", {17: 2}),  # its process began behind it
    ],
)
def test_what_can_not_be(name, change):
    record, signer = RECORDS[name]
    with pytest.raises(Malformed):
        decode_record(value_of_raw(record.type, sign_raw(record.type, record.fields | change, signer)), "demo")


def sign_raw(record_type, fields, signer) -> bytes:
    return sign(record_type, fields, signer).cose


def value_of_raw(record_type, cose) -> bytes:
    return bytes((1, record_type)) + cose


@each
def test_another_realm(record, signer):
    with pytest.raises(Refused, match="of another realm"):
        decode_record(value_of(record), "demo2")
    # Nor by saying that it is of this one: the realm is in what is signed.
    parts = cbor.decode(record.cose, "it")
    parts[2] = cbor.encode(dict(record.fields) | {1: "demo2"})
    with pytest.raises(IdentityError):
        decode_record(value_of_raw(record.type, cbor.encode(parts)), "demo2").signed.verify(signer.public)


@each
def test_no_type_passes_for_another(record, signer):
    for other in RecordType:
        if other not in {record.type, RecordType.ENROLMENT}:
            with pytest.raises(IdentityError):
                read_signed(other, record.cose, "demo").verify(signer.public)


@each
def test_another_signer(record, signer):
    other = identity("somebody")
    with pytest.raises(Refused, match="signed by another"):
        record.verify(other.public)
    forged = sign(record.type, record.fields, other)
    with pytest.raises(Refused, match="signed by another"):
        forged.verify(signer.public)
    parts = cbor.decode(forged.cose, "it")
    parts[0] = cbor.decode(record.cose, "it")[0]
    with pytest.raises(Refused, match="signature"):
        read_signed(record.type, cbor.encode(parts), "demo").verify(signer.public)


def test_records_name_their_signers():
    other = REALM.node("other", produces(), keeps(), list_it=False)
    for name in ("announcement", "regrant", "beacon", "identity"):
        record, _ = RECORDS[name]
        with pytest.raises(Refused, match="signed by another than it names"):
            decode_record(value_of_raw(record.type, sign_raw(record.type, record.fields, other.keys)), "demo")


@pytest.mark.parametrize("algorithm", [0, 1, -7, -8, -65602, None, "EdDSA", True])
def test_algorithms(algorithm):
    with pytest.raises(Malformed, match=r"algorithm|kind of value"):
        read_with({0: cbor.encode({1: algorithm, 4: REALM.authority.id})})


def read_with(changes) -> Signed:
    """The checkpoint with other parts."""
    parts = cbor.decode(CHECKPOINT.cose, "it")
    for at, part in changes.items():
        parts[at] = part
    return read_signed(RecordType.CHECKPOINT, cbor.encode(parts), "demo")


def test_the_algorithm_is_the_one_of_the_keys():
    """Neither can the second signature be left out, nor is one of other keys taken for it."""
    twice = identity("authority", twice=True)
    record = sign(RecordType.CHECKPOINT, CHECKPOINT.fields, twice)
    record.verify(twice.public)
    parts = cbor.decode(record.cose, "it")
    parts[0], parts[3] = cbor.encode({1: -19, 4: twice.id}), parts[3][:64]
    with pytest.raises(Refused, match="another algorithm"):
        read_signed(RecordType.CHECKPOINT, cbor.encode(parts), "demo").verify(twice.public)
    parts[3] = twice.sign(b"")[:64]
    with pytest.raises(Refused, match="another algorithm"):
        read_signed(RecordType.CHECKPOINT, cbor.encode(parts), "demo").verify(twice.public)


@pytest.mark.parametrize(
    "changes",
    [
        {1: {1: 0}},
        {1: []},
        {0: {}},
        {0: b""},
        {0: b"\xa0"},
        {2: {}},
        {2: b"\x80"},
        {2: b"\xa1\x01\xf7"},
        {3: bytes(63)},
        {3: None},
    ],
)
def test_other_shapes_of_cose(changes):
    with pytest.raises(IdentityError):
        read_with(changes)


@pytest.mark.parametrize("value", [b"", b"\1", b"\2\3", b"\1\0", b"\1\x0a", b"\0\3"])
def test_versions_and_types(value):
    with pytest.raises(Malformed):
        decode_record(value, "demo")


def test_nothing_long_is_looked_at():
    with pytest.raises(Malformed, match="longer"):
        decode_record(b"\1\3" + bytes(MAX_RECORD + 1), "demo")
    with pytest.raises(Malformed, match="limit"):
        sign_body(
            replace(decode_record(value_of(CHECKPOINT), "demo").body, live={n: bytes(32) for n in range(1, 30_000)}),
            REALM.authority,
        )


@given(st.binary(max_size=120))
def test_any_bytes_are_a_record_or_refused(data):
    for record_type in RecordType:
        try:
            found = decode_record(bytes((1, record_type)) + data, "demo")
        except IdentityError:
            continue
        assert isinstance(found, Enrolment)


def test_kafka_keys():
    def key_of(record) -> bytes:
        return encode_record(record)[0]

    ids = b"".join(sorted((READER.keys.id,)))
    kid = ANNOUNCED.fields[5]
    assert key_of(REALM.identity) == b"\1\1" + REALM.authority.id
    assert key_of(PRODUCER.credential) == b"\1\2" + PRODUCER.keys.id + (1).to_bytes(8, "big")
    assert key_of(CHECKPOINT) == b"\1\3"
    assert key_of(RECORDS["answer"][0]) == b"\1\5" + bytes(16)
    assert key_of(ANNOUNCED) == b"\1\6" + kid
    assert key_of(RECORDS["regrant"][0]) == b"\1\7" + kid + KEEPER.keys.id + hashlib.sha256(ids).digest()[:16]
    assert key_of(RECORDS["beacon"][0]) == b"\1\x08" + PRODUCER.chain
    assert key_of(RECORDS["hiding"][0]) == b"\1\x09" + READER.keys.id
    assert key_of(Enrolment(ticket_id=b"t" * 16, sealed=b"x")) == b"\1\4" + b"t" * 16


def test_numbers_are_for_ever():
    assert [(one.name, int(one)) for one in RecordType] == [
        ("IDENTITY", 1), ("CREDENTIAL", 2), ("CHECKPOINT", 3), ("ENROLMENT", 4), ("ANSWER", 5), ("ANNOUNCEMENT", 6),
        ("REGRANT", 7),
        ("BEACON", 8),
        ("HIDING", 9),
    ]  # fmt: skip
    assert [int(one) for one in (*Role, *History, *KemSuite, *Reason)] == [1, 2, 3, 0, 1, 2, 1, 2, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "change",
    [{"name": ""}, {"name": "A"}, {"name": "a" * 65}, {"name": "a\n"}, {"expires": NOW - 300},
     {"expires": NOW + 8 * 86_400},
     {"grants": (produces(),) * 33}],
    ids=str,
)  # fmt: skip
def test_what_a_credential_cant_say(change):
    with pytest.raises(Malformed):
        replace(PRODUCER.body, **change)


@pytest.mark.parametrize(
    "make",
    [lambda: Grant(role=Role.PRODUCE, patterns=()), lambda: produces(*"a" * 65), lambda: produces(""),
     lambda: produces("a" * 250),
     lambda: Grant(role=Role.PRODUCE, patterns=("a",), history=History.ALL)],
)  # fmt: skip
def test_what_a_grant_cant_say(make):
    with pytest.raises(Malformed):
        make()


def test_the_keys_of_a_credential_are_its_subjects():
    fields = dict(PRODUCER.credential.fields) | {2: READER.keys.id}
    with pytest.raises(Malformed, match="not the subject's"):
        Credential.from_map(fields)


def test_what_grants_cover():
    body = PRODUCER.body
    assert body.may(Role.PRODUCE, "pay-1")
    assert not body.may(Role.PRODUCE, "payments")
    assert not body.may(Role.CONSUME, "orders")
    assert body.history_of("orders") is None
    both = replace(body, grants=(consumes("*", history=History.NONE), consumes("orders", history=History.ALL)))
    assert (both.history_of("orders"), both.history_of("other")) == (History.ALL, History.NONE)


def test_clocks_may_be_apart():
    start, end = PRODUCER.body.not_before, PRODUCER.body.expires
    assert [PRODUCER.body.covers_time(at) for at in (start - 121, start - 120, end + 120, end + 121)] == [
        False,
        True,
        True,
        False,
    ]
    checkpoint = Checkpoint.from_map(CHECKPOINT.fields)
    assert [checkpoint.expired(checkpoint.expires + skew) for skew in (120, 121)] == [False, True]


@pytest.mark.parametrize(
    "change",
    [{2: 0}, {2: 2}, {3: bytes(31) + b"1"}, {5: NOW - 1}, {6: [[2, bytes(32)], [1, bytes(32)]]},
     {6: [[1, bytes(32)]] * 2}, {6: [[0, bytes(32)]]},
     {7: [[bytes(32), [], []]] * 2}, {7: [[bytes(32), [[bytes(16), 1, bytes(32)]] * 2, []]]},
     {7: [[bytes(32), [], [[bytes(16), 0, 0, 1]] * 2]]},
     {8: 0}, {8: 3}, {9: True}, {9: [True]}, {9: [1, 0]}],
    ids=str,
)  # fmt: skip
def test_what_a_checkpoint_cant_say(change):
    with pytest.raises(Malformed):
        Checkpoint.from_map(dict(CHECKPOINT.fields) | change)


@pytest.mark.parametrize(
    "rows",
    [
        [(0, 0, 4, 3)],
        [(0, 0, 0, 3)],
        [(0, 0, 4, 4), (0, 0, 1, 3)],
        [(0, 0, 1, 3), (0, 0, 3, 4)],
        [(0, 1, 1, 1), (0, 0, 2, 2)],
        [(1, 0, 1, 1), (0, 0, 2, 2)],
    ],
    ids=["backwards", "from 0", "descending", "twice", "lanes", "partitions"],
)
def test_ends_of_transactions_are_ascending_and_apart(rows):
    fields = REALM.beacon(PRODUCER).fields
    for told in (rows, [(0, 0, 1, 3), (0, 0, 4, 4), (0, 1, 1, 1), (1, 0, 1, 1)]):
        signed = sign(RecordType.BEACON, fields | {11: [[bytes(16), *row, True] for row in told]}, PRODUCER.keys)
        if told is rows:
            with pytest.raises(Malformed, match="field 11"):
                decode_record(value_of(signed), "demo")
        else:
            decode_record(value_of(signed), "demo")
