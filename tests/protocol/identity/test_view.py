"""What a node believes: who is live, who gets keys, which announcements count, in whatever order records come."""

import random
import tracemalloc
from dataclasses import replace

import pytest

from kveil.protocol.identity import waiting
from kveil.protocol.identity.checkpoint import Ended
from kveil.protocol.identity.credential import History
from kveil.protocol.identity.crypto import KemSuite
from kveil.protocol.identity.enrolment import request_enrolment
from kveil.protocol.identity.errors import Refused
from kveil.protocol.identity.fold import Outcome
from kveil.protocol.identity.judging import Verdict
from kveil.protocol.identity.marks import Head, Kept
from kveil.protocol.identity.members import Standing
from kveil.protocol.identity.progress import Mark
from kveil.protocol.identity.record import IdentityRecord, encode_record, sign_body
from kveil.protocol.identity.signing import RecordType, sign
from kveil.protocol.identity.ticket import Ticket
from kveil.protocol.identity.view import View
from tests.support.realm import (
    DAY,
    NOW,
    Ending,
    Realm,
    announcement_of,
    consumes,
    identity,
    keeps,
    produces,
    read,
    value_of,
)

SECRETS = [bytes((n,)) * 32 for n in range(1, 20)]


class Scene:
    """A producer, a reader, a keeper, the first checkpoint, and two announcements."""

    def __init__(self):
        self.realm = Realm()
        self.producer = self.realm.node("producer", produces())
        self.reader = self.realm.node("reader", consumes())
        self.keeper = self.realm.node("keeper", keeps())
        self.checkpoint = self.realm.checkpoint()
        self.one = self.announce(0)
        self.two = self.announce(1)

    def announce(self, secret, node=None, **changes):
        return self.realm.announce(node or self.producer, SECRETS[secret], self.reader, self.keeper, **changes)

    @property
    def members(self):
        nodes = (self.producer, self.reader, self.keeper)
        return [self.realm.identity, *(node.credential for node in nodes)]

    @property
    def all(self):
        return [*self.members, self.checkpoint, self.one, self.two]

    def view(self, *more, **options):
        return self.realm.view(*self.all, *more, me=self.reader, **options)


@pytest.fixture
def scene():
    return Scene()


def verdict(view, record):
    judged = view.announcement(record.hash)
    return None if judged is None else (judged.verdict, judged.reason)


def accepted(view, *records):
    return [verdict(view, record) == (Verdict.ACCEPTED, "") for record in records]


def kinds(view, now=NOW):
    return [str(alarm.kind) for alarm in view.alarms(now)]


def test_all_is_well(scene):
    view = scene.view()
    assert view.alarms(NOW) == ()
    assert view.sealing_stop(NOW) is None
    assert view.opening_stop() is None
    assert accepted(view, scene.one, scene.two) == [True, True]
    assert view.head(scene.producer.keys.id, scene.producer.chain) == Head(2, scene.two.hash)
    assert view.standing(scene.reader.keys.id, NOW) is Standing.LIVE
    judged = view.announcements(announcement_of(scene.one).kid)
    assert [one.announced.announcement.open(scene.reader.keys) for one in judged] == [SECRETS[0]]
    assert len(judged[0].announced.announcement.wraps) == 1
    assert len(judged[0].announced.recipients) == 2


@pytest.mark.parametrize("seed", range(8))
def test_whatever_the_order_and_however_often(scene, seed):
    """An announcement before its credential, a credential before its checkpoint, all before the authority's keys."""
    end = scene.realm.end(scene.producer)
    regranted = scene.realm.regrant(scene.keeper, scene.one, SECRETS[0], scene.reader)
    records = [*scene.all, scene.realm.beacon(scene.producer), end, regranted] * 2
    random.Random(seed).shuffle(records)
    view = scene.realm.view(*records, me=scene.reader)
    assert view.alarms(NOW) == ()
    assert accepted(view, scene.one, scene.two) == [True, True]
    assert view.checkpoint.number == 2
    assert len(view.regrants(announcement_of(scene.one).kid)) == 1


def test_nothing_counts_before_its_checkpoint_is_on_disk(scene):
    view = View(realm="demo", authority=scene.realm.authority.id)
    for record in scene.all:
        view.apply(value_of(record))
    assert view.to_keep == scene.realm.kept
    assert view.checkpoint is None
    assert view.sealing_stop(NOW).detail == "no checkpoint was seen"
    assert verdict(view, scene.one) == (Verdict.NOT_YET, "there is no checkpoint")
    view.keep(Kept(9, bytes(32)))
    assert view.checkpoint is None
    view.keep(view.to_keep)
    assert (view.to_keep, view.kept, view.sealing_stop(NOW)) == (None, scene.realm.kept, None)


def test_restarts_from_what_is_kept(scene):
    view = View(realm="demo", authority=scene.realm.authority.id, kept=scene.realm.kept)
    for record in scene.all:
        view.apply(value_of(record))
        assert view.to_keep is None  # it is on disk
    assert view.checkpoint.number == 1
    view = scene.view(kept=scene.realm.kept, authority_keys=scene.realm.authority.public)
    assert view.alarms(NOW) == ()
    assert accepted(view, scene.one) == [True]
    with pytest.raises(ValueError, match="another authority"):
        View(realm="demo", authority=bytes(32), authority_keys=scene.realm.authority.public)


def test_what_comes_of_each_record(scene):
    realm, view = scene.realm, View(realm="demo", authority=scene.realm.authority.id)
    ticket = Ticket.make(realm="demo", authority=realm.authority.id, checkpoint=realm.kept, expires=NOW)
    stranger = identity("stranger")
    for record, outcome in (
        (scene.one, Outcome.WAITING),
        (scene.checkpoint, Outcome.WAITING),
        (sign_body(IdentityRecord(realm="demo", keys=stranger.public), stranger), Outcome.PASSED),
        (request_enrolment(ticket, stranger, realm.authority.public), Outcome.PASSED),
        (realm.identity, Outcome.TAKEN),
        (scene.checkpoint, Outcome.KNOWN),
        (scene.producer.credential, Outcome.TAKEN),
        (scene.producer.credential, Outcome.KNOWN),
        (scene.one, Outcome.KNOWN),
        (Realm(name="other").checkpoint(), Outcome.REFUSED),
        (sign_body(scene.producer.body, stranger), Outcome.REFUSED),
    ):
        assert view.apply(encode_record(record)[1]).outcome is outcome, record
    assert view.apply(None).outcome is Outcome.PASSED
    assert view.apply(b"garbage").outcome is Outcome.REFUSED
    forged = bytearray(value_of(scene.two))
    forged[-1] ^= 1
    assert view.apply(bytes(forged)).reason == "signature"


def test_those_that_waited_are_told_of(scene):
    view = View(realm="demo", authority=scene.realm.authority.id)
    for record in (scene.one, scene.two, scene.producer.credential, scene.checkpoint):
        view.apply(value_of(record))
    applied = view.apply(value_of(scene.realm.identity))
    credential, checkpoint = applied.released
    assert [one.outcome for one in (credential, checkpoint, *credential.released)] == [Outcome.TAKEN] * 4


def test_a_topic_full_of_garbage(scene, monkeypatch):
    """What waits is bounded; what was dropped is read again, once its signer is known."""
    monkeypatch.setattr(waiting, "MAX_BYTES", 10_000)
    view = View(realm="demo", authority=scene.realm.authority.id)
    strangers = [scene.realm.node(f"stranger{n}", produces(), list_it=False) for n in range(20)]
    for stranger in strangers:
        view.apply(value_of(scene.announce(2, stranger)))
    for record in scene.all:
        view.apply(value_of(record))
    assert view._waiting._bytes <= 10_000
    assert view.reread_wanted
    view.reading_again()
    read(view, *scene.all)
    assert not view.reread_wanted
    assert accepted(view, scene.one) == [True]


def test_what_waits_takes_no_more_memory_than_it_may(scene, monkeypatch):
    """Short records, each of a signer of its own, that nobody knows."""
    monkeypatch.setattr(waiting, "MAX_BYTES", 500_000)
    view = View(realm="demo", authority=scene.realm.authority.id)
    strangers = [scene.realm.node(f"stranger{n}", produces(), list_it=False) for n in range(1_000)]
    values = [value_of(scene.realm.beacon(one, head=Head(1, bytes(32)))) for one in strangers]
    tracemalloc.start()
    try:
        for value in values:
            view.apply(value[:1] + value[1:])  # as if it had come from a broker: bytes of its own
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 500_000


def test_recipients_are_those_who_may(scene):
    realm = scene.realm
    both = realm.node("both", produces(), consumes(history=History.ALL))
    other = realm.node("other", consumes("pay"))
    old = realm.node("old", consumes(), not_before=NOW - 9 * DAY, expires=NOW - 2 * DAY)
    soon = realm.node("soon", consumes(), not_before=NOW + DAY, expires=NOW + 2 * DAY)
    unlisted = realm.node("unlisted", consumes(), list_it=False)
    _, quantum = realm.issue(identity("quantum", suite=KemSuite.MLKEM768_X25519), "quantum", consumes())
    nodes = (both, other, old, soon, unlisted)
    view = scene.view(*(node.credential for node in nodes), quantum, realm.checkpoint())
    found = view.recipients("orders", NOW)
    expected = {scene.reader.keys.id: History.FROM_JOIN, scene.keeper.keys.id: None, both.keys.id: History.ALL}
    assert {one.keys.id: one.history for one in found} == expected
    assert [one.keys.id for one in found] == sorted(expected)
    assert view.recipients("unknown", NOW) == ()
    assert soon.keys.id in {one.keys.id for one in view.recipients("orders", NOW + DAY)}
    told = {node.body.name: view.standing(node.keys.id, NOW).name for node in nodes[2:5]}
    assert told == {"old": "EXPIRED", "soon": "NOT_YET", "unlisted": "NOT_LISTED"}
    assert view.standing(bytes(32), NOW) is Standing.UNKNOWN


def test_who_was_taken_off_the_list_is_no_recipient_any_more(scene):
    view = scene.view()
    assert scene.reader.keys.id in {one.keys.id for one in view.recipients("orders", NOW)}
    read(view, scene.realm.end(scene.reader))
    assert scene.reader.keys.id not in {one.keys.id for one in view.recipients("orders", NOW)}


def test_who_signs_otherwise_than_the_realm_is_no_member(scene):
    body = replace(scene.reader.body, keys=identity("twice", twice=True).public, serial=50)
    record = sign_body(body, scene.realm.authority)
    assert scene.view().apply(value_of(record)).reason == "its subject doesn't sign as the realm does"


def test_a_renewal_keeps_what_was_announced(scene):
    """The old credential is live no more; its subject is."""
    realm, old = scene.realm, scene.producer
    del realm.live[old.body.serial]
    later = {"not_before": NOW + 5 * DAY, "expires": NOW + 12 * DAY}
    _, renewed = realm.issue(old.keys, "producer", produces(), **later)
    view = scene.view(renewed, realm.checkpoint())
    assert accepted(view, scene.one, scene.two) == [True, True]
    assert view.live()[old.keys.id].hash == renewed.hash


@pytest.mark.parametrize(
    ("change", "why"),
    [({"topic": "pay"}, "its producer wasn't granted the topic"),
     ({"created": NOW - 421, "not_after": NOW}, "created outside the time of its producer's credential"),
     ({"created": NOW + 8 * DAY, "not_after": NOW + 8 * DAY}, "created outside the time of its producer's credential")],
)  # fmt: skip
def test_announcements_beyond_the_grant(scene, change, why):
    record = scene.announce(3, **change)
    assert verdict(scene.view(record), record) == (Verdict.REFUSED, why)


def test_announcements_under_anothers_credential(scene):
    record = scene.announce(3, credential=scene.reader.credential.hash)
    why = "the credential that it names is another's"
    assert verdict(scene.view(record), record) == (Verdict.REFUSED, why)
    record = scene.announce(4, credential=bytes(32))
    why = "the credential that it names isn't known"
    assert verdict(scene.view(record), record) == (Verdict.NOT_YET, why)


def test_a_credential_that_no_checkpoint_lists_yet(scene):
    new = scene.realm.node("new", produces())
    record = scene.announce(3, new)
    view = scene.view(new.credential, record)
    assert verdict(view, record) == (Verdict.NOT_YET, "no checkpoint lists its credential yet")
    read(view, scene.realm.checkpoint())
    assert accepted(view, record) == [True]


def test_an_insider_names_anothers_kid(scene):
    """It counts beside the right one, and its key isn't the kid's."""
    insider = scene.realm.node("insider", produces())
    record = scene.announce(5, insider)
    kid = announcement_of(scene.one).kid
    forged = sign_as(insider, record.fields | {5: kid})
    view = scene.realm.view(insider.credential, scene.realm.checkpoint(), forged, *scene.all, me=scene.reader)
    found = view.announcements(kid)
    assert {one.announced.announcement.epoch.producer for one in found} == {insider.keys.id, scene.producer.keys.id}
    right, wrong = sorted(found, key=lambda one: one.announced.announcement.epoch.producer != scene.producer.keys.id)
    assert right.announced.announcement.open(scene.reader.keys) == SECRETS[0]
    with pytest.raises(Refused):
        wrong.announced.announcement.open(scene.reader.keys)
    assert kinds(view) == []


def sign_as(node, fields):
    return sign(RecordType.ANNOUNCEMENT, fields, node.keys)


def test_an_epoch_of_a_live_producer_has_no_end(scene):
    """Nobody else can sign under it, also when it was replaced."""
    kid = announcement_of(scene.two).kid
    view = scene.view(scene.announce(6, replaces=Ending(kid=kid, marks=(Mark(kid, 0, 1, 42),))))
    assert view.announcement(scene.two.hash).closed_at is None


class TestAnEndedProducer:
    def test_what_it_announced_before_stays(self, scene):
        kids = [announcement_of(record).kid for record in (scene.one, scene.two)]
        view = scene.view(scene.realm.end(scene.producer, Mark(kids[1], 0, 0, 7)))
        assert accepted(view, scene.one, scene.two) == [True, True]
        assert view.announcement(scene.two.hash).closed_at == (Mark(kids[1], 0, 0, 7),)
        assert view.announcement(scene.one.hash).closed_at == ()
        assert view.ended(scene.producer.keys.id).chains == {scene.producer.chain: Head(2, scene.two.hash)}
        assert view.ended(scene.reader.keys.id) is None

    def test_an_epoch_that_another_replaced_ends_where_that_says(self, scene):
        kid = announcement_of(scene.two).kid
        marks = (Mark(kid, 0, 1, 42),)
        three = scene.announce(6, replaces=Ending(kid=kid, marks=marks))
        view = scene.view(three, scene.realm.end(scene.producer, Mark(kid, 0, 1, 99)))
        assert view.announcement(scene.two.hash).closed_at == marks

    def test_epochs_of_its_earlier_processes_have_no_end(self, scene):
        """Those may have been killed: nobody knows where they ended."""
        kid = announcement_of(scene.one).kid
        three = scene.announce(6, first=3)
        four = scene.announce(7, first=3, replaces=Ending(kid=kid, marks=(Mark(kid, 0, 1, 5),)))
        view = scene.view(three, four, scene.realm.end(scene.producer))
        assert view.announcement(scene.two.hash).closed_at is None
        assert view.announcement(three.hash).closed_at == ()
        assert view.announcement(scene.one.hash).closed_at == (Mark(kid, 0, 1, 5),)

    def test_without_positions_no_end_can_hold(self, scene):
        three = scene.announce(6, positions=False)
        view = scene.view(three, scene.realm.end(scene.producer))
        assert view.announcement(three.hash).closed_at is None

    def test_what_it_announces_after_doesnt_count(self, scene):
        end = scene.realm.end(scene.producer)
        late = scene.announce(7)
        elsewhere = scene.announce(8, advance=False, chain=b"other chain 1234", sequence=1, previous=bytes(32))
        view = scene.view(end, late, elsewhere)
        for record in (late, elsewhere):
            assert verdict(view, record) == (Verdict.REFUSED, "its producer had ended")
        assert kinds(view) == []

    def test_others_below_its_head_dont_count(self, scene):
        """Even if they are read first."""
        other = scene.announce(9, advance=False, sequence=1, previous=bytes(32))
        view = scene.realm.view(other, *scene.all, scene.realm.end(scene.producer), me=scene.reader)
        assert accepted(view, scene.one, scene.two) == [True, True]
        assert verdict(view, other)[0] is Verdict.REFUSED
        assert kinds(view) == []

    def test_a_hole_below_its_head_is_waited_for(self, scene):
        three = scene.announce(10)
        end = scene.realm.end(scene.producer)
        view = scene.realm.view(*scene.members, scene.checkpoint, scene.one, three, end, me=scene.reader)
        assert accepted(view, scene.one, three) == [False, True]
        assert verdict(view, scene.one)[0] is Verdict.NOT_YET
        assert kinds(view) == ["withheld"]
        read(view, scene.two)
        assert accepted(view, scene.one, scene.two, three) == [True] * 3
        assert kinds(view) == []

    def test_one_that_nobody_listed(self, scene):
        del scene.realm.live[scene.producer.body.serial]
        view = scene.view(scene.realm.checkpoint())
        assert verdict(view, scene.one) == (Verdict.REFUSED, "its producer isn't live")

    def test_a_topic_is_taken_from_it(self, scene):
        """It is ended as a producer and goes on, for what it is still granted."""
        realm, node = scene.realm, scene.producer
        del realm.live[node.body.serial]
        _, record = realm.issue(node.keys, "producer", produces("pay"))
        ended = Ended(id=node.keys.id, chains={node.chain: Head(1, scene.one.hash)})
        checkpoint = realm.checkpoint(ended)
        pay = scene.announce(11, credential=record.hash, topic="pay")
        view = scene.view(record, checkpoint, pay)
        assert accepted(view, scene.one, scene.two, pay) == [True, False, True]
        assert view.announcement(scene.one.hash).closed_at == ()
        assert view.announcement(pay.hash).closed_at is None

    def test_it_may_again(self, scene):
        """Its announcements for that topic have no end, also one that its end listed and another came before."""
        realm, node = scene.realm, scene.producer
        other = scene.announce(9, advance=False, sequence=1, previous=bytes(32))
        del realm.live[node.body.serial]
        _, record = realm.issue(node.keys, "producer", produces())
        ended = Ended(id=node.keys.id, chains={node.chain: Head(2, scene.two.hash)})
        view = realm.view(other, *scene.all, record, realm.checkpoint(ended), me=scene.reader)
        assert accepted(view, scene.one, scene.two) == [True, True]
        assert view.announcement(scene.one.hash).closed_at is None


class TestRegrants:
    def test_count_from_keepers(self, scene):
        made = scene.realm.regrant(scene.keeper, scene.one, SECRETS[0], scene.reader)
        ((found, judged),) = scene.view(made).regrants(announcement_of(scene.one).kid)
        assert found.regrant.open(scene.reader.keys, judged.announced.announcement) == SECRETS[0]

    def test_from_others_dont(self, scene):
        made = scene.realm.regrant(scene.reader, scene.one, SECRETS[0], scene.reader)
        elsewhere = scene.realm.node("elsewhere", keeps("pay"))
        other = scene.realm.regrant(elsewhere, scene.one, SECRETS[0], scene.reader)
        view = scene.view(elsewhere.credential, scene.realm.checkpoint(), made, other)
        assert view.regrants(announcement_of(scene.one).kid) == ()

    def test_end_with_their_keeper_or_announcement(self, scene):
        made = scene.realm.regrant(scene.keeper, scene.one, SECRETS[0], scene.reader)
        kid = announcement_of(scene.one).kid
        for node in (scene.keeper, scene.producer):
            live = dict(scene.realm.live)
            del scene.realm.live[node.body.serial]
            assert scene.view(made, scene.realm.checkpoint()).regrants(kid) == ()
            scene.realm.live, scene.realm.checkpoints = live, scene.realm.checkpoints[:1]
        missing = [record for record in scene.all if record is not scene.one]
        assert scene.realm.view(*missing, made).regrants(kid) == ()

    def test_that_name_something_else_dont(self, scene):
        """Another's credential, an older one without the grant, another kid or topic than the announcement's."""
        second = scene.realm.node("second", keeps())
        _, older = scene.realm.issue(scene.keeper.keys, "keeper", consumes(), list_it=False)
        kids = [announcement_of(record).kid for record in (scene.one, scene.two)]
        made = scene.realm.regrant(scene.keeper, scene.one, SECRETS[0], scene.reader)
        base = (second.credential, older, scene.realm.checkpoint())
        assert len(scene.view(*base, made).regrants(kids[0])) == 1
        for change in ({3: second.credential.hash}, {3: older.hash}, {5: kids[1]}, {6: "orders2"}):
            forged = sign(RecordType.REGRANT, dict(made.fields) | change, scene.keeper.keys)
            view = scene.view(*base, forged)
            assert [view.regrants(kid) for kid in kids] == [(), ()]
