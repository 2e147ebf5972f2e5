"""The control topic as its authority reads it: bounded, and only what is signed."""

import pytest

from kveil.protocol.identity.enrolment import request_enrolment
from kveil.protocol.identity.record import IdentityRecord, encode_record, sign_body
from kveil.proxy.identity import authority_reader
from tests.support.realm import Realm, consumes, identity, value_of
from tests.support.realm_desk import Desk

A, B = identity("a"), identity("b")


@pytest.fixture
def desk():
    made = Desk()
    made.publish()
    return made


def enrolment(desk, node):
    step = desk.step()
    ticket = step.issue_ticket((consumes("x"),), 600, 1, None)
    desk.finish(step)
    return request_enrolment(ticket, node, desk.keys.public)


def test_enrolments_are_taken_once(desk):
    asked = enrolment(desk, A)
    desk.put(asked, asked)
    reader = desk.reader()
    assert reader.take_enrolments() == [asked]
    assert reader.take_enrolments() == []


def test_of_too_many_the_oldest_go(desk, monkeypatch):
    monkeypatch.setattr(authority_reader, "MOST_ENROLMENTS", 2)
    monkeypatch.setattr(authority_reader, "MOST_IDENTITIES", 2)
    asked = [enrolment(desk, A) for _ in range(3)]
    nodes = [identity(name) for name in "cde"]
    desk.put(*asked, *(sign_body(IdentityRecord(realm="demo", keys=node.public), node) for node in nodes))
    reader = desk.reader()
    assert reader.take_enrolments() == asked[1:]
    assert [reader.identity(node.id) is not None for node in nodes] == [False, True, True]


def test_an_identity_must_have_signed_for_itself(desk):
    record = value_of(sign_body(IdentityRecord(realm="demo", keys=A.public), A))
    desk.values.append(record[:-1] + bytes([record[-1] ^ 1]))
    reader = desk.reader()
    assert reader.identity(A.id) is None
    assert reader.refused == 1
    desk.values.append(record)
    assert desk.reader().identity(A.id) == A.public


def test_what_another_authority_signed_is_not_its_own(desk):
    other = Realm(name="demo")
    other.authority = B
    node = other.node("c", consumes("x"))
    checkpoint = other.checkpoint()
    desk.put(node.credential, checkpoint)
    reader = desk.reader()
    assert not reader.has(node.credential)
    assert not reader.has(checkpoint)
    assert reader.newer_than(desk.state.latest.kept) is None
    assert reader.refused == 2


def test_it_is_told_of_news_alone(desk):
    reader = desk.reader()
    told = []
    reader.when_changed = lambda: told.append(True)
    reader.heard()
    assert told == []
    reader.apply(0, *encode_record(enrolment(desk, A)))
    assert told == []
    reader.heard()
    reader.heard()
    assert told == [True]
