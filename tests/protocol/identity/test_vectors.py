"""Kept records: what was written once is read for ever, and by what the format says alone."""

import hashlib
import hmac
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from kveil.protocol.envelope.header import lp
from kveil.protocol.identity.announcement import Announcement
from kveil.protocol.identity.checkpoint import Checkpoint
from kveil.protocol.identity.crypto import KemSuite
from kveil.protocol.identity.enrolment import Enrolment, open_enrolment
from kveil.protocol.identity.identity import Identity
from kveil.protocol.identity.judging import Verdict
from kveil.protocol.identity.record import decode_record
from kveil.protocol.identity.ticket import Ticket
from kveil.protocol.identity.view import Outcome, View
from tests.support.realm import NOW
from tests.vectors import identity_generate

VECTORS = json.loads((identity_generate.HERE / "records.json").read_text())
every = pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{KemSuite(v['suite']).name}-{v['signs_twice']}")


def test_there_is_one_for_each_kind_of_realm():
    assert {(vector["suite"], vector["signs_twice"]) for vector in VECTORS} == {
        (1, False),
        (1, True),
        (2, False),
        (2, True),
    }


@every
def test_is_believed_and_opens(vector):
    """With the post-quantum KEM of the draft that is in use: another one needs another suite number."""
    reader = Identity.from_private_bytes(bytes.fromhex(vector["reader"]))
    view = View(realm="demo", authority=bytes.fromhex(vector["authority_id"]), me=reader.id)
    for record in vector["records"]:
        assert view.apply(bytes.fromhex(record)).outcome is Outcome.TAKEN
        if view.to_keep is not None:
            view.keep(view.to_keep)
    view.reached_end()
    assert view.alarms(NOW) == ()
    (judged,) = view.announcements(bytes.fromhex(vector["kid"]))
    assert judged.verdict is Verdict.ACCEPTED
    announced = judged.announced.announcement
    assert announced.open(reader).hex() == vector["epoch_key"]
    ((regranted, _),) = view.regrants(announced.kid)
    assert regranted.regrant.open(reader, announced).hex() == vector["epoch_key"]
    assert view.handed.open(reader).hex() == vector["hiding_key"]
    assert view.handed.key.id.hex() == vector["hiding_key_id"]


@every
def test_tickets_and_enrolments(vector):
    ticket = Ticket.from_text(vector["ticket"])
    assert (ticket.key().id.hex(), ticket.key().public.hex()) == (vector["ticket_id"], vector["ticket_public"])
    authority = Identity.from_private_bytes(bytes.fromhex(vector["authority"]))
    request = open_enrolment(Enrolment.from_bytes(bytes.fromhex(vector["enrolment"])), authority, "demo")
    request.check_ticket(ticket.key().public)
    assert (request.keys.id.hex(), request.name) == (vector["reader_id"], "reader")


@pytest.mark.parametrize("vector", [v for v in VECTORS if not v["signs_twice"]], ids=["X25519", "MLKEM768"])
def test_what_isnt_random_is_made_again(vector):
    made = identity_generate.realm_of(KemSuite(vector["suite"]), False)
    for key in vector.keys() - {"records", "enrolment"}:
        assert made[key] == vector[key], key
    assert made["records"][:5] == vector["records"][:5]


# The specification, written a second time: without a line of the product.


def cbor(value) -> bytes:
    """Deterministic CBOR."""

    def head(major: int, number: int) -> bytes:
        if number < 24:
            return bytes((major << 5 | number,))
        width = next(width for width in range(4) if number < 256 ** (1 << width))
        return bytes((major << 5 | 24 + width,)) + number.to_bytes(1 << width, "big")

    match value:
        case None | bool():
            return {False: b"\xf4", True: b"\xf5", None: b"\xf6"}[value]
        case int():
            return head(0, value) if value >= 0 else head(1, -1 - value)
        case bytes():
            return head(2, len(value)) + value
        case str():
            return head(3, len(value.encode())) + value.encode()
        case list():
            return head(4, len(value)) + b"".join(map(cbor, value))
        case dict():
            return head(5, len(value)) + b"".join(cbor(key) + cbor(value[key]) for key in sorted(value))
    raise TypeError(value)


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def expand(key: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869, 2.3, with SHA-512, for one block."""
    return hmac.digest(key, info + b"\1", hashlib.sha512)[:length]


VECTOR = VECTORS[0]
TAKEN_APART = [decode_record(bytes.fromhex(record), "demo") for record in VECTOR["records"]]


def test_ids():
    keys = TAKEN_APART[0].body.keys
    fields = {1: keys.ed25519, 3: 1, 4: keys.kem}
    assert sha256(b"kveil/v1/identity\0", cbor(fields)).hex() == VECTOR["authority_id"]
    twice = decode_record(bytes.fromhex(VECTORS[3]["records"][0]), "demo").body.keys
    fields = {1: twice.ed25519, 2: twice.mldsa, 3: 2, 4: twice.kem}
    assert sha256(b"kveil/v1/identity\0", cbor(fields)).hex() == VECTORS[3]["authority_id"]


@pytest.mark.parametrize("at", range(len(TAKEN_APART)))
def test_signatures(at):
    """What is signed is what section 3 says, for each type."""
    signed = TAKEN_APART[at].signed
    protected = cbor({1: -19, 4: signed.signer})
    aad = b"kveil/v1/" + signed.type.name.lower().encode() + b"\0" + lp(b"demo")
    message = cbor(["Signature1", protected, aad, signed.payload])
    makers = {one.body.keys.id: one.body.keys for one in TAKEN_APART[:4]}
    Ed25519PublicKey.from_public_bytes(makers[signed.signer].ed25519).verify(signed.signature, message)
    cose = cbor([protected, {}, signed.payload, signed.signature])
    assert bytes.fromhex(VECTOR["records"][at]) == bytes((1, signed.type)) + cose
    assert signed.hash == sha256(cose)
    assert cbor(dict(signed.fields)) == signed.payload


def test_fields_of_credentials_checkpoints_and_announcements():
    credential, checkpoint, announced = (TAKEN_APART[at] for at in (1, 4, 5))
    keys = credential.body.keys
    public = {1: keys.ed25519, 3: 1, 4: keys.kem}
    assert dict(credential.signed.fields) == {
        1: "demo", 2: keys.id, 3: "producer", 4: 1, 5: NOW - 300, 6: NOW + 7 * 86_400 - 300, 7: public,
        8: [[1, ["orders"], 0]],
    }  # fmt: skip
    live = [[number, TAKEN_APART[number].signed.hash] for number in (1, 2, 3)]
    assert dict(checkpoint.signed.fields) == {
        1: "demo", 2: 1, 3: bytes(32), 4: NOW, 5: NOW + 86_400, 6: live, 7: [], 8: 1, 9: [True, True],
    }  # fmt: skip
    assert isinstance(checkpoint.body, Checkpoint)
    fields = dict(announced.signed.fields)
    assert isinstance(announced.body, Announcement)
    place = lp(b"demo") + lp(b"orders") + b"\7" + lp(keys.id)
    made = expand(bytes.fromhex(VECTOR["epoch_key"]), b"kveil/v1/kid\0" + place, 48)
    assert (fields[5], fields[6]) == (made[:16], made[16:])
    assert fields[12] == [1, checkpoint.signed.hash]
    assert fields[3] == credential.signed.hash
    wraps = fields.pop(16)
    assert [row[0] for row in wraps] == sorted(TAKEN_APART[number].body.keys.id for number in (2, 3))
    reader = Identity.from_private_bytes(bytes.fromhex(VECTOR["reader"]))
    info = b"kveil/v1/epoch-key\0" + sha256(cbor(fields)) + reader.id
    assert reader.open(info, dict(wraps)[reader.id]).hex() == VECTOR["epoch_key"]
    regranted = dict(TAKEN_APART[6].signed.fields)
    ((_, wrap),) = regranted.pop(7)
    info = b"kveil/v1/regrant\0" + sha256(cbor(regranted)) + reader.id
    assert reader.open(info, wrap).hex() == VECTOR["epoch_key"]


def test_fields_of_what_hands_out_the_key_hiding_key():
    """The id is the one that envelopes have (envelope format, section 10.2)."""
    handed = TAKEN_APART[8]
    reader = Identity.from_private_bytes(bytes.fromhex(VECTOR["reader"]))
    fields = dict(handed.signed.fields)
    key_id = expand(bytes.fromhex(VECTOR["hiding_key"]), b"kveil/v1/hiding-id\0" + lp(b"demo"), 16)
    wrap = fields.pop(5)
    assert fields == {1: "demo", 2: reader.id, 3: key_id, 4: key_id}
    info = b"kveil/v1/hiding-key\0" + sha256(cbor(fields)) + reader.id
    assert reader.open(info, wrap).hex() == VECTOR["hiding_key"]
    assert handed.signed.signer.hex() == VECTOR["authority_id"]


def test_what_a_ticket_derives():
    ticket = Ticket.from_text(VECTOR["ticket"])
    info = b"kveil/v1/ticket\0" + lp(b"demo") + bytes.fromhex(VECTOR["authority_id"])
    made = expand(ticket.secret, info, 48)
    assert made[32:].hex() == VECTOR["ticket_id"]
    assert (
        Ed25519PrivateKey.from_private_bytes(made[:32]).public_key().public_bytes_raw().hex() == VECTOR["ticket_public"]
    )
