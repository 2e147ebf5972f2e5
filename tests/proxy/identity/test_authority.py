"""What an authority decides, without files and without a cluster."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from kveil.protocol.identity.checkpoint import Checkpoint, Ended
from kveil.protocol.identity.credential import Credential, Grant, History, Role
from kveil.protocol.identity.crypto import KemSuite
from kveil.protocol.identity.enrolment import Answer, Enrolment, Reason, request_enrolment
from kveil.protocol.identity.errors import Refused
from kveil.protocol.identity.marks import Head
from kveil.protocol.identity.members import Standing
from kveil.protocol.identity.progress import Mark, Progress
from kveil.protocol.identity.signing import RecordType
from kveil.protocol.identity.ticket import Ticket
from kveil.protocol.identity.view import View
from kveil.proxy.identity import roll
from kveil.proxy.identity.authority import NameTaken
from kveil.proxy.identity.authority_state import decode_state, encode_state
from kveil.proxy.identity.errors import IdentityError
from tests.support.realm import DAY, NOW, Realm, consumes, identity, produces, value_of
from tests.support.realm_desk import LEASE, Desk, ended

A, B = identity("a"), identity("b")
READS = (consumes("demo-*"),)
WRITES = (produces("demo-*"),)


@pytest.fixture
def desk():
    made = Desk()
    made.publish()
    return made


def ticket(desk: Desk, grants=READS, seconds=600, uses=1, name=None) -> Ticket:
    step = desk.step()
    made = step.issue_ticket(grants, seconds, uses, name)
    desk.finish(step)
    return made


def grant(desk: Desk, node, grants=READS, name=None, **how) -> None:
    step = desk.step()
    step.grant(node.public, grants, name)
    desk.finish(step, **how)


def seen_by(desk: Desk, node) -> View:
    """The topic as a node sees it."""
    view = View(realm="demo", authority=desk.keys.id, me=node.id)
    for value in desk.values:
        view.apply(value)
        if view.to_keep is not None:
            view.keep(view.to_keep)
    view.reached_end()
    assert view.opening_stop() is None
    return view


def reasons(desk: Desk) -> list[Reason]:
    return [answer.reason for answer in desk.bodies(Answer)]


class TestTickets:
    def test_who_has_one_becomes_a_member(self, desk):
        desk.redeem(ticket(desk, name="reader"), A)
        view = seen_by(desk, A)
        assert view.standing(A.id, NOW) is Standing.LIVE
        credential = view.live()[A.id].credential
        assert (credential.name, credential.grants) == ("reader", READS)
        assert [kind for kind, _ in desk.events] == ["ticket.issued", "identity.granted", "ticket.redeemed"]

    def test_the_state_never_has_its_secret(self, desk):
        made = ticket(desk)
        assert made.secret.hex().encode() not in encode_state(desk.state)
        assert made.to_text().encode() not in encode_state(desk.state)

    def test_a_node_asks_for_a_name(self, desk):
        desk.redeem(ticket(desk), A, name="orders-1")
        assert desk.names() == ["orders-1"]

    def test_without_a_name_it_has_its_role_s(self, desk):
        desk.redeem(ticket(desk, WRITES), A)
        assert desk.names() == [f"producer-{A.id.hex()[:8]}"]

    def test_the_same_request_changes_nothing(self, desk):
        made = ticket(desk)
        desk.redeem(made, A)
        before = desk.state
        desk.redeem(made, A)
        assert desk.state == before
        assert reasons(desk) == []

    def test_the_first_of_two_is_revoked(self, desk):
        made = ticket(desk, name="reader")
        desk.redeem(made, A)
        desk.redeem(made, B)
        assert desk.names() == []
        assert reasons(desk) == [Reason.USED]
        assert seen_by(desk, A).standing(A.id, NOW) is Standing.NOT_LISTED
        assert desk.events[-2:] == [("identity.alarm", made.key().id.hex()), ("identity.revoked", "reader")]

    def test_of_several_uses_none_is_revoked(self, desk):
        made = ticket(desk, uses=2)
        for node in (A, B, identity("c")):
            desk.redeem(made, node)
        assert len(desk.names()) == 2
        assert reasons(desk) == [Reason.USED]
        assert desk.events[-1][0] == "identity.alarm"

    def test_a_reused_one_after_it_expired_is_one_still(self, desk):
        made = ticket(desk)
        desk.redeem(made, A)
        desk.now += 3600
        desk.redeem(made, B)
        assert reasons(desk) == [Reason.USED]

    @pytest.mark.parametrize(("late", "expected"), [(600, []), (601, [Reason.EXPIRED])])
    def test_an_expired_one(self, desk, late, expected):
        made = ticket(desk)
        desk.now += late
        desk.redeem(made, A)
        assert reasons(desk) == expected
        assert bool(desk.names()) is not bool(expected)

    def test_an_unknown_one(self, desk):
        made = Ticket.make(realm="demo", authority=desk.keys.id, checkpoint=desk.state.latest.kept, expires=NOW + 60)
        desk.redeem(made, A)
        assert reasons(desk) == [Reason.NOT_KNOWN]
        desk.redeem(made, A)
        assert reasons(desk) == [Reason.NOT_KNOWN], "it is told once"

    @pytest.mark.parametrize("sealed_for", ["this", "another"])
    def test_a_forged_one_is_not_used_up(self, desk, sealed_for):
        """Whoever reads the topic knows a ticket's id, not its secret."""
        made = ticket(desk)
        other = Ticket.make(realm="demo", authority=desk.keys.id, checkpoint=made.checkpoint, expires=made.expires)
        key = replace(other.key(), id=made.key().id) if sealed_for == "this" else other.key()
        forger = SimpleNamespace(realm="demo", authority=desk.keys.id, key=lambda: key)
        forged = request_enrolment(forger, B, desk.keys.public)
        with pytest.raises(Refused):
            desk.answer(Enrolment(ticket_id=made.key().id, sealed=forged.sealed))
        assert desk.names() == []
        desk.redeem(made, A)
        assert len(desk.names()) == 1

    def test_a_taken_name_leaves_the_ticket(self, desk):
        grant(desk, B, name="reader")
        made = ticket(desk)
        desk.redeem(made, A, name="reader")
        assert reasons(desk) == [Reason.NAME_TAKEN]
        assert not desk.state.tickets[0].used_by

    def test_a_name_that_can_not_be_one(self, desk):
        desk.redeem(ticket(desk), A, name="A B")
        assert reasons(desk) == [Reason.REFUSED]

    @pytest.mark.parametrize("other", [{"suite": KemSuite.MLKEM768_X25519}, {"twice": True}], ids=str)
    def test_keys_of_another_kind(self, desk, other):
        desk.redeem(ticket(desk), identity("c", **other))
        assert reasons(desk) == [Reason.REFUSED]

    def test_a_person_says_no(self, desk):
        asked = []

        def no(*what):
            asked.append(what)
            return False

        made = ticket(desk, name="reader")
        desk.redeem(made, A, approve=no)
        assert asked == [("reader", A.id, READS)]
        desk.redeem(made, B)
        assert desk.names() == []
        assert reasons(desk) == [Reason.REFUSED, Reason.REFUSED], "whoever has it, it isn't whom it was for"

    def test_a_person_says_yes(self, desk):
        desk.redeem(ticket(desk), A, approve=lambda *_: True)
        assert len(desk.names()) == 1

    def test_a_member_with_another_ticket_may_do_more(self, desk):
        desk.redeem(ticket(desk), A, name="both")
        desk.redeem(ticket(desk, WRITES), A)
        (member,) = desk.state.members
        assert (member.credential.name, member.credential.grants) == ("both", (*READS, *WRITES))

    def test_a_revoked_identity_does_not_come_back(self, desk):
        desk.redeem(ticket(desk, name="reader"), A)
        step = desk.step()
        step.revoke("reader", None)
        desk.finish(step)
        desk.redeem(ticket(desk), A)
        assert reasons(desk) == [Reason.REFUSED]
        with pytest.raises(IdentityError, match="was revoked, and doesn't come back"):
            grant(desk, A)

    def test_they_are_forgotten(self, desk):
        desk.redeem(ticket(desk), A)
        ticket(desk)
        desk.now += 2 * DAY
        ticket(desk)
        assert [bool(one.used_by) for one in desk.state.tickets] == [True, False]
        desk.now += 100 * DAY
        ticket(desk)
        assert len(desk.state.tickets) == 1


class TestMembers:
    def test_names_are_unique(self, desk):
        grant(desk, A, name="reader")
        with pytest.raises(NameTaken, match="there is a member reader already"):
            grant(desk, B, name="reader")
        with pytest.raises(NameTaken):
            ticket(desk, name="reader")

    def test_a_member_keeps_its_name(self, desk):
        grant(desk, A, name="reader")
        with pytest.raises(IdentityError, match="it is a member already, as reader"):
            grant(desk, A, WRITES, name="writer")

    def test_grants_are_joined(self, desk):
        grant(desk, A, (consumes("a"),))
        grant(desk, A, (consumes("b", "a"), consumes("c", history=History.ALL)))
        assert desk.state.members[0].credential.grants == (
            consumes("a", "b"),
            consumes("c", history=History.ALL),
        )

    def test_too_many_patterns_are_said(self, desk):
        grant(desk, A, (Grant(role=Role.CONSUME, patterns=tuple(map(str, range(64))), history=History.NONE),))
        with pytest.raises(IdentityError, match="64 patterns"):
            grant(desk, A, (Grant(role=Role.CONSUME, patterns=("more",), history=History.NONE),))

    def test_the_authority_is_no_member(self, desk):
        with pytest.raises(IdentityError, match="is no member"):
            grant(desk, desk.keys)

    def test_an_unknown_member_can_not_be_revoked(self, desk):
        grant(desk, A, name="reader")
        with pytest.raises(IdentityError, match="there is no member writer; there are: reader"):
            desk.step().revoke("writer", None)

    def test_a_revoked_name_is_free(self, desk):
        grant(desk, A, name="reader")
        step = desk.step()
        step.revoke("reader", None)
        desk.finish(step)
        grant(desk, B, name="reader")
        assert desk.names() == ["reader"]

    def test_a_producer_s_end_lists_what_the_topic_has(self, desk):
        grant(desk, A, WRITES, name="writer")
        grant(desk, B, READS, name="reader")
        realm = Realm(name="demo")
        realm.checkpoints.append(desk.state.latest.signed)
        node = realm.node("a", *WRITES)
        member = desk.state.named("writer")
        node = replace(node, credential=member.signed, body=member.credential)
        reader = replace(node, keys=B)
        announced = [realm.announce(node, bytes([at]) * 32, reader, topic="demo-1") for at in (1, 2)]
        kid = announced[1].fields[5]
        mark = Mark(kid, 0, 7, 41)
        beacon = realm.beacon(node, heads=(Progress(kid, 0, 7, 40, 41), Progress(kid, 0, 8, 0, 0)))
        for record in (*announced, beacon):
            desk.values.append(value_of(record))
        step = desk.step()
        step.revoke("writer", desk.reader().end_of(A.id))
        desk.finish(step)
        assert ended(desk, A) == Ended(id=A.id, chains={node.chain: Head(2, announced[1].hash)}, marks=(mark,))
        view = seen_by(desk, B)
        assert view.announcement(announced[0].hash).verdict == "accepted"
        late = realm.announce(node, b"\x03" * 32, reader, topic="demo-1")
        view.apply(value_of(late))
        assert view.announcement(late.hash).verdict == "refused"

    def test_ends_leave_room_in_the_checkpoint(self, desk, monkeypatch):
        """Whatever a producer wrote, it can be ended: of too many marks those of the latest lanes count."""
        monkeypatch.setattr(roll, "MOST_MARKS", 3)
        for node, name in ((A, "one"), (B, "two")):
            grant(desk, node, WRITES, name=name)
        step = desk.step()
        for node, name in ((A, "one"), (B, "two")):
            marks = tuple(Mark(bytes([9 - lane]) * 16, 0, lane, 5) for lane in (1, 2))
            step.revoke(name, Ended(id=node.id, chains={}, marks=marks))
        desk.finish(step)
        assert [mark.lane for mark in ended(desk, A).marks] == [2, 1]
        assert [mark.lane for mark in ended(desk, B).marks] == [2]

    def test_credentials_are_renewed_before_two_thirds_of_their_time(self, desk):
        grant(desk, A, name="reader")
        first = desk.state.members[0].credential
        desk.now = NOW + 4 * DAY - 300
        desk.finish(desk.step())
        assert desk.state.members[0].credential.serial == first.serial
        desk.now = NOW + int((first.expires - first.not_before) * 2 / 3) - 300
        desk.finish(desk.step())
        renewed = desk.state.members[0].credential
        assert renewed.serial == first.serial + 1
        assert (renewed.name, renewed.grants, renewed.keys) == (first.name, first.grants, first.keys)
        assert renewed.expires > desk.now + 6 * DAY
        assert seen_by(desk, A).standing(A.id, desk.now) is Standing.LIVE
        assert desk.events[-1] == ("identity.renewed", "reader")

    def test_nobody_ends_because_the_authority_was_away(self, desk):
        grant(desk, A, name="reader")
        desk.now += 30 * DAY
        desk.finish(desk.step())
        assert seen_by(desk, A).standing(A.id, desk.now) is Standing.LIVE


class TestCheckpoints:
    def test_they_are_a_chain(self, desk):
        for node in (A, B):
            grant(desk, node)
        made = desk.bodies(Checkpoint)
        assert [one.number for one in made] == [1, 2, 3]
        assert desk.state.latest.checkpoint.created == NOW
        assert desk.state.latest.checkpoint.expires == NOW + LEASE

    def test_one_without_a_reason_is_not_made(self, desk):
        desk.finish(desk.step())
        assert desk.state.latest.kept.number == 1
        desk.finish(desk.step(), force=True)
        assert desk.state.latest.kept.number == 2

    @pytest.mark.parametrize(("share", "number"), [(0.35, 1), (0.45, 2)])
    def test_before_half_of_the_lease_is_over_comes_the_next(self, desk, share, number):
        desk.now += int(share * LEASE)
        desk.finish(desk.step())
        assert desk.state.latest.kept.number == number
        if number == 2:
            assert desk.state.latest.checkpoint.expires == desk.now + LEASE

    def test_a_clock_that_is_behind_is_said(self, desk):
        desk.now -= 600
        with pytest.raises(IdentityError, match=r"clock says 2027-01-15T07:50:00Z.*signed at 2027-01-15T08:00:00Z"):
            desk.step()


class TestKilled:
    """Between disk and topic. What comes next writes the same records."""

    def test_a_member_is_published_later(self, desk):
        made = ticket(desk)
        enrolment = request_enrolment(made, A, desk.keys.public)
        desk.put(enrolment)
        desk.answer(enrolment, publishes=False)
        assert desk.bodies(Credential) == []
        desk.answer(enrolment)  # it is read again at the next start
        assert len(desk.bodies(Credential)) == 1
        assert seen_by(desk, A).standing(A.id, NOW) is Standing.LIVE
        assert [kind for kind, _ in desk.events].count("ticket.redeemed") == 1

    def test_a_second_node_finds_the_ticket_used(self, desk):
        made = ticket(desk)
        desk.answer(request_enrolment(made, A, desk.keys.public), publishes=False)
        desk.redeem(made, B)
        assert reasons(desk) == [Reason.USED]

    def test_the_very_same_records(self, desk):
        grant(desk, A, publishes=False)
        first, second = desk.publish(), desk.publish()
        kept = [desk.state.members[0].signed.hash, desk.state.latest.signed.hash]
        assert [one.hash for one in first if one.type is not RecordType.HIDING] == kept
        assert second == []

    def test_a_topic_that_was_made_anew_gets_all(self, desk):
        grant(desk, A)
        desk.values.clear()
        desk.publish()
        assert seen_by(desk, A).standing(A.id, NOW) is Standing.LIVE


class TestRestored:
    """The directory is older than the topic."""

    @pytest.fixture
    def restored(self, desk):
        grant(desk, A, name="a")
        made = ticket(desk)
        backup = desk.state
        grant(desk, B, WRITES, name="b")
        step = desk.step()
        step.revoke("a", None)
        desk.finish(step)
        desk.redeem(made, identity("c"), name="c")
        self.number = desk.state.latest.kept.number
        desk.state = backup
        return desk

    def restore(self, desk):
        found = desk.reader().newer_than(desk.state.latest.kept)
        step = desk.step()
        step.restore(*found)
        desk.finish(step)

    def test_it_takes_over_what_the_topic_has(self, restored):
        self.restore(restored)
        assert restored.names() == ["b", "c"]
        assert restored.state.was_revoked(A.id)
        assert restored.state.latest.kept.number == self.number + 1000
        assert restored.events[-1] == ("authority.restored", "demo")
        assert seen_by(restored, B).standing(B.id, NOW) is Standing.LIVE

    def test_no_serial_is_used_twice(self, restored):
        self.restore(restored)
        grant(restored, identity("d"))
        serials = [one.serial for one in restored.bodies(Credential)]
        assert len(set(serials)) == len(serials)

    def test_its_tickets_are_void(self, restored):
        assert restored.state.tickets
        self.restore(restored)
        assert restored.state.tickets == ()

    def test_a_directory_that_is_not_older(self, desk):
        grant(desk, A)
        assert desk.reader().newer_than(desk.state.latest.kept) is None

    def test_two_copies_in_use(self, desk):
        """Each has signed another checkpoint of one number."""
        before = desk.state
        grant(desk, A)
        desk.state = before
        grant(desk, B, publishes=False)
        assert "both signed by this authority" in desk.reader().fork(desk.state.latest.kept)
        number = desk.state.latest.kept.number
        step = desk.step()
        step.skip()
        desk.finish(step)
        assert desk.state.latest.kept.number == number + 1001


@pytest.mark.parametrize(
    "keys", [identity("authority"), identity("authority", suite=KemSuite.MLKEM768_X25519, twice=True)]
)
def test_the_state_comes_back_as_it_was(keys):
    desk = Desk(keys=keys)
    kind = {"suite": keys.suite, "twice": keys.public.signs_twice}
    grant(desk, identity("a", **kind), (*READS, *WRITES), name="a")
    grant(desk, identity("b", **kind), name="b")
    step = desk.step()
    step.revoke("a", Ended(id=identity("a", **kind).id, chains={bytes(16): Head(3, bytes(32))}))
    desk.finish(step)
    ticket(desk, uses=3, name=None)
    desk.redeem(ticket(desk, (consumes("x", history=History.ALL),)), identity("c", **kind))
    assert decode_state(encode_state(desk.state), keys.public) == desk.state


def test_a_credential_of_another_realm_is_refused(desk):
    """It is signed by another authority, or for another realm."""
    other = Desk(keys=identity("other"))
    grant(other, A)
    view = seen_by(desk, A)
    for value in other.values:
        assert view.apply(value).outcome in {"refused", "passed"}
    assert view.standing(A.id, NOW) is Standing.UNKNOWN
