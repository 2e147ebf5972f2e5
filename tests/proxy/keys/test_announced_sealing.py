"""Epoch keys that are announced before anything is sealed under them, and replaced when that must be."""

import pytest

from kveil.protocol.identity.announcement import Announcement
from kveil.protocol.identity.credential import SKEW_SECONDS, History
from kveil.protocol.identity.record import Record, decode_record
from kveil.proxy.identity.errors import IdentityError
from kveil.proxy.identity.moments import moment
from kveil.proxy.identity.node_files import NodeFiles
from kveil.proxy.keys.announced import LOOK_SECONDS
from kveil.proxy.keys.errors import KeyDenied, KeyUnavailable
from tests.support.announced import TOPIC, rule_for
from tests.support.control_log import ControlTopic
from tests.support.realm import DAY, consumes, keeps, produces


@pytest.fixture
def reader(world):
    return world.members.join("billing", consumes())


@pytest.fixture
def writer(world, reader):
    return world.members.join("shop", produces("orders", "more"))


@pytest.fixture
def shop(world, writer):
    return world.process(writer)


def announcements(world):
    found = [decode_record(value, "demo") for _, value in world.topic.records]
    return [one.body for one in found if isinstance(one, Record) and isinstance(one.body, Announcement)]


async def test_a_key_is_announced_to_all_who_may_read_before_it_seals(world, shop, writer, reader):
    world.members.join("stranger", consumes("other"))
    keeper = world.members.join("vault", keeps())
    assert shop.sealing() is None
    key = await shop.seal()
    (made,) = announcements(world)
    assert made.kid == key.kid
    assert set(made.recipients) == {reader.keys.id, keeper.keys.id}
    assert (made.epoch.producer, made.epoch.topic, made.epoch.sequence) == (writer.keys.id, TOPIC, 1)
    assert made.epoch.checkpoint == world.members.realm.kept
    assert shop.sealing() is key


async def test_an_identity_that_has_announced_all_that_it_can_says_so(world, shop, monkeypatch):
    monkeypatch.setattr("kveil.protocol.identity.chains.MOST_OF_ONE_PRODUCER", 1)
    await shop.seal()
    with pytest.raises(KeyUnavailable, match="as many keys as it can: enrol this host anew"):
        await shop.seal("more")
    assert len(announcements(world)) == 1


async def test_the_same_key_seals_until_something_changes(world, shop):
    key = await shop.seal()
    for _ in range(5):
        world.clock.now += LOOK_SECONDS
        world.deliver()
        assert await shop.seal() is key
    assert len(announcements(world)) == 1


async def test_each_topic_has_a_key_and_all_are_one_chain(world, shop):
    world.members.join("audit", consumes("more"))
    world.deliver()
    one, other = await shop.seal(), await shop.seal("more")
    assert one.kid != other.kid
    assert [made.epoch.sequence for made in announcements(world)] == [1, 2]
    assert len({made.epoch.chain for made in announcements(world)}) == 1


async def test_a_key_ends_with_its_age(world, shop):
    key = await shop.seal()
    world.clock.now += DAY - 1
    world.members.now = int(world.unix_time())
    world.members.checkpoint()
    world.deliver()
    assert await shop.seal() is key
    world.clock.now += 1
    assert shop.sealing() is None
    assert await shop.seal() is not key


async def test_a_key_ends_with_its_use(shop, monkeypatch):
    monkeypatch.setattr("kveil.proxy.keys.sealing.MAX_EPOCH_BATCHES", 2)
    key = await shop.seal()
    shop.keys.note_use(key, 10)
    assert shop.sealing() is key
    shop.keys.note_use(key, 10)
    assert await shop.seal() is not key


async def test_a_reload_and_a_rotation_begin_new_keys(world, shop, writer):
    first = await shop.seal()
    shop.keys.reload()
    second = await shop.seal()
    assert shop.sealing() is second
    NodeFiles(world.members.path(writer)).rotate()
    assert shop.sealing() is second, "it isn't looked for with each batch"
    world.clock.now += LOOK_SECONDS
    third = await shop.seal()
    assert len({first.kid, second.kid, third.kid}) == 3
    world.clock.now += LOOK_SECONDS
    assert await shop.seal() is third


@pytest.mark.parametrize(("history", "begins"), [(History.NONE, False), (History.FROM_JOIN, True), (History.ALL, True)])
async def test_who_joins_begins_a_new_key_unless_without_history(world, shop, history, begins):
    key = await shop.seal()
    joined = world.members.join("late", consumes(history=history))
    world.deliver()
    assert (shop.sealing() is None) is begins
    await shop.seal()
    shop.keys.reload()
    await shop.seal()
    assert joined.keys.id in announcements(world)[-1].recipients
    assert joined.keys.id not in announcements(world)[0].recipients
    assert key.kid == announcements(world)[0].kid


async def test_who_is_removed_gets_no_key_from_the_checkpoint_on(world, shop, reader):
    world.members.join("other", consumes())
    world.deliver()
    key = await shop.seal()
    world.members.revoke(reader)
    assert shop.sealing() is key, "it wasn't delivered"
    world.deliver()
    assert shop.sealing() is None
    assert (await shop.seal()).kid != key.kid
    assert reader.keys.id not in announcements(world)[-1].recipients


@pytest.mark.parametrize("others_seal", [False, True])
async def test_a_revocation_that_comes_while_a_key_is_announced(world, shop, reader, others_seal):
    """The announcement stands on the topic, but nothing is sealed under its key."""
    if others_seal:
        shop.keys.control.when_changed = lambda: shop.sealing("more")
    world.members.join("other", consumes())
    world.deliver()
    before = len(world.topic.records)
    world.members.revoke(reader)
    revocation = world.topic.records[before:]
    del world.topic.records[before:]
    shop.log.before_write.append(revocation)
    stale = await shop.keys.renew(TOPIC, rule_for(TOPIC))
    assert reader.keys.id in announcements(world)[-1].recipients
    assert shop.sealing() is None
    assert (await shop.seal()).kid != stale.kid
    assert reader.keys.id not in announcements(world)[-1].recipients


async def test_a_readers_credential_that_ends_by_itself(world, shop):
    """Nobody writes anything: time alone does it."""
    keeper = world.members.realm.node("vault", keeps(), not_before=world.members.now, expires=world.members.now + 600)
    world.members.publish(keeper.credential)
    world.members.checkpoint()
    world.deliver()
    key = await shop.seal()
    assert keeper.keys.id in announcements(world)[-1].recipients
    world.clock.now += 600 + SKEW_SECONDS + 1
    assert (await shop.seal()).kid != key.kid
    assert keeper.keys.id not in announcements(world)[-1].recipients


# What stops sealing --------------------------------------------------------------------------------------------------


async def test_a_lease_that_is_over(world, shop):
    key = await shop.seal()
    world.clock.now += DAY - 10
    shop.keys.reload()
    assert (await shop.seal()).kid != key.kid
    world.clock.now += 10 + SKEW_SECONDS + 1
    assert shop.sealing() is None
    with pytest.raises(KeyUnavailable, match="freeze"):
        await shop.seal()
    assert "freeze" in shop.keys.trouble(seals=True)
    world.members.now = int(world.unix_time())
    world.members.checkpoint()
    world.deliver()
    assert await shop.seal()
    assert shop.keys.trouble(seals=True) is None


async def test_two_checkpoints_of_one_number(world, shop):
    await shop.seal()
    realm = world.members.realm
    again = realm.checkpoint(number=len(realm.checkpoints), created=world.members.now + 1)
    world.members.publish(again)
    world.deliver()
    assert shop.sealing() is None
    with pytest.raises(KeyUnavailable, match="fork"):
        await shop.seal()


async def test_a_topic_that_has_gone_back(world, shop, writer):
    """A later start is shown what stood there before a checkpoint that this node has seen."""
    old = ControlTopic(world.topic.records)
    world.members.checkpoint()
    world.deliver()
    await shop.seal()
    shop.keys.close()
    later = world.process(writer, old)
    with pytest.raises(KeyUnavailable, match="rollback"):
        await later.seal()


async def test_an_empty_topic_is_no_first_start(world, writer, shop):
    await shop.seal()
    shop.keys.close()
    later = world.process(writer, ControlTopic())
    with pytest.raises(KeyUnavailable, match="rollback"):
        await later.seal()


async def test_a_producer_that_was_revoked(world, shop, writer):
    await shop.seal()
    world.members.revoke(writer)
    world.deliver()
    assert shop.sealing() is None
    with pytest.raises(KeyDenied, match="doesn't list its credential"):
        await shop.seal()
    assert "fingerprint" in shop.keys.trouble(seals=True)


async def test_a_topic_that_was_not_granted(world, shop):
    with pytest.raises(KeyDenied, match="wasn't granted to produce to secrets"):
        await shop.seal("secrets")
    looks = shop.log.looks
    with pytest.raises(KeyDenied):
        await shop.seal("secrets")
    assert shop.log.looks == looks, "what was denied just now costs nothing"


async def test_a_grant_that_is_taken_away_and_given_back(world, shop, writer):
    await shop.seal()
    world.members.grant(writer, produces("more"))
    world.deliver()
    with pytest.raises(KeyDenied, match="wasn't granted"):
        await shop.seal()
    world.members.grant(writer, produces("orders"))
    world.deliver()
    assert await shop.seal()


async def test_a_clock_that_is_wrong(world, writer):
    """The answer says both times."""
    world.clock.now -= 1000
    with pytest.raises(KeyDenied, match=f"this host's clock says {moment(int(world.unix_time()))}"):
        await world.process(writer).seal()


async def test_a_topic_that_nobody_may_read(world, shop):
    with pytest.raises(KeyUnavailable, match="nobody could ever read more"):
        await shop.seal("more")
    world.members.join("audit", consumes("more"))
    world.deliver()
    assert await shop.seal("more")


async def test_a_checkpoint_that_can_not_be_kept_stops_sealing(world, shop, writer, monkeypatch):
    """It would be forgotten at the next start."""
    key = await shop.seal()

    def fail(self, mark):
        raise IdentityError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(NodeFiles, "keep_mark", fail)
        world.members.checkpoint()
        world.deliver()
        assert shop.sealing() is None
        with pytest.raises(KeyUnavailable, match="disk is full"):
            await shop.seal()
    shop.log.read()
    assert (await shop.seal()).kid != key.kid


async def test_the_mark_is_on_disk_before_a_checkpoint_counts(world, shop, writer):
    await shop.seal()
    files = NodeFiles(world.members.path(writer))
    world.members.checkpoint()
    assert files.mark().number < world.members.realm.kept.number
    world.deliver()
    assert tuple(files.mark()) == tuple(world.members.realm.kept)


# The chain -----------------------------------------------------------------------------------------------------------


async def test_a_new_start_goes_on_with_the_chain(world, shop, writer):
    first = await shop.seal()
    shop.keys.close()
    second = await world.process(writer).seal()
    made = announcements(world)
    assert [one.epoch.sequence for one in made] == [1, 2]
    assert len({one.epoch.chain for one in made}) == 1
    assert first.kid != second.kid


async def test_two_processes_of_one_identity_have_a_chain_each(world, shop, writer):
    await shop.seal()
    await world.process(writer).seal()
    made = announcements(world)
    assert [one.epoch.sequence for one in made] == [1, 1]
    assert len({one.epoch.chain for one in made}) == 2


async def test_what_was_not_acknowledged_is_written_again_before_the_next(world, shop):
    shop.log.loses_writes = True
    with pytest.raises(KeyUnavailable):
        await shop.seal()
    assert announcements(world) == []
    shop.log.loses_writes = False
    key = await shop.seal()
    made = announcements(world)
    assert [one.epoch.sequence for one in made] == [1, 2]
    assert key.kid == made[1].kid


async def test_and_by_a_later_start_too(world, shop, writer):
    shop.log.loses_writes = True
    with pytest.raises(KeyUnavailable):
        await shop.seal()
    shop.keys.close()
    later = world.process(writer)
    await later.keys.begin(seals=True)
    assert [one.epoch.sequence for one in announcements(world)] == [1]


async def test_a_state_that_was_rolled_back(world, shop, writer):
    await shop.seal()
    chain = world.members.path(writer) / "chain-0.json"
    before = chain.read_bytes()
    shop.keys.reload()
    await shop.seal()
    shop.keys.close()
    chain.write_bytes(before)
    later = world.process(writer)
    with pytest.raises(IdentityError, match=r"rolled back.*remove .*chain-0\.json"):
        await later.keys.begin(seals=True)
    with pytest.raises(KeyUnavailable, match="rolled back"):
        await later.seal()
    assert "rolled back" in later.keys.trouble(seals=True)
    chain.unlink()
    later.keys.close()
    assert await world.process(writer).seal()


async def test_a_start_without_the_cluster(world, shop):
    shop.log.is_cut_off = True
    with pytest.raises(KeyUnavailable):
        await shop.keys.begin(seals=True)
    with pytest.raises(KeyUnavailable):
        await shop.seal()
    assert "wasn't read" in shop.keys.trouble(seals=True)
    shop.log.is_cut_off = False
    assert await shop.seal()


@pytest.mark.parametrize("name", ["identity.json", "membership.json", "checkpoint.json"])
async def test_a_file_that_is_missing(world, writer, name):
    (world.members.path(writer) / name).unlink()
    with pytest.raises(IdentityError, match=rf"{name}.*kveil enroll"):
        world.process(writer)


async def test_garbage_and_foreign_records_on_the_topic(world, shop):
    world.topic.records += [(b"k", b"garbage"), (None, None), (b"", b"\x01\x06\xff"), (b"x", b"\x01\x03")]
    world.topic.records += [(b"%d" % number, b"\x01\x06 %d" % number) for number in range(10_000)]
    world.deliver()
    assert await shop.seal()
    assert shop.keys.control.outcomes["refused"] >= 10_000
