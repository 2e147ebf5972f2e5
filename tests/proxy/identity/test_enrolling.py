"""What a node that wants to be a member makes of the control topic, each trouble with its way out."""

import pytest

from kveil.protocol.identity.enrolment import Reason
from kveil.protocol.identity.marks import Kept
from kveil.protocol.identity.record import IdentityRecord, sign_body
from kveil.protocol.identity.ticket import Ticket
from kveil.protocol.identity.view import View
from kveil.proxy.identity.enrolling import (
    NodeReader,
    RealmFinder,
    authority_keys,
    check_clock,
    outcome,
    read_ticket,
    silence,
)
from kveil.proxy.identity.errors import IdentityError
from tests.support.realm import DAY, NOW, consumes, identity, value_of
from tests.support.realm_desk import Desk

A, B = identity("a"), identity("b")
READS = (consumes("demo-*"),)


@pytest.fixture
def desk():
    made = Desk()
    made.publish()
    return made


def ticket(desk, name=None):
    step = desk.step()
    made = step.issue_ticket(READS, 600, 1, name)
    desk.finish(step)
    return made


def read(desk, *, kept=None, authority=None):
    reader = NodeReader(View(realm="demo", authority=authority or desk.keys.id, kept=kept))
    for value in desk.values:
        reader.apply(0, None, value)
    reader.heard()
    return reader.view


def test_a_member(desk):
    made = ticket(desk, "reader")
    assert outcome(read(desk, kept=made.checkpoint), A.id, made.key().id, NOW) is None
    desk.redeem(made, A)
    enrolled = outcome(read(desk, kept=made.checkpoint), A.id, made.key().id, NOW)
    assert enrolled.credential.name == "reader"
    assert enrolled.kept == desk.state.latest.kept


class TestTickets:
    def test_a_good_one(self, desk):
        made = ticket(desk)
        assert read_ticket(f" {made.to_text()}\n", NOW) == made

    def test_an_expired_one_tells_both_times(self, desk):
        with pytest.raises(IdentityError, match=r"expired at 2027-01-15T08:10:00Z.*clock says 2027-01-15T08:20:00Z"):
            read_ticket(ticket(desk).to_text(), NOW + 1200)

    @pytest.mark.parametrize("text", ["", "kveil1.", "kveil1.%%%", "kveil1.AAAA", "hunter2", "kveil1." + "A" * 5000])
    def test_what_is_none(self, text):
        with pytest.raises(IdentityError, match="that is no ticket") as raised:
            read_ticket(text, NOW)
        assert "hunter2" not in str(raised.value)

    def test_a_damaged_one_shows_nothing_of_itself(self, desk):
        text = ticket(desk).to_text()
        with pytest.raises(IdentityError) as raised:
            read_ticket(text[:-3], NOW)
        assert text[8:40] not in str(raised.value)

    @pytest.mark.parametrize(
        ("reason", "sentence"),
        [
            (Reason.NOT_KNOWN, "doesn't know this ticket"),
            (Reason.EXPIRED, "after it had expired"),
            (Reason.USED, "somebody else has read it"),
            (Reason.NAME_TAKEN, "`--name`"),
            (Reason.REFUSED, "the authority says no"),
        ],
    )
    def test_each_answer_is_a_sentence(self, desk, reason, sentence):
        from kveil.protocol.identity.enrolment import Answer

        made = ticket(desk)
        answer = Answer(realm="demo", ticket_id=made.key().id, node=A.id, reason=reason)
        desk.put(sign_body(answer, desk.keys))
        with pytest.raises(IdentityError, match=sentence):
            outcome(read(desk), A.id, made.key().id, NOW)
        assert outcome(read(desk), B.id, made.key().id, NOW) is None, "it is for another node"

    def test_an_answer_that_the_authority_did_not_sign(self, desk):
        from kveil.protocol.identity.enrolment import Answer

        made = ticket(desk)
        desk.put(sign_body(Answer(realm="demo", ticket_id=made.key().id, node=A.id, reason=Reason.USED), B))
        assert outcome(read(desk), A.id, made.key().id, NOW) is None


class TestTheTopic:
    def test_one_without_the_authority(self, desk):
        with pytest.raises(IdentityError, match="doesn't have the keys of the authority"):
            authority_keys(read(desk, authority=bytes(32)))

    def test_one_that_goes_back_behind_the_ticket(self, desk):
        made = Ticket.make(realm="demo", authority=desk.keys.id, checkpoint=Kept(9, bytes(32)), expires=NOW + 60)
        with pytest.raises(IdentityError, match=r"rollback: checkpoint 9 .*another cluster"):
            authority_keys(read(desk, kept=made.checkpoint))

    def test_a_fork(self, desk):
        before = desk.state
        for node in (A, B):
            desk.state = before
            step = desk.step()
            step.grant(node.public, READS, None)
            desk.finish(step)
        with pytest.raises(IdentityError, match="fork: there are two checkpoints 2"):
            outcome(read(desk), A.id, None, NOW)

    def test_garbage_and_foreign_records_count_for_nothing(self, desk):
        foreign = Desk(keys=identity("other"))
        foreign.publish()
        made = ticket(desk)
        desk.values[:0] = [b"", b"\x01", b"garbage" * 100, *foreign.values * 50]
        desk.redeem(made, A)
        assert outcome(read(desk), A.id, made.key().id, NOW) is not None

    def test_the_realm_is_found_by_the_fingerprint_alone(self, desk):
        finder = RealmFinder(desk.keys.id)
        forged = sign_body(IdentityRecord(realm="evil", keys=B.public), B)
        for value in (None, b"", b"\x01\x01", b"\x01\x01garbage", value_of(forged), *desk.values):
            finder.apply(0, None, value)
        assert finder.realm == "demo"

    def test_a_realm_that_somebody_else_claims(self, desk):
        """The authority's public keys are known to all; only it can sign that it has a realm."""
        record = sign_body(IdentityRecord(realm="evil", keys=desk.keys.public), desk.keys)
        forged = bytearray(value_of(record))
        forged[-1] ^= 1
        finder = RealmFinder(desk.keys.id)
        finder.apply(0, None, bytes(forged))
        assert finder.realm is None


class TestClocks:
    @pytest.mark.parametrize(
        ("away", "sentence"),
        [
            (-600, r"isn't valid yet: it counts from 2027-01-15T07:55:00Z .*says 2027-01-15T07:50:00Z"),
            (-200, r"newest checkpoint was signed at 2027-01-15T08:00:00Z, .*says 2027-01-15T07:56:40Z"),
            (8 * DAY, r"has expired: it counts from .* to 2027-01-22T07:55:00Z"),
            (2 * DAY, r"newest checkpoint expired at 2027-01-16T08:00:00Z, .*says 2027-01-17T08:00:00Z"),
        ],
    )
    def test_one_that_is_away(self, desk, away, sentence):
        made = ticket(desk)
        desk.redeem(made, A)
        with pytest.raises(IdentityError, match=sentence):
            outcome(read(desk), A.id, made.key().id, NOW + away)

    @pytest.mark.parametrize("away", [-100, 100])
    def test_two_minutes_are_none(self, desk, away):
        made = ticket(desk)
        desk.redeem(made, A)
        assert outcome(read(desk), A.id, made.key().id, NOW + away)
        check_clock(read(desk), NOW + away)

    def test_without_a_checkpoint_nothing_is_said(self):
        check_clock(View(realm="demo", authority=bytes(32)), NOW)


def test_silence_says_what_to_do():
    by_ticket = silence(A.id, 3, by_ticket=True, seconds=60)
    assert "is `kveil authority run` running" in by_ticket
    assert "3 records on the topic count for nothing" in by_ticket
    bound = silence(A.id, 0, by_ticket=False, seconds=60)
    assert "kveil authority grant" in bound
    assert "count for nothing" not in bound
