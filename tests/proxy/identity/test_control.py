"""The control topic as one process believes it, also where somebody writes what he likes."""

import pytest

from kveil.protocol.identity.credential import SKEW_SECONDS
from kveil.protocol.identity.record import encode_record
from kveil.proxy.identity import control as module
from kveil.proxy.keys.errors import KeyUnavailable
from tests.support.announced import Clock, World
from tests.support.realm import DAY, consumes, identity, produces


@pytest.fixture
def world(tmp_path):
    return World(tmp_path, Clock())


@pytest.fixture
def control(world):
    process = world.process(world.members.join("billing", consumes()))
    world.deliver()
    return process.keys.control


def audited(capsys):
    return [line for line in capsys.readouterr().out.splitlines() if "identity.alarm" in line]


def test_what_became_of_each_record_is_counted(world, control):
    before = dict(control.outcomes)
    world.topic.records += [(b"k", b"garbage"), (b"k", None)]
    world.members.publish(world.members.realm.checkpoints[-1])
    world.deliver()
    assert control.outcomes["refused"] == before.get("refused", 0) + 1
    assert control.outcomes["passed"] == before.get("passed", 0) + 1
    assert control.outcomes["known"] == before.get("known", 0) + 1


def test_only_what_counts_is_a_change(world, control):
    before = control.changes
    world.topic.records += [(b"k", b"garbage")]
    world.deliver()
    assert control.changes == before
    world.members.checkpoint()
    world.deliver()
    assert control.changes > before


def test_whoever_waits_is_told_of_changes(world, control):
    told = []
    control.when_changed = lambda: told.append(control.changes)
    world.deliver()
    assert told == []
    world.members.join("other", consumes())
    world.deliver()
    assert told == [control.changes]


def test_an_alarm_is_told_once(world, control, capsys):
    capsys.readouterr()
    world.members.publish(world.members.realm.checkpoint(number=1, previous=bytes(32), created=1))
    for _ in range(3):
        world.clock.now += module.ALARM_SECONDS
        world.deliver()
    assert [alarm.kind for alarm in control.alarms] == ["fork"]
    assert len(audited(capsys)) == 1


def test_a_topic_full_of_unknown_signers_is_read_again_when_one_becomes_known(world, monkeypatch):
    """There is no room for all that waits, and a member's announcement was among what was dropped."""
    monkeypatch.setattr("kveil.protocol.identity.waiting.MAX_BYTES", 4_000)
    realm = world.members.realm
    shop = realm.node("shop", produces())
    billing = world.members.join("billing", consumes())
    strangers = [realm.node(f"stranger{number}", produces(), list_it=False) for number in range(10)]
    for stranger in strangers:
        world.members.publish(realm.announce(stranger, bytes(32), billing))
    announced = realm.announce(shop, b"s" * 32, billing)
    world.members.publish(announced)
    control = world.process(billing).keys.control
    world.deliver()
    assert control.view.announcement(announced.hash) is None
    world.members.publish(shop.credential)
    world.members.checkpoint()
    world.deliver()  # which asks for the start of the topic
    world.deliver()
    assert control.view.announcement(announced.hash) is not None


def hide_an_announcement(world):
    """The first of two of a producer stands nowhere; returns it."""
    shop = world.members.join("shop", produces())
    first, second = (world.members.realm.announce(shop, bytes([at]) * 32, shop) for at in range(2))
    world.members.publish(second)
    return first


def times_read(world, control, seconds):
    """When the topic is read again, by a node that hears of it every second."""
    found = []
    control.log.read_again = lambda: found.append(int(world.clock.now - began))
    began = world.clock.now
    for _ in range(seconds):
        world.deliver()
        world.clock.now += 1
    return found


def test_a_topic_with_a_hole_is_read_again(world, control):
    first = hide_an_announcement(world)
    world.deliver()
    assert [alarm.kind for alarm in control.alarms] == ["withheld"]
    world.topic.records.insert(0, encode_record(first))
    world.deliver()
    assert control.alarms == ()
    assert control.view.announcement(first.hash) is not None


def test_a_hole_that_stays_is_looked_into_ever_more_seldom(world, control, capsys):
    hide_an_announcement(world)
    assert times_read(world, control, 100) == [0, 5, 15, 35, 75]
    lines = [line for line in capsys.readouterr().out.splitlines() if "control_topic_read_again" in line]
    assert len(lines) == 5
    assert "announcement 1 of chain" in lines[0]


def test_what_is_whole_is_not_read_again(world, control):
    world.members.join("shop", produces())
    assert times_read(world, control, 100) == []


def test_a_lease_that_ends_is_told_though_nothing_is_heard(world, control, capsys):
    world.clock.now += DAY + SKEW_SECONDS
    control.look()
    assert control.alarms == ()
    world.clock.now += 1
    control.look()
    assert [alarm.kind for alarm in control.alarms] == ["freeze"]
    world.clock.now += 1
    control.look()
    assert len(audited(capsys)) == 1


def test_who_is_no_member_any_more_is_told_once(world, control, capsys):
    for _ in range(8 * 24):  # the credential is for a week
        world.clock.now += 3600
        control.look()
    lines = [line for line in capsys.readouterr().out.splitlines() if "identity_unusable" in line]
    assert len(lines) == 1
    assert "its credential has expired" in lines[0]
    assert "enrol this host anew" in lines[0]


def test_names_are_those_of_members_and_else_ids(control):
    assert control.name_of(control.me) == "billing"
    assert control.name_of(identity("nobody").id) == identity("nobody").id.hex()
    assert control.name_of(b"") == "demo"


async def test_without_a_follower_nothing_can_be_read_or_written(control):
    control.log = None
    with pytest.raises(KeyUnavailable, match="not followed"):
        await control.catch_up()
    with pytest.raises(KeyUnavailable, match="not followed"):
        await control.append([])
