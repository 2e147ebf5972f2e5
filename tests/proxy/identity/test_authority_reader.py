"""The control topic as its authority reads it: bounded, and only what is signed."""

import pytest

from kveil.protocol.identity.enrolment import request_enrolment
from kveil.protocol.identity.marks import Head
from kveil.protocol.identity.progress import Progress
from kveil.protocol.identity.record import IdentityRecord, encode_record, sign_body
from kveil.proxy.identity import authority_reader
from kveil.proxy.identity.authority_reader import AuthorityReader, LastWord
from tests.support.ends import end_of, state_of
from tests.support.realm import NOW, Realm, consumes, identity, produces, value_of
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


class TestAProducer:
    """What its processes say of themselves."""

    @pytest.fixture
    def realm(self):
        made = Realm()
        self.shop, self.reader = made.node("shop", produces()), made.node("reader", consumes())
        self.first = made.checkpoint()
        return made

    def announce(self, realm, secret, **changes):
        return realm.announce(self.shop, bytes([secret]) * 32, self.reader, **changes)

    def all(self, realm, *records):
        nodes = (self.shop.credential, self.reader.credential)
        return [encode_record(record) for record in (realm.identity, *nodes, *realm.checkpoints, *records)]

    def words(self, realm, *records):
        reader = AuthorityReader(realm.authority.public, state_of(realm))
        for key, value in self.all(realm, *records):
            reader.apply(0, key, value)
        reader.heard()
        return reader.last_words(self.shop.keys.id)

    def test_one_that_runs(self, realm):
        one = self.announce(realm, 1)
        beacon = realm.beacon(self.shop, created=NOW + 60)
        realm.checkpoint()
        (word,) = self.words(realm, one, beacon)
        assert word == LastWord(said=NOW + 60, checkpoint=1, is_over=False)
        assert (word.answers(1), word.answers(2)) == (True, False)

    def test_one_that_has_said_nothing_yet(self, realm):
        one = self.announce(realm, 1, created=NOW + 5)
        assert self.words(realm, one) == [LastWord(said=NOW + 5, checkpoint=0, is_over=False)]

    def test_one_that_is_over(self, realm):
        one = self.announce(realm, 1)
        (word,) = self.words(realm, one, realm.beacon(self.shop, last=True))
        assert word.is_over
        assert word.answers(99)

    def test_one_that_took_the_place_of_another(self, realm):
        """What that said, also as its last word, isn't this one's."""
        one = self.announce(realm, 1)
        last = realm.beacon(self.shop, last=True)
        two = self.announce(realm, 2, first=2, created=NOW + 9)
        assert self.words(realm, one, last, two) == [LastWord(said=NOW + 9, checkpoint=0, is_over=False)]

    def test_one_that_went_on_after_its_last_word(self, realm):
        one = self.announce(realm, 1)
        last = realm.beacon(self.shop, last=True)
        (word,) = self.words(realm, one, last, self.announce(realm, 2))
        assert not word.is_over

    def test_one_that_names_anothers_credential(self, realm):
        one = self.announce(realm, 1)
        beacon = realm.beacon(self.shop, credential=self.reader.credential.hash, created=NOW + 60)
        assert self.words(realm, one, beacon) == [LastWord(said=NOW, checkpoint=0, is_over=False)]

    def test_its_end_fits_whatever_it_has_written(self, realm, monkeypatch):
        """Of too many chains those count that went on last."""
        monkeypatch.setattr(authority_reader, "MOST_CHAINS", 2)
        made = []
        for at in range(1, 5):
            chain = bytes([at]) * 16
            made.append(
                self.announce(
                    realm, at, chain=chain, sequence=1, previous=bytes(32), created=NOW + 10 - at, advance=False
                )
            )
        marks = [
            realm.beacon(
                self.shop,
                chain=bytes([at]) * 16,
                head=Head(1, made[at - 1].hash),
                heads=(Progress(made[at - 1].fields[5], 0, at, 0, at),),
            )
            for at in range(1, 5)
        ]
        ended = end_of(realm, self.shop, self.all(realm, *made, *marks))
        assert sorted(ended.chains) == [bytes([1]) * 16, bytes([2]) * 16]
        assert sorted(mark.lane for mark in ended.marks) == [1, 2]
