"""Erasing: the mark, and the move of all others to a new generation, ended and crossed wherever it can be."""

from contextlib import suppress
from dataclasses import replace

import pytest

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.header import KeyBlock
from kveil.protocol.envelope.key_topic import State
from kveil.proxy.keys.errors import KeyDenied, KeyErased, KeyRefused, KeyUnavailable
from kveil.proxy.keys.keyfile import destroy_version, rotate_key
from kveil.proxy.keys.keyfile_store import change_key_file
from kveil.proxy.net import erasure
from kveil.proxy.net.erasure import ErasureFailed, Finish, unfinished_keys
from kveil.proxy.policy import KeyRef
from tests.support.conversation import key_file, make_shared
from tests.support.key_log import KeyTopic

TOPIC = "people"
EU = KeyRef(1, "eu")
BLOCK = KeyBlock(registry.KEY_TOPIC, "eu", registry.NO_WRAP, "", b"")
RULES = [{"match": TOPIC, "mode": "record", "key": "eu", "key_per": "record_key"}]
NAMES = [b"customer-%d" % number for number in range(8)]


@pytest.fixture(autouse=True)
def small_writes(monkeypatch):
    monkeypatch.setattr(erasure, "REWRAPPED_AT_ONCE", 2)


@pytest.fixture
def topic():
    return KeyTopic()


@pytest.fixture
def process(tmp_path, topic):
    """Another process over the same key file and key topic."""

    def make(over=topic, **config):
        return make_shared(tmp_path, key_topic=over, topics=RULES, **config)

    return make


@pytest.fixture
def path(tmp_path):
    return key_file(tmp_path)


async def kids_of(shared, names=NAMES):
    keys, rule = shared.record_keys, shared.policy.rule_for(TOPIC)
    ids = {name: keys.record_id(TOPIC, name) for name in names}
    await keys.prepare(TOPIC, rule, ids.values())
    return {name: keys.sealing_key(TOPIC, rule, one).kid for name, one in ids.items()}


async def secret_of(shared, kid):
    rule = shared.policy.rule_for(TOPIC)
    return (await shared.record_keys.unwrap(TOPIC, 0, kid, BLOCK, rule)).secret


async def shred(shared, name):
    await shared.record_keys.catch_up()
    return await erasure.shred(shared, shared.record_keys, TOPIC, name)


def rotate(path):
    change_key_file(path, lambda content: rotate_key(content, "eu"))


def destroy(path, version="1"):
    change_key_file(path, lambda content: destroy_version(content, "eu", version))


async def finish(shared, path):
    """The whole second step, as the command does it."""
    await shared.record_keys.catch_up()
    gone = 0
    for key in unfinished_keys(shared.record_keys):
        work = Finish(shared, shared.record_keys, key, lambda text: None)
        await work.rewrap()
        for version in await work.check_destroyed():
            destroy(path, version)
        assert await work.check_destroyed() == []
        gone += await work.complete()
    return gone


async def check(process, kids, secrets, erased):
    """A process that begins now opens all but the erased ones."""
    reader = process()
    for name, kid in kids.items():
        if name in erased:
            with pytest.raises(KeyErased):
                await secret_of(reader, kid)
        else:
            assert await secret_of(reader, kid) == secrets[name]


async def test_shredding_says_how_many_keys_there_were(process):
    one = process()
    await kids_of(one)
    assert await shred(one, NAMES[0]) == 1
    assert await shred(one, NAMES[0]) == 0
    assert await shred(one, b"nobody") == 0


async def test_a_topic_without_record_keys(process):
    with pytest.raises(ErasureFailed, match="key_per"):
        await erasure.shred(process(), process().record_keys, "other", b"x")
    with pytest.raises(ErasureFailed, match="no rule"):
        async with erasure.followed_keys(replace(process(), record_keys=None)):
            pass


async def test_the_whole_way(process, path, topic):
    one = process()
    kids = await kids_of(one)
    secrets = {name: await secret_of(one, kid) for name, kid in kids.items()}
    old_log = KeyTopic(topic.records)
    await shred(one, NAMES[0])
    rotate(path)
    assert await finish(one, path) == 1
    assert await finish(one, path) == 0
    assert one.record_keys.store.pending() == []
    await check(process, kids, secrets, {NAMES[0]})
    hostile = process(old_log)
    for kid in kids.values():
        with pytest.raises(KeyRefused):
            await secret_of(hostile, kid)


@pytest.mark.parametrize("killed_at", range(10))
async def test_killed_at_any_write_it_loses_nothing_and_goes_on(process, path, topic, killed_at):
    one = process()
    kids = await kids_of(one)
    secrets = {name: await secret_of(one, kid) for name, kid in kids.items()}
    await shred(one, NAMES[0])
    rotate(path)
    dying = process()
    await dying.record_keys.catch_up()
    log, writes = dying.record_keys.log, 0
    append = log.append

    async def ends(records):
        nonlocal writes
        writes += 1
        if writes > killed_at:
            raise KeyUnavailable("killed")
        await append(records)

    log.append = ends
    try:
        await finish(dying, path)
    except KeyUnavailable:
        await check(process, kids, secrets, {NAMES[0]})
        assert await finish(process(), path) == 1
    else:
        assert killed_at >= 7
    await check(process, kids, secrets, {NAMES[0]})
    assert process().record_keys.store.pending() == []


async def test_without_a_newer_version_nothing_is_touched(process, topic, path):
    one = process()
    await kids_of(one)
    await shred(one, NAMES[0])
    before = list(topic.records)
    with pytest.raises(ErasureFailed, match="kveil keys rotate eu"):
        await finish(one, path)
    assert topic.records == before


async def test_while_the_old_version_is_there_nothing_is_reported(process, path):
    one = process()
    await kids_of(one)
    await shred(one, NAMES[0])
    rotate(path)
    work = Finish(one, one.record_keys, EU, lambda text: None)
    destruction = await work.rewrap()
    assert (destruction.key, destruction.versions) == (EU, ["1"])
    assert await work.check_destroyed() == ["1"]
    assert len(one.record_keys.store.pending()) == 1
    destroy(path)
    assert await work.check_destroyed() == []


async def test_one_who_is_erased_meanwhile_waits_for_the_next_time(process, path):
    """His wrap stands under the new generation by then, which isn't destroyed now."""
    one, other = process(), process()
    kids = await kids_of(one)
    secrets = {name: await secret_of(one, kid) for name, kid in kids.items()}
    await shred(one, NAMES[0])
    rotate(path)
    await other.record_keys.catch_up()
    writer = one.record_keys.log
    marks = len(one.record_keys.store.pending())
    # The other's mark comes in between the look of `Finish` and its write of the rewrapped keys.
    append, done = writer.append, []

    async def crossed(records):
        if len(records) == 2 and not done and marks:
            done.append(await shred(other, NAMES[1]))
        await append(records)

    writer.append = crossed
    assert await finish(one, path) == 1
    assert done == [1]
    (left,) = one.record_keys.store.pending()
    assert left.kid == kids[NAMES[1]]
    await check(process, kids, secrets, set(NAMES[:2]))
    rotate(path)
    assert await finish(process(), path) == 1
    await check(process, kids, secrets, set(NAMES[:2]))


async def test_an_identity_that_may_unwrap_nothing_is_no_proof(process, path, monkeypatch):
    """What it is denied may open for others."""
    one = process()
    await kids_of(one)
    await shred(one, NAMES[0])
    rotate(path)
    work = Finish(one, one.record_keys, EU, lambda text: None)
    await work.rewrap()

    async def denied(*args):
        raise KeyDenied("not for this identity")

    monkeypatch.setattr(one.keys.providers[1], "unwrap", denied)
    with pytest.raises(KeyDenied):
        await work.check_destroyed()


@pytest.mark.parametrize("crossed_at", range(1, 8))
async def test_two_who_finish_at_once_lose_nothing(process, path, crossed_at):
    """The other one's whole work falls between two writes of the first."""
    one, other = process(), process()
    kids = await kids_of(one)
    secrets = {name: await secret_of(one, kid) for name, kid in kids.items()}
    await shred(one, NAMES[0])
    rotate(path)
    append, writes = one.record_keys.log.append, []

    async def crossed(records):
        writes.append(records)
        if len(writes) == crossed_at:
            await finish(other, path)
        await append(records)

    one.record_keys.log.append = crossed
    with suppress(KeyRefused, KeyUnavailable):  # the other one has destroyed what this one needed
        await finish(one, path)
    late = process()
    await finish(late, path)
    assert late.record_keys.store.pending() == []
    await check(process, kids, secrets, {NAMES[0]})


async def test_who_writes_meanwhile_loses_nothing(process, path):
    one, other = process(), process()
    kids = await kids_of(one)
    await shred(one, NAMES[0])
    rotate(path)
    append, made = one.record_keys.log.append, {}

    async def crossed(records):
        made.update(await kids_of(other, [b"late-%d" % len(made)]))
        await append(records)

    one.record_keys.log.append = crossed
    await finish(one, path)
    assert len(made) > 5
    reader = process()
    for kid in [*made.values(), *(kid for name, kid in kids.items() if name != NAMES[0])]:
        assert await secret_of(reader, kid)


async def test_where_not_all_keys_are_known_nothing_is_destroyed(process, path):
    one = process()
    await kids_of(one)
    await shred(one, NAMES[0])
    rotate(path)
    small = process(limits={"record_keys": 2})
    with pytest.raises(ErasureFailed, match=r"limits\.record_keys"):
        await finish(small, path)


async def test_a_key_that_no_such_rule_names_is_left_alone(process):
    with pytest.raises(ErasureFailed, match="no rule"):
        Finish(process(), process().record_keys, KeyRef(1, "default"), lambda text: None)


async def test_retired_generations_alone_are_finished_too(process, path):
    """After a kill between the destruction and the last write."""
    one = process()
    await kids_of(one)
    await shred(one, NAMES[0])
    rotate(path)
    work = Finish(one, one.record_keys, EU, lambda text: None)
    await work.rewrap()
    destroy(path)
    late = process()
    assert await finish(late, path) == 1
    assert [one.state for one in late.record_keys.store.all_generations] == [State.ACTIVE]
