"""The key-hiding key as an authority hands it out: who opens it, what is refused, and which one a node believes."""

import hashlib
from dataclasses import replace

import pytest

from kveil.protocol.envelope.key_schedule import derive_hiding_key_id
from kveil.protocol.identity import cbor
from kveil.protocol.identity.alarms import AlarmKind
from kveil.protocol.identity.crypto import KemSuite, hpke_seal
from kveil.protocol.identity.errors import Malformed, Refused
from kveil.protocol.identity.fold import Outcome
from kveil.protocol.identity.hiding import Handed, HidingKeyName, hand_out
from kveil.protocol.identity.signing import RecordType, sign
from tests.support.realm import NOW, Realm, consumes, identity, produces, value_of

SECRET, OTHER = bytes(range(32)), bytes(range(1, 33))
suites = pytest.mark.parametrize("suite", KemSuite)


class Scene:
    """Two members, of whom the reader looks."""

    def __init__(self, **options):
        self.realm = Realm(**options)
        self.producer = self.realm.node("producer", produces())
        self.reader = self.realm.node("reader", consumes())
        self.members = [self.realm.identity, self.producer.credential, self.reader.credential]
        self.members.append(self.realm.checkpoint())

    def view(self, *more):
        return self.realm.view(*self.members, *more, me=self.reader)


@pytest.fixture
def scene():
    return Scene()


def named(secret, key_id=None):
    check = derive_hiding_key_id(secret, realm="demo")
    return HidingKeyName(key_id or check, check)


def altered(scene, **changes):
    """What the authority signs by mistake: the record for the reader with other fields."""
    names = {"realm": 1, "member": 2, "id": 3, "check": 4, "wrapped": 5}
    fields = dict(scene.realm.hand(scene.reader, SECRET).fields)
    return Handed.from_map(fields | {names[name]: value for name, value in changes.items()})


@suites
def test_its_member_opens_it(suite):
    scene = Scene(suite=suite)
    handed = scene.view(scene.realm.hand(scene.reader, SECRET)).handed
    assert handed.open(scene.reader.keys) == SECRET
    assert handed.key == named(SECRET)
    with pytest.raises(Refused, match="another member"):
        handed.open(scene.producer.keys)
    with pytest.raises(Refused):
        replace(handed, member=scene.producer.keys.id).open(scene.producer.keys)


def test_a_key_files_keeps_its_id(scene):
    """Envelopes name it by that; whether it is the right one is told by what is derived from it all the same."""
    handed = Handed.from_map(scene.realm.hand(scene.reader, SECRET, b"i" * 16).fields)
    assert handed.key == named(SECRET, b"i" * 16)
    assert handed.open(scene.reader.keys) == SECRET


@pytest.mark.parametrize(
    "change",
    [{"realm": "demo2"}, {"id": bytes(16)}, {"check": bytes(16)}, {"wrapped": bytes(80)}],
    ids=lambda change: next(iter(change)),
)
def test_it_is_bound_to_all_that_the_record_says(scene, change):
    assert altered(scene).open(scene.reader.keys) == SECRET
    with pytest.raises(Refused):
        altered(scene, **change).open(scene.reader.keys)


@pytest.mark.parametrize(("secret", "reason"), [(OTHER, "another key-hiding key"), (bytes(31), "length")])
def test_another_key_than_the_one_named(scene, secret, reason):
    """As only an authority that makes mistakes could sign it."""
    handed = altered(scene)
    fields = {1: "demo", 2: scene.reader.keys.id, 3: handed.key.id, 4: handed.key.check}
    info = b"kveil/v1/hiding-key\0" + hashlib.sha256(cbor.encode(fields)).digest() + scene.reader.keys.id
    public = scene.reader.keys.public
    wrong = replace(handed, wrapped=hpke_seal(public.suite, public.kem, info, secret))
    with pytest.raises(Refused, match=reason):
        wrong.open(scene.reader.keys)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_no_other_length_is_handed_out(scene, length):
    with pytest.raises(Malformed, match="length"):
        scene.realm.hand(scene.reader, bytes(length))


def test_suites_are_never_mixed(scene):
    """Neither made, nor taken from an authority that did."""
    strange = identity("reader", suite=KemSuite.MLKEM768_X25519)
    with pytest.raises(Malformed, match="another KEM suite"):
        hand_out("demo", SECRET, None, strange.public, scene.realm.authority)
    fields = dict(scene.realm.hand(scene.reader, SECRET).fields) | {5: bytes(1168)}
    applied = scene.view().apply(value_of(sign(RecordType.HIDING, fields, scene.realm.authority)))
    assert (applied.outcome, applied.reason) == (Outcome.REFUSED, "wrapped for another KEM suite than the realm's")


def test_the_key_is_shown_nowhere(scene):
    record = scene.realm.hand(scene.reader, SECRET)
    handed = Handed.from_map(record.fields)
    assert repr(handed.wrapped) not in repr(handed)
    assert SECRET not in value_of(record)


class TestView:
    def test_nobody_else_hands_it_out(self, scene):
        """Another member, which the view knows, and somebody whom nobody knows."""
        view = scene.view()
        for signer in (scene.producer.keys, identity("stranger")):
            made = sign(RecordType.HIDING, scene.realm.hand(scene.reader, SECRET).fields, signer)
            applied = view.apply(value_of(made))
            assert (applied.outcome, applied.reason) == (Outcome.REFUSED, "not signed by the authority")
        assert view.handed is None

    def test_it_waits_for_the_authoritys_keys(self, scene):
        record = scene.realm.hand(scene.reader, SECRET)
        view = scene.realm.view(record, *scene.members, me=scene.reader)
        assert view.handed.open(scene.reader.keys) == SECRET
        assert view.apply(value_of(record)).outcome is Outcome.KNOWN

    def test_a_node_keeps_its_own_only(self, scene):
        view = scene.view(scene.realm.hand(scene.producer, SECRET))
        assert view.handed is None
        assert view.handed_to(scene.producer.keys.id) == (named(SECRET),)
        assert view.handed_to(scene.reader.keys.id) == ()

    def test_the_newest_wrap_of_the_same_key(self, scene):
        first, second = (scene.realm.hand(scene.reader, SECRET) for _ in range(2))
        view = scene.view(first, second)
        assert view.handed.wrapped == second.fields[5]
        assert view.alarms(NOW) == ()
        assert view.hiding_stop() is None

    def test_the_first_key_stays_and_another_one_is_an_alarm(self, scene):
        view = scene.view(scene.realm.hand(scene.reader, SECRET), scene.realm.hand(scene.reader, OTHER))
        assert view.handed.open(scene.reader.keys) == SECRET
        (alarm,) = view.alarms(NOW)
        assert alarm == view.hiding_stop()
        assert alarm.kind is AlarmKind.HIDING_KEY
        assert named(SECRET).id.hex() in alarm.detail
        assert named(OTHER).id.hex() in alarm.detail
        assert view.opening_stop() is None
        assert view.sealing_stop(NOW) is None

    def test_another_members_key_is_an_alarm_too(self, scene):
        """Each of the two would hide the same key in its own way, and none of them would see it on its own record."""
        view = scene.view(scene.realm.hand(scene.reader, SECRET), scene.realm.hand(scene.producer, OTHER))
        assert [alarm.kind for alarm in view.alarms(NOW)] == [AlarmKind.HIDING_KEY]

    def test_the_same_id_for_another_key_is_another_key(self, scene):
        made = (scene.realm.hand(scene.reader, secret, b"i" * 16) for secret in (SECRET, OTHER))
        assert scene.view(*made).hiding_stop() is not None

    def test_what_somebody_had_who_is_no_member_any_more_counts_for_nothing(self, scene):
        view = scene.view(scene.realm.hand(scene.reader, SECRET), scene.realm.hand(scene.producer, OTHER))
        view.apply(value_of(scene.realm.end(scene.producer)))
        view.keep(view.to_keep)
        assert view.hiding_stop() is None
