"""The key-hiding key at its authority: made once, handed to those who need it, and never a second one."""

from dataclasses import replace

import pytest

from kveil.protocol.envelope.key_schedule import derive_hiding_key_id
from kveil.protocol.identity.hiding import Handed, hand_out
from kveil.protocol.identity.identity import Identity
from kveil.protocol.identity.signing import RecordType
from kveil.protocol.identity.view import View
from kveil.proxy.identity.authority import new_state
from kveil.proxy.identity.authority_state import decode_state, encode_state
from kveil.proxy.identity.errors import IdentityError
from kveil.proxy.identity.handing import handed_records
from kveil.proxy.identity.owed import everything
from kveil.proxy.keys.keyfile import HidingKey
from tests.support.realm import NOW, consumes, identity, keeps, produces
from tests.support.realm_desk import LEASE, Desk

A, B, C = (identity(name) for name in "abc")


@pytest.fixture
def desk():
    made = Desk()
    made.publish()
    return made


def grant(desk: Desk, node: Identity, *grants) -> None:
    step = desk.step()
    step.have_hiding_key(desk.reader())
    step.grant(node.public, grants or (consumes(),), None)
    desk.finish(step)


def secret_of(desk: Desk) -> bytes:
    """As the authority keeps it."""
    return Handed.from_map(desk.state.hiding.fields).open(desk.keys)


def handed(desk: Desk, node: Identity) -> Handed | None:
    """As a node is handed it."""
    view = View(realm="demo", authority=desk.keys.id, me=node.id)
    for value in desk.values:
        view.apply(value)
    return view.handed


def test_those_who_produce_or_consume_get_it_with_their_credential(desk):
    grant(desk, A, produces())
    desk.redeem(ticket_of(desk), B)
    grant(desk, C, keeps())
    for node in (A, B):
        assert handed(desk, node).open(node) == secret_of(desk)
    assert handed(desk, C) is None, "a keeper sees no record"
    grant(desk, C, consumes())
    assert handed(desk, C).open(C) == secret_of(desk)


def ticket_of(desk: Desk):
    step = desk.step()
    made = step.issue_ticket((consumes(),), 600, 1, None)
    desk.finish(step)
    return made


def test_each_is_handed_it_once(desk):
    grant(desk, A)
    grant(desk, B)
    desk.now += 86_400 * 5
    desk.finish(desk.step(), force=True)
    assert sum(value[1] == RecordType.HIDING for value in desk.values) == 3, "two members, and the authority"


def test_all_again(desk):
    """For a topic that was lost, and for an authority that doesn't see it."""
    grant(desk, A)
    again = everything(desk.keys, desk.state)
    desk.values.clear()
    for records in (again, desk.publish()):
        found = [Handed.from_map(one.fields) for one in records if one.type is RecordType.HIDING]
        assert {one.member for one in found} == {desk.keys.id, A.id}
        assert {one.key for one in found} == {Handed.from_map(desk.state.hiding.fields).key}


def test_no_two_realms_have_the_same():
    assert secret_of(Desk()) != secret_of(Desk())


def test_it_is_in_the_state_and_in_the_clear_nowhere(desk):
    text = encode_state(desk.state)
    assert decode_state(text, desk.keys.public).hiding == desk.state.hiding
    for shown in (text, repr(desk.state).encode(), *desk.values):
        assert secret_of(desk) not in shown
        assert secret_of(desk).hex().encode() not in shown


def test_a_state_that_others_signed_is_damaged(desk):
    other = hand_out("demo", bytes(32), None, desk.keys.public, B)
    with pytest.raises(IdentityError, match="damaged"):
        decode_state(encode_state(replace(desk.state, hiding=other)), desk.keys.public)


def test_that_of_a_key_file_keeps_its_id():
    kept = HidingKey(id=b"i" * 16, created="", secret=b"s" * 32)
    desk = Desk()
    desk.state = new_state(desk.keys, "demo", LEASE, NOW, kept)
    grant(desk, A)
    found = handed(desk, A)
    assert (found.key.id, found.open(A)) == (kept.id, kept.secret)
    assert found.key.check == derive_hiding_key_id(kept.secret, realm="demo")


def test_one_of_another_length_is_none():
    with pytest.raises(IdentityError, match="length of the key-hiding key"):
        new_state(identity("authority"), "demo", LEASE, NOW, HidingKey(id=bytes(16), created="", secret=bytes(31)))


class TestRestored:
    """From a backup."""

    def test_it_goes_on_with_the_one_of_the_backup(self, desk):
        secret, backup = secret_of(desk), desk.state
        grant(desk, A)
        desk.state = backup
        step = desk.step()
        step.restore(*desk.reader().newer_than(backup.latest.kept))
        desk.finish(step)
        grant(desk, B)
        assert handed(desk, B).open(B) == secret

    def test_from_before_it_was_made_it_is_taken_from_the_topic(self, desk):
        grant(desk, A)
        secret = secret_of(desk)
        desk.state = replace(desk.state, hiding=None)
        grant(desk, B)
        assert secret_of(desk) == handed(desk, B).open(B) == secret

    def test_it_is_not_made_again_where_the_realm_has_one(self, desk):
        grant(desk, A)
        desk.state = replace(desk.state, hiding=None)
        desk.values = [value for value in desk.values if value[1] != RecordType.HIDING or A.id in value]
        with pytest.raises(IdentityError, match="from a newer one"):
            grant(desk, B)
        assert desk.state.hiding is None

    def test_of_a_realm_without_one_it_is_made(self):
        desk = Desk()
        desk.state = replace(desk.state, hiding=None)
        desk.publish()
        grant(desk, A)
        assert handed(desk, A).open(A) == secret_of(desk)
        assert ("key.added", "demo") in desk.events


def test_one_that_its_own_keys_dont_open_is_handed_to_nobody(desk):
    grant(desk, A)
    fields = dict(desk.state.hiding.fields) | {5: bytes(80)}
    broken = replace(desk.state, hiding=replace(desk.state.hiding, fields=fields))
    with pytest.raises(IdentityError, match="can't be handed out"):
        handed_records(desk.keys, broken, None)
