"""Attacks on the topic as a whole, and what shows each: docs/identity-attacks.md."""

from dataclasses import replace

import pytest

from kveil.protocol.identity.enrolment import Answer, Reason
from kveil.protocol.identity.judging import Verdict
from kveil.protocol.identity.marks import Head, Kept
from kveil.protocol.identity.record import sign_body
from tests.protocol.identity.test_view import SECRETS, Scene, accepted, kinds, verdict
from tests.support.realm import DAY, NOW, announcement_of, consumes, produces, read


@pytest.fixture
def scene():
    return Scene()


class TestRollback:
    def test_an_old_checkpoint(self, scene):
        """After a restart, from what is on disk; and for a new node, from its ticket."""
        newer = scene.realm.end(scene.reader)
        view = scene.view(kept=Kept(2, newer.hash))
        assert kinds(view) == ["rollback"]
        assert view.sealing_stop(NOW).kind == view.opening_stop().kind == "rollback"
        assert verdict(view, scene.one)[0] is Verdict.NOT_YET
        read(view, newer)
        assert kinds(view) == []
        assert view.sealing_stop(NOW) is None

    def test_no_alarm_before_the_end_was_reached(self, scene):
        newer = scene.realm.checkpoint()
        view = scene.view(kept=Kept(2, newer.hash), end=False)
        assert kinds(view) == []
        assert view.sealing_stop(NOW).detail == "no checkpoint was seen"

    def test_an_old_one_on_the_way_is_none(self, scene):
        view = scene.realm.view(scene.realm.checkpoint(), *scene.all)
        assert kinds(view) == []
        assert view.checkpoint.number == 2

    def test_an_empty_topic(self, scene):
        view = scene.realm.view(kept=scene.realm.kept)
        assert kinds(view) == ["rollback"]
        assert scene.realm.view().sealing_stop(NOW).kind == "freeze"


class TestFork:
    def other(self, scene, **changes):
        """Another checkpoint of the same number."""
        last = scene.realm.checkpoints.pop()
        made = scene.realm.checkpoint(expires=NOW + 2 * DAY, **changes)
        scene.realm.checkpoints[-1] = last
        return made

    @pytest.mark.parametrize("first", [True, False])
    def test_two_of_one_number(self, scene, first):
        other = self.other(scene)
        view = scene.realm.view(*([other, *scene.all] if first else [*scene.all, other]))
        assert kinds(view) == ["fork"]
        assert view.sealing_stop(NOW).kind == view.opening_stop().kind == "fork"
        assert verdict(view, scene.one)[0] is Verdict.NOT_YET

    def test_the_one_that_was_kept(self, scene):
        assert kinds(scene.view(kept=Kept(1, self.other(scene).hash))) == ["fork"]

    @pytest.mark.parametrize("turn", [1, -1])
    def test_the_next_one_has_another_before_it(self, scene, turn):
        next_one = scene.realm.checkpoint(previous=b"h" * 32)
        view = scene.realm.view(*[*scene.all, next_one][::turn])
        assert kinds(view) == ["fork"]

    def test_a_restored_authority_skips_numbers(self, scene):
        assert kinds(scene.view(scene.realm.checkpoint(number=1000))) == []

    @pytest.mark.parametrize("by_beacon", [True, False])
    def test_producers_say_which_one_they_have(self, scene, by_beacon):
        """Until whoever says so is ended: an insider that lies stops the realm, and is named."""
        claim = Kept(1, b"h" * 32)
        made = (
            scene.realm.beacon(scene.producer, checkpoint=claim) if by_beacon else scene.announce(12, checkpoint=claim)
        )
        view = scene.view(made)
        (alarm,) = view.alarms(NOW)
        assert (alarm.kind, alarm.about) == ("fork", scene.producer.keys.id)
        assert view.sealing_stop(NOW) == alarm
        read(view, scene.realm.end(scene.producer))
        assert kinds(view) == []

    def test_what_was_answered_once_is_looked_at_again(self, scene):
        """With each claim, each checkpoint and each end of a producer."""
        view = scene.view()
        assert view.opening_stop() is None
        read(view, scene.realm.beacon(scene.producer, checkpoint=Kept(1, b"h" * 32)))
        assert view.opening_stop().about == scene.producer.keys.id
        read(view, scene.realm.end(scene.producer))
        assert view.opening_stop() is None
        read(view, self.other(scene))
        assert view.opening_stop().detail == "there are two checkpoints 2"

    def test_who_may_not_produce_has_no_say(self, scene):
        liar = replace(scene.producer, keys=scene.reader.keys, credential=scene.reader.credential)
        for claim in (Kept(1, b"h" * 32), Kept(9, b"h" * 32)):
            assert kinds(scene.view(scene.realm.beacon(liar, checkpoint=claim, head=Head(5, b"h" * 32)))) == []

    def test_two_producers_with_unlike_ones(self, scene):
        second = scene.realm.node("second", produces())
        newer = scene.realm.checkpoint(number=5)
        claims = [
            scene.realm.beacon(scene.producer, checkpoint=Kept(3, b"a" * 32)),
            scene.realm.beacon(second, checkpoint=Kept(3, b"b" * 32), head=Head(1, bytes(32))),
        ]
        assert "fork" in kinds(scene.view(second.credential, newer, *claims))


class TestFreeze:
    def test_a_checkpoint_expires(self, scene):
        view = scene.view()
        assert kinds(view, NOW + DAY + 120) == []
        assert kinds(view, NOW + DAY + 121) == ["freeze"]
        assert view.sealing_stop(NOW + DAY + 121).kind == "freeze"
        assert view.opening_stop() is None
        assert accepted(view, scene.one) == [True]

    def test_and_the_next_ends_it(self, scene):
        view = scene.view(scene.realm.checkpoint(expires=NOW + 3 * DAY))
        assert kinds(view, NOW + 2 * DAY) == []


class TestWithheld:
    def test_a_credential(self, scene):
        late = scene.realm.node("late", consumes())
        view = scene.view(scene.realm.checkpoint())
        (alarm,) = view.alarms(NOW)
        assert (alarm.kind, alarm.detail) == ("withheld", f"the credential with serial {late.body.serial} isn't there")
        assert late.keys.id not in {one.keys.id for one in view.recipients("orders", NOW)}
        assert view.sealing_stop(NOW) is None
        read(view, late.credential)
        assert kinds(view) == []
        assert late.keys.id in {one.keys.id for one in view.recipients("orders", NOW)}

    def test_an_announcement_in_the_middle(self, scene):
        view = scene.realm.view(*(record for record in scene.all if record is not scene.one))
        (alarm,) = view.alarms(NOW)
        assert (alarm.kind, alarm.about) == ("withheld", scene.producer.keys.id)
        assert alarm.detail.startswith("announcement 1 of chain")
        assert accepted(view, scene.two) == [True]
        assert view.announcements(announcement_of(scene.one).kid) == ()

    def test_the_last_announcement_by_the_beacon(self, scene):
        beacon = scene.realm.beacon(scene.producer)
        view = scene.realm.view(*scene.all[:-1], beacon)
        assert kinds(view) == ["withheld"]
        assert view.beacon(scene.producer.keys.id, scene.producer.chain).head == Head(2, scene.two.hash)
        read(view, scene.two)
        assert kinds(view) == []

    def test_all_of_them_by_the_beacon(self, scene):
        assert kinds(scene.realm.view(*scene.all[:-2], scene.realm.beacon(scene.producer))) == ["withheld"]

    def test_a_checkpoint_by_who_has_it(self, scene):
        newer = scene.realm.checkpoint()
        view = scene.view(scene.realm.beacon(scene.producer))
        assert kinds(view) == ["withheld"]
        assert view.sealing_stop(NOW) is None
        read(view, newer)
        assert kinds(view) == []

    def test_no_alarm_before_the_end_was_reached(self, scene):
        assert kinds(scene.realm.view(*scene.all[:-2], scene.realm.beacon(scene.producer), end=False)) == []


class TestEquivocation:
    def test_two_keys_for_one_kid(self, scene):
        """Each reader finds check32 against its key; who sees both raises the alarm."""
        twin = scene.announce(1)
        view = scene.view(twin)
        assert kinds(view) == ["equivocation"]
        assert accepted(view, scene.two, twin) == [True, False]
        assert verdict(view, twin)[1] == "another with its kid or its place was read before"

    def test_two_in_one_place(self, scene):
        twin = scene.announce(13, advance=False, sequence=2, previous=scene.one.hash)
        view = scene.view(twin)
        (alarm,) = view.alarms(NOW)
        assert (alarm.kind, alarm.about) == ("equivocation", scene.producer.keys.id)
        assert accepted(view, scene.two, twin) == [True, False]

    @pytest.mark.parametrize("turn", [1, -1])
    def test_a_chain_that_splits(self, scene, turn):
        three = scene.announce(14, previous=b"h" * 32)
        assert kinds(scene.realm.view(*[*scene.all, three][::turn])) == ["equivocation"]

    def test_beacons(self, scene):
        one = scene.realm.beacon(scene.producer)
        assert kinds(scene.view(one, scene.realm.beacon(scene.producer, last=True))) == ["equivocation"]
        elsewhere = scene.realm.beacon(scene.producer, head=Head(1, b"h" * 32))
        assert kinds(scene.view(elsewhere)) == ["equivocation"]

    @pytest.mark.parametrize("is_late", [False, True])
    def test_a_beacon_that_names_anothers_credential(self, scene, is_late):
        """Or one that nobody knows yet: it says nothing."""
        other, record = scene.realm.issue(scene.producer.keys, "producer", *scene.producer.body.grants, list_it=False)
        named = record.hash if is_late else scene.reader.credential.hash
        view = scene.view(scene.realm.beacon(scene.producer, credential=named, head=Head(1, b"h" * 32)))
        assert view.beacon(scene.producer.keys.id, scene.producer.chain) is None
        assert kinds(view) == []
        good = scene.realm.beacon(scene.producer, head=Head(1, scene.one.hash))
        after = scene.realm.beacon(scene.producer, credential=scene.reader.credential.hash, number=2)
        assert scene.view(good, after).beacon(scene.producer.keys.id, scene.producer.chain).number == 1
        if is_late:
            read(view, record)
            assert other.subject == scene.producer.keys.id
            assert kinds(view) == ["equivocation"]

    def test_an_old_beacon_is_none(self, scene):
        old = scene.realm.beacon(scene.producer)
        new = scene.realm.beacon(scene.producer, number=2, last=True)
        view = scene.view(new, old)
        assert kinds(view) == []
        assert view.beacon(scene.producer.keys.id, scene.producer.chain).last

    def test_not_by_who_has_ended(self, scene):
        twin = scene.announce(1)
        view = scene.view(twin, scene.realm.end(scene.producer, head=Head(2, scene.two.hash)))
        assert kinds(view) == []
        assert accepted(view, scene.two, twin) == [True, False]


def test_a_ticket_that_came_twice(scene):
    thief = bytes(range(32))
    answer = Answer(realm="demo", ticket_id=bytes(16), node=thief, reason=Reason.USED)
    view = scene.view(sign_body(answer, scene.realm.authority))
    (alarm,) = view.alarms(NOW)
    assert (alarm.kind, alarm.about) == ("ticket-reused", bytes(16))
    assert view.answer(bytes(16), thief) == answer
    assert view.answer(bytes(16), bytes(32)) is None
    forged = scene.view(sign_body(answer, scene.reader.keys))
    assert kinds(forged) == []


def test_a_tombstone_takes_nothing_away(scene):
    view = scene.view()
    view.apply(None)
    assert accepted(view, scene.one, scene.two) == [True, True]
    assert len(SECRETS) > 14
