"""Bearer tickets and what is asked for with them."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kveil.protocol.identity import cbor
from kveil.protocol.identity.crypto import KemSuite, hpke_seal
from kveil.protocol.identity.enrolment import Enrolment, open_enrolment, request_enrolment
from kveil.protocol.identity.errors import IdentityError, Malformed, Refused
from kveil.protocol.identity.identity import Identity
from kveil.protocol.identity.marks import Kept
from kveil.protocol.identity.record import decode_record, encode_record
from kveil.protocol.identity.ticket import Ticket
from tests.support.realm import NOW, identity

AUTHORITY = identity("authority")
TICKET = Ticket(
    realm="demo", authority=AUTHORITY.id, secret=bytes(range(32)), checkpoint=Kept(7, bytes(32)), expires=NOW
)
NODE = identity("node")


@given(
    st.binary(min_size=32, max_size=32),
    st.integers(1, 2**40),
    st.integers(0, 2**40),
    st.text("a-é", min_size=1, max_size=9),
)
def test_both_ways(secret, number, expires, realm):
    ticket = replace(TICKET, secret=secret, checkpoint=Kept(number, secret), expires=expires, realm=realm)
    assert Ticket.from_text(f" {ticket.to_text()}\n") == ticket


def test_one_line_that_shells_leave_alone():
    text = TICKET.to_text()
    assert text.startswith("kveil1.")
    assert set(text) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
    assert len(text) < 250


def test_faults_in_a_ticket():
    text = TICKET.to_text()
    wrongs = [text[:at] for at in range(len(text))] + [
        text + "A",
        text + "=",
        text + "!",
        "kveil2." + text[7:],
        text[7:],
        text[:20] + " " + text[20:],
    ]
    wrongs += [text[:-1] + other for other in "ABCDEFGHabcdefgh" if Ticket_differs(text[:-1] + other)]
    wrongs += ["kveil1." + "A" * 2_000, "kveil1.é"]
    for wrong in wrongs:
        with pytest.raises(Malformed) as caught:
            Ticket.from_text(wrong)
        assert text[20:40] not in caught.value.reason


def Ticket_differs(text: str) -> bool:
    """Whether the last character's spare bits aren't zero, or the text is another ticket's."""
    try:
        return Ticket.from_text(text) == TICKET and text != TICKET.to_text()
    except Malformed:
        return True


def test_the_secret_isnt_shown():
    key = TICKET.key()
    assert repr(TICKET.secret) not in repr(TICKET)
    assert repr(key.seed) not in repr(key)


def test_a_key_for_each_secret_realm_and_authority():
    others = [TICKET, replace(TICKET, secret=bytes(32)), replace(TICKET, realm="d"), replace(TICKET, authority=NODE.id)]
    assert len({ticket.key().id for ticket in others}) == len({ticket.key().public for ticket in others}) == 4
    assert replace(TICKET, expires=1).key().id == TICKET.key().id
    with pytest.raises(Malformed):
        replace(TICKET, secret=bytes(31)).key()


@pytest.mark.parametrize("suite", list(KemSuite))
@pytest.mark.parametrize("twice", [False, True])
def test_a_request_and_what_the_authority_sees(suite, twice):
    authority, node = identity("authority", suite=suite, twice=twice), Identity.generate(suite=suite, sign_twice=twice)
    ticket = replace(TICKET, authority=authority.id)
    sealed = request_enrolment(ticket, node, authority.public, "consumer1")
    found = decode_record(encode_record(sealed)[1], "demo")
    request = open_enrolment(found, authority, "demo")
    request.check_ticket(ticket.key().public)
    assert (request.keys, request.name, request.ticket_id) == (node.public, "consumer1", ticket.key().id)
    assert node.public.ed25519 not in sealed.to_bytes()
    assert ticket.secret not in sealed.to_bytes()


def test_a_request_for_another():
    sealed = request_enrolment(TICKET, NODE, AUTHORITY.public)
    with pytest.raises(Refused, match="another authority"):
        request_enrolment(TICKET, NODE, NODE.public)
    for opener, realm, enrolment in (
        (NODE, "demo", sealed),
        (AUTHORITY, "demo2", sealed),
        (AUTHORITY, "demo", replace(sealed, ticket_id=bytes(16))),
        (AUTHORITY, "demo", replace(sealed, sealed=sealed.sealed[:-1])),
        (AUTHORITY, "demo", replace(sealed, sealed=b"x")),
    ):
        with pytest.raises(Refused, match="not sealed for this key"):
            open_enrolment(enrolment, opener, realm)


def test_a_request_without_the_ticket():
    """Whoever knows the ticket's id but not its secret signs with another key."""
    other = replace(TICKET, secret=bytes(32))
    request = open_enrolment(request_enrolment(other, NODE, AUTHORITY.public), AUTHORITY, "demo")
    with pytest.raises(Refused, match="signature"):
        request.check_ticket(TICKET.key().public)
    stolen = open_enrolment(request_enrolment(TICKET, NODE, AUTHORITY.public), AUTHORITY, "demo")
    for change in (
        {"keys": identity("thief").public},
        {"nonce": bytes(32)},
        {"name": "x"},
        {"realm": "x"},
        {"ticket_id": bytes(16)},
    ):
        with pytest.raises(Refused, match="signature"):
            replace(stolen, **change).check_ticket(TICKET.key().public)


@pytest.mark.parametrize("key", [1, 2, 3, 4, 5])
def test_every_field_is_of_its_kind(key):
    """Sealed by somebody who has the ticket and no manners."""
    info = b"kveil/v1/enrolment\0" + b"\0\4demo" + TICKET.key().id
    good = {1: NODE.public.to_map(), 2: bytes(32), 3: bytes(64), 4: "x", 5: bytes(64)}
    for wrong in ({}, 1, b"", "", True):
        data = cbor.encode(good | {key: wrong})
        sealed = hpke_seal(AUTHORITY.suite, AUTHORITY.public.kem, info, data)
        with pytest.raises(IdentityError):
            open_enrolment(Enrolment(ticket_id=TICKET.key().id, sealed=sealed), AUTHORITY, "demo")
    sealed = hpke_seal(AUTHORITY.suite, AUTHORITY.public.kem, info, cbor.encode(good))
    with pytest.raises(Refused, match="signature"):
        open_enrolment(Enrolment(ticket_id=TICKET.key().id, sealed=sealed), AUTHORITY, "demo")


def test_nothing_long_is_opened():
    for wrong in (b"", bytes(16), bytes(16 + 16_385)):
        with pytest.raises(Malformed, match="length"):
            Enrolment.from_bytes(wrong)
