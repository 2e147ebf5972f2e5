"""A producer is revoked: what it had sealed by then still opens, what it seals later doesn't."""

import asyncio

import pytest

from kveil.protocol.kafka.record_batch import read_header, split_batches
from kveil.proxy.errors import ErrorCode
from tests.support.announced import TOPIC
from tests.support.ends import end_of
from tests.support.realm import consumes, produces
from tests.support.records import client_batch, idempotent
from tests.support.told import Member

CORRUPT = (ErrorCode.CORRUPT_MESSAGE, b"")


@pytest.fixture(params=[{"mode": "batch"}, {"mode": "record", "keys": "clear"}], ids=["batch", "record"])
def rule(request):
    return request.param


@pytest.fixture
def reader(world, tmp_path, rule) -> Member:
    return Member(tmp_path, world, world.members.join("billing", consumes()), **rule)


@pytest.fixture
def shop(world, tmp_path, reader, rule) -> Member:
    made = Member(tmp_path, world, world.members.join("shop", produces()), **rule)
    world.deliver()
    return made


def write(log, shop, count=2, **options):
    for _ in range(count):
        log.write(shop, client_batch(1), **options)


def tell(world, shop, *, last=False):
    asyncio.run(shop.process.keys.tell(last=last))
    world.deliver()


def revoke(world, shop, *, is_told=False):
    """Unless it is told, the producer goes on: its host isn't its owner's any more."""
    if not is_told:
        world.followers.remove(shop.process.log)
    world.members.revoke(shop.node, end_of(world.members.realm, shop.node, world.topic.records))
    world.deliver()


def restarted(world, shop, tmp_path, rule) -> Member:
    shop.process.keys.close()
    world.followers.remove(shop.process.log)
    made = Member(tmp_path, world, shop.node, **rule)
    world.deliver()
    return made


def fresh(world, reader, tmp_path, rule) -> Member:
    """The same reader after a restart."""
    made = Member(tmp_path, world, reader.node, **rule)
    world.deliver()
    return made


def offsets(found):
    code, records = found
    assert code == 0
    return [read_header(view).base_offset for view in split_batches(records)]


def readers(world, reader, tmp_path, rule):
    return [reader, fresh(world, reader, tmp_path, rule)]


def test_what_comes_after_the_end_is_refused(world, log, shop, reader, tmp_path, rule, audited):
    """By who reads on and by who starts then, also over another connection, and also what one has read before."""
    write(log, shop)
    tell(world, shop)
    assert offsets(log.read(reader)) == [0, 1]
    revoke(world, shop)
    other = shop.client()
    write(log, shop)
    write(log, shop, talk=other)
    for one in readers(world, reader, tmp_path, rule):
        assert offsets(log.read(one)) == [0, 1], "up to there"
        assert log.read(one, 2) == CORRUPT
        assert log.read(one, 4) == CORRUPT
    told = [event["data"]["reason"] for event in audited if event["type"].endswith("batch.refused")]
    assert "its producer shop was revoked, and this batch came after: it is number 3 of lane 1, of which the" in told[0]
    assert any("number 1 of lane 2, of which the revocation lists 0" in reason for reason in told)


def test_what_was_read_just_before_the_end_was_known(world, log, shop, reader):
    write(log, shop, 1)
    tell(world, shop)
    write(log, shop, 2)
    assert offsets(log.read(reader)) == [0, 1, 2]
    revoke(world, shop)
    assert offsets(log.read(reader)) == [0]
    assert log.read(reader, 1) == CORRUPT


def test_nothing_is_lost_of_one_that_was_stopped(world, log, shop, reader, tmp_path, rule):
    """Its last word names all, also what no replica has said that it has."""
    write(log, shop)
    for sequence in range(3):
        log.append(shop.seal(idempotent(sequence))[1])
    tell(world, shop, last=True)
    revoke(world, shop, is_told=True)
    for one in readers(world, reader, tmp_path, rule):
        assert offsets(log.read(one)) == [0, 1, 2, 3, 4]


def test_an_epoch_that_was_replaced_ends_where_the_next_one_says(world, log, shop, reader, tmp_path, rule):
    write(log, shop)
    tell(world, shop)
    write(log, shop)
    key = shop.process.sealing()
    shop.process.keys.reload()
    write(log, shop, 1)
    assert shop.process.sealing() is not key
    for _ in range(3):
        tell(world, shop)  # beacons don't name it any more
    revoke(world, shop)
    for one in readers(world, reader, tmp_path, rule):
        assert offsets(log.read(one)) == [0, 1, 2, 3, 4]
    write(log, shop, 1)
    assert log.read(reader, 5) == CORRUPT


def test_what_a_killed_process_has_sealed_counts_once_another_went_on(world, log, shop, reader, tmp_path, rule):
    """Nobody knows where it ended, and that isn't to cost a record."""
    write(log, shop)
    tell(world, shop)
    write(log, shop)
    after = restarted(world, shop, tmp_path, rule)
    write(log, after)
    tell(world, after)
    revoke(world, after)
    for one in readers(world, reader, tmp_path, rule):
        assert offsets(log.read(one)) == [0, 1, 2, 3, 4, 5]
    write(log, after, 1)
    assert log.read(reader, 6) == CORRUPT


def test_one_that_started_and_sealed_nothing_leaves_the_last_word(world, log, shop, reader, tmp_path, rule):
    write(log, shop)
    tell(world, shop, last=True)
    after = restarted(world, shop, tmp_path, rule)
    asyncio.run(after.process.keys.begin(seals=True))
    tell(world, after)
    revoke(world, after)
    assert offsets(log.read(fresh(world, reader, tmp_path, rule))) == [0, 1]


def test_one_that_said_nothing_of_its_batches(world, log, shop, reader):
    write(log, shop)
    revoke(world, shop)
    assert log.read(reader) == CORRUPT


def test_other_producers_go_on(world, log, shop, reader, tmp_path, rule):
    other = Member(tmp_path, world, world.members.join("kiosk", produces()), **rule)
    world.deliver()
    write(log, shop)
    write(log, other)
    tell(world, shop)
    revoke(world, shop)
    write(log, other)
    for one in readers(world, reader, tmp_path, rule):
        assert offsets(log.read(one)) == [0, 1, 2, 3, 4, 5]


def test_a_copy_of_the_topic_ends_there_too(world, log, reader, tmp_path, rule):
    """In another partition than it was sealed for, where places say nothing else."""
    writer = Member(tmp_path, world, world.members.join("shop", produces()), **rule, origin_partition=True)
    copy = Member(tmp_path, world, reader.node, **rule, sealed_as={"topic": TOPIC, "partition": "any"})
    world.deliver()
    write(log, writer)
    tell(world, writer)
    revoke(world, writer)
    write(log, writer)
    assert offsets(copy.read(b"".join(log.batches), partition=1)) == [0, 1]
    assert copy.read(b"".join(log.batches[2:]), partition=1) == CORRUPT


def test_an_alarm_does_not_take_the_end_back(world, log, shop, reader):
    """What is open stays so, and where it ends too."""
    write(log, shop)
    tell(world, shop)
    revoke(world, shop)
    write(log, shop)
    assert offsets(log.read(reader)) == [0, 1]
    realm = world.members.realm
    realm.checkpoints.pop()
    world.members.checkpoint(created=world.members.now + 1)
    world.members.join("kiosk", produces(), checkpoint=False)  # so that all is judged again
    world.deliver()
    assert reader.process.keys.control.opening_stop() is not None
    assert offsets(log.read(reader)) == [0, 1]
    assert log.read(reader, 2) == CORRUPT


def test_without_positions_early_can_not_be_told_from_late(world, log, shop, reader):
    world.members.checkpoint(positions=False)
    world.deliver()
    write(log, shop)
    tell(world, shop)
    revoke(world, shop)
    write(log, shop)
    assert offsets(log.read(reader)) == [0, 1, 2, 3]
