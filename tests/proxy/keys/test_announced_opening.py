"""Epoch keys as readers have them: by their own wrap, by a keeper's, or not."""

import time

import pytest

from kveil.protocol.envelope.header import KeyBlock
from kveil.protocol.identity.checkpoint import Ended
from kveil.protocol.identity.credential import SKEW_SECONDS, History
from kveil.protocol.identity.record import encode_record
from kveil.protocol.identity.regrant import regrant
from kveil.proxy.identity.regranting import missing_regrants, regrant_missing
from kveil.proxy.keys.errors import KeyDenied, KeyRefused, KeyUnavailable
from tests.support.announced import TOPIC, rule_for
from tests.support.control_log import ControlTopic
from tests.support.realm import DAY, announcement_of, consumes, keeps, produces


@pytest.fixture
def writer(world):
    return world.members.join("shop", produces("orders", "more"))


@pytest.fixture
def reader(world, writer):
    return world.members.join("billing", consumes("orders", "more"))


@pytest.fixture
def shop(world, writer, reader):
    return world.process(writer)


@pytest.fixture
def billing(world, reader):
    return world.process(reader)


async def test_every_reader_opens_what_either_producer_sealed(world, shop, billing):
    audit = world.process(world.members.join("audit", consumes("*")))
    other = world.process(world.members.join("shop2", produces()))
    for producer in (shop, other):
        key = await producer.seal()
        for reader in (billing, audit):
            assert await reader.open(key) == key.secret
            assert reader.keys.opening_key(TOPIC, key.kid, key.block, rule_for(TOPIC)), "at once from now on"


async def test_a_reader_that_started_later_or_again_opens_all(world, shop, billing, reader):
    keys = []
    for _ in range(3):
        shop.keys.reload()
        keys.append(await shop.seal())
    later = world.process(reader)
    assert [await later.open(key) for key in keys] == [key.secret for key in keys]


async def test_a_batch_that_is_faster_than_its_announcement(world, shop, billing):
    """It is looked for where the announcement must stand by now."""
    await billing.keys.begin(seals=False)
    key = await shop.seal()
    assert await billing.open(key) == key.secret


async def test_an_announcement_that_is_hidden(world, shop, billing):
    before = len(world.topic.records)
    key = await shop.seal()
    hidden = world.topic.records[before:]
    del world.topic.records[before:]
    with pytest.raises(KeyUnavailable, match="no announcement"):
        await billing.open(key)
    world.topic.records += hidden
    assert await billing.open(key) == key.secret


async def test_a_producer_may_not_read_what_it_only_produces(shop):
    key = await shop.seal()
    with pytest.raises(KeyDenied, match="shop wasn't granted to consume from orders"):
        await shop.open(key)


async def test_nor_anybody_else_who_was_not_granted_it(world, shop):
    stranger = world.process(world.members.join("stranger", consumes("other")))
    key = await shop.seal()
    with pytest.raises(KeyDenied, match="wasn't granted"):
        await stranger.open(key)


async def test_a_key_of_one_topic_opens_no_other(shop, billing):
    key = await shop.seal()
    block = key.block._replace(name="more")
    with pytest.raises(KeyRefused, match="announced for 'orders'"):
        await billing.keys.unwrap("more", 0, key.kid, block, rule_for("more"))


@pytest.mark.parametrize("block", [KeyBlock(7, "more", 0, "", b""), KeyBlock(1, "orders", 1, "1", b"")])
async def test_a_block_that_the_rule_does_not_accept(shop, billing, block):
    key = await shop.seal()
    with pytest.raises(KeyRefused, match="rule accepts"):
        await billing.keys.unwrap(TOPIC, 0, key.kid, block, rule_for(TOPIC))
    with pytest.raises(KeyRefused, match="rule accepts"):
        billing.keys.opening_key(TOPIC, key.kid, block, rule_for(TOPIC))


async def test_a_mirror_is_opened_as_what_it_was_sealed_as(shop, billing):
    from dataclasses import replace

    key = await shop.seal()
    rule = replace(rule_for(TOPIC), sealed_as=TOPIC)
    assert (await billing.keys.unwrap("copy.of.orders", 0, key.kid, key.block, rule)).secret == key.secret


async def test_a_rule_that_names_whose_records_it_takes(world, shop, billing, writer):
    from dataclasses import replace

    key = await shop.seal()
    other = replace(rule_for(TOPIC), sealed_by=frozenset({"shop2"}))
    for _ in range(2):
        with pytest.raises(KeyRefused, match="sealed by shop, whom"):
            await billing.open(key, rule=other)
    own = replace(other, sealed_by=frozenset({"shop", "shop2"}))
    assert await billing.open(key, rule=own) == key.secret


# History -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("history", History)
async def test_what_a_late_joiner_opens(world, shop, billing, history):
    world.process(world.members.join("vault", keeps()))
    before = await shop.seal()
    late = world.process(world.members.join("late", consumes(history=history)))
    world.deliver()
    now = await shop.seal()
    shop.keys.reload()
    after = await shop.seal()
    assert await late.open(after) == after.secret
    if history is History.NONE:
        assert now is before, "its joining begins no epoch"
    else:
        assert await late.open(now) == now.secret
    if history is History.ALL:
        with pytest.raises(KeyUnavailable, match="no keeper has handed"):
            await late.open(before)
    else:
        with pytest.raises(KeyDenied, match=f"history {history.name.lower().replace('_', '-')}"):
            await late.open(before)


async def test_a_keeper_hands_on_to_those_alone_who_may_read_all(world, shop, billing):
    keeper = world.process(world.members.join("vault", keeps("*")))
    keys = [await shop.seal()]
    shop.keys.reload()
    keys.append(await shop.seal())
    joined = {
        history: world.process(world.members.join(history.name.lower(), consumes(history=history)))
        for history in History
    }
    other = world.process(world.members.join("other", consumes("more", history=History.ALL)))
    world.deliver()
    assert await regrant_missing(keeper.keys.control) == 2
    world.deliver()
    for key in keys:
        assert await joined[History.ALL].open(key) == key.secret
        for process in (joined[History.NONE], joined[History.FROM_JOIN], other):
            with pytest.raises(KeyDenied):
                await process.open(key)
    assert await regrant_missing(keeper.keys.control) == 0, "nothing is missing any more"


async def test_what_was_missing_is_opened_as_soon_as_it_is_handed_on(world, shop, billing):
    keeper = world.process(world.members.join("vault", keeps()))
    key = await shop.seal()
    late = world.process(world.members.join("late", consumes(history=History.ALL)))
    with pytest.raises(KeyUnavailable):
        await late.open(key)
    world.deliver()
    await regrant_missing(keeper.keys.control)
    world.deliver()
    assert await late.open(key) == key.secret


async def test_who_is_no_keeper_hands_nothing_on(world, shop, billing):
    """Though it holds the key. What it writes nevertheless doesn't count."""
    key = await shop.seal()
    reader = world.members.join("late", consumes(history=History.ALL))
    late = world.process(reader)
    world.deliver()
    with pytest.raises(KeyDenied, match="is no keeper"):
        await regrant_missing(billing.keys.control)
    await billing.open(key)
    own = billing.keys.control.own_credential()
    (judged,) = billing.keys.control.view.announcements(key.kid)
    made = regrant(
        judged.announced.announcement,
        judged.announced.hash,
        key.secret,
        [reader.keys.public],
        keeper=billing.keys.control.node.identity,
        credential=own.hash,
    )
    world.topic.records.append(encode_record(made))
    world.deliver()
    with pytest.raises(KeyUnavailable, match="no keeper"):
        await late.open(key)


async def test_a_keeper_without_a_wrap_goes_on_with_the_others(world, shop, billing):
    """It was made one after the first key."""
    first = await shop.seal()
    keeper = world.process(world.members.join("vault", keeps()))
    world.deliver()
    second = await shop.seal()
    late = world.process(world.members.join("late", consumes(history=History.ALL)))
    world.deliver()
    assert await regrant_missing(keeper.keys.control) == 1
    world.deliver()
    assert await late.open(second) == second.secret
    with pytest.raises(KeyUnavailable):
        await late.open(first)


async def test_a_keeper_does_nothing_where_the_topic_is_wrong(world, shop, billing):
    keeper = world.process(world.members.join("vault", keeps()))
    await shop.seal()
    world.members.join("late", consumes(history=History.ALL))
    world.members.publish(world.members.realm.checkpoint(number=1, previous=bytes(32)))
    world.deliver()
    with pytest.raises(KeyUnavailable, match="fork"):
        list(missing_regrants(keeper.keys.control))


# Revocation ----------------------------------------------------------------------------------------------------------


async def test_a_reader_that_was_revoked_opens_nothing_from_the_checkpoint_on(world, shop, billing, reader):
    world.members.join("other", consumes())
    world.deliver()
    key = await shop.seal()
    await billing.open(key)
    world.members.revoke(reader)
    world.deliver()
    with pytest.raises(KeyDenied, match="doesn't list"):
        await billing.open(key)
    new = await shop.seal()
    assert new.kid != key.kid
    world.deliver()
    assert reader.keys.id not in billing.keys.control.view.announcements(new.kid)[0].announced.recipients


async def test_a_grant_that_is_gone_and_comes_back(world, shop, billing, reader):
    key = await shop.seal()
    assert await billing.open(key)
    world.members.grant(reader, consumes("more"))
    world.deliver()
    with pytest.raises(KeyDenied, match="wasn't granted"):
        await billing.open(key)
    world.members.grant(reader, consumes("orders"))
    world.deliver()
    assert await billing.open(key) == key.secret


async def test_a_credential_that_ends_by_itself(world, shop, billing):
    key = await shop.seal()
    await billing.open(key)
    world.clock.now += 7 * DAY + SKEW_SECONDS + 1
    with pytest.raises(KeyDenied, match="has expired"):
        await billing.open(key)


async def test_a_producer_that_was_revoked(world, shop, billing, writer):
    """What its end lists is read on; what isn't listed was never opened, or is refused from now on."""
    listed = await shop.seal()
    heads = billing.keys.control.view
    await billing.open(listed)
    chains = heads.heads(writer.keys.id)
    shop.keys.reload()
    unlisted = await shop.seal()
    assert await billing.open(unlisted) == unlisted.secret
    world.members.revoke(writer, Ended(id=writer.keys.id, chains=chains))
    world.deliver()
    assert await billing.open(listed) == listed.secret
    with pytest.raises(KeyRefused, match="had ended"):
        await billing.open(unlisted)


async def test_a_producer_that_was_revoked_without_a_word_of_what_it_did(world, shop, billing, writer):
    key = await shop.seal()
    await billing.open(key)
    world.members.revoke(writer)
    world.deliver()
    with pytest.raises(KeyRefused, match="isn't live"):
        await billing.open(key)


async def test_a_fork_opens_nothing_new_and_closes_nothing(world, shop, billing):
    known = await shop.seal()
    await billing.open(known)
    shop.keys.reload()
    new = await shop.seal()
    world.members.publish(world.members.realm.checkpoint(number=1, previous=bytes(32)))
    world.deliver()
    assert await billing.open(known) == known.secret
    with pytest.raises(KeyUnavailable, match="fork"):
        await billing.open(new)


async def test_a_lease_that_is_over_stops_no_reading(world, shop, billing):
    key = await shop.seal()
    world.clock.now += DAY + SKEW_SECONDS + 1
    assert await billing.open(key) == key.secret
    assert billing.keys.trouble(seals=False) is None


async def test_a_topic_that_has_gone_back_opens_nothing(world, shop, billing, reader):
    old = ControlTopic(world.topic.records)
    key = await shop.seal()
    world.members.checkpoint()
    world.deliver()
    later = world.process(reader, old)
    with pytest.raises(KeyUnavailable, match="rollback"):
        await later.open(key)


# Insiders ------------------------------------------------------------------------------------------------------------


async def test_another_producer_can_not_take_a_kid_for_itself(world, shop, billing):
    """Its announcement of the kid is signed and counts for what it is: of another key."""
    evil = world.members.join("evil", produces())
    world.deliver()
    key = await shop.seal()
    made = world.members.realm.announce(evil, bytes(32), evil)
    assert announcement_of(made).kid != key.kid
    world.members.publish(made)
    assert await billing.open(key) == key.secret


async def test_a_producer_that_was_not_granted_the_topic(world, shop, billing, reader):
    evil = world.members.join("evil", produces("more"))
    secret = b"s" * 32
    made = world.members.realm.announce(evil, secret, reader)
    world.members.publish(made)
    world.deliver()
    key = announcement_of(made).epoch_key(secret)
    with pytest.raises(KeyRefused, match="wasn't granted the topic"):
        await billing.open(key)


async def test_too_many_invented_kids_cost_nothing_more(world, shop, billing, reader):
    key = await shop.seal()
    evil = world.members.join("evil", produces("more"))
    for number in range(20):
        secret = bytes([number]) * 32
        made = world.members.realm.announce(evil, secret, reader)
        world.members.publish(made)
        world.deliver()
        refusal = KeyRefused if number < 16 else KeyUnavailable
        with pytest.raises(refusal):
            await billing.open(announcement_of(made).epoch_key(secret))
    assert await billing.keys.unwrap(TOPIC, 1, key.kid, key.block, rule_for(TOPIC)), "in another partition"


# Sizes ---------------------------------------------------------------------------------------------------------------


async def test_only_so_many_are_kept_open(world, shop, reader):
    billing = world.process(reader, opened_keys=2)
    keys = []
    for _ in range(3):
        shop.keys.reload()
        keys.append(await shop.seal())
        await billing.open(keys[-1])
    assert billing.keys.survey().opened == 2
    assert await billing.open(keys[0]) == keys[0].secret


async def test_a_reader_of_a_thousand_keys_starts_in_two_seconds(world, shop, billing, reader, writer):
    for number in range(1000):
        world.members.publish(world.members.realm.announce(writer, number.to_bytes(32), reader))
    began = time.perf_counter()
    later = world.process(reader)
    await later.keys.begin(seals=False)
    assert time.perf_counter() - began < 2
    for kid in later.keys.control.view.kids():
        (judged,) = later.keys.control.view.announcements(kid)
        await later.open(judged.announced.announcement.epoch_key(await _secret(later, kid)))
    assert later.keys.survey().opened == 1000


async def _secret(process, kid):
    (judged,) = process.keys.control.view.announcements(kid)
    return judged.announced.announcement.open(process.keys.control.node.identity)
