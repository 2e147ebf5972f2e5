"""Stream positions through two proxies: what a broker repeats, reorders or leaves out, and what only looks like it."""

import asyncio
import os
from dataclasses import replace

import pytest

from kveil.protocol.envelope.stream import Kind
from kveil.protocol.kafka.record_batch import read_header, split_batches
from kveil.proxy.errors import ErrorCode
from kveil.proxy.needs import TopicSettingsNeed
from tests.support.announced import TOPIC
from tests.support.conversation import DELETED, read_response
from tests.support.fetching import FETCH
from tests.support.realm import consumes, produces
from tests.support.records import client_batch, fetched, idempotent
from tests.support.told import Log, Member
from tests.vectors.reference import Batch, record

SHARE_FETCH = 78
ID, OTHER_ID = bytes(range(16)), bytes(range(1, 17))
CORRUPT = (ErrorCode.CORRUPT_MESSAGE, b"")
RETRIED = ErrorCode.NOT_ENOUGH_REPLICAS
STORED_ALL_THE_SAME = 20


def alarms(member):
    return dict(member.process.keys.streams.alarms)


def offsets(found):
    """Of the batches that were delivered."""
    code, records = found
    assert code == 0
    return [read_header(view).base_offset for view in split_batches(records)]


def write(log, shop, count=4, **options):
    for _ in range(count):
        log.write(shop, client_batch(1), **options)


class TestAttacks:
    def test_a_batch_again(self, log, shop, billing, audited):
        write(log, shop)
        log.append(log.batches[1])
        assert offsets(log.read(billing)) == [0, 1, 2, 3]
        assert log.read(billing, 4) == CORRUPT
        assert alarms(billing)[Kind.REPLAY] >= 1
        told = [event for event in audited if event["type"].endswith("stream.alarm")]
        assert told[0]["subject"] == "orders/0"
        assert (told[0]["data"]["kind"], told[0]["data"]["producer"]) == ("replay", "shop")

    def test_records_that_are_sealed_one_by_one(self, log, world, tmp_path):
        """Also those of a compacted topic have an order. Which of them are missing can't be told."""
        rule = {"mode": "record", "keys": "clear"}
        reader = Member(tmp_path, world, world.members.join("billing", consumes()), **rule)
        writer = Member(tmp_path, world, world.members.join("shop", produces()), **rule)
        for _ in range(4):
            log.write(writer, client_batch(2))
        del log.batches[1]
        assert offsets(log.read(reader)) == [0, 4, 6]
        log.append(log.batches[0])
        assert log.read(reader, 8) == CORRUPT
        assert set(alarms(reader)) == {Kind.REPLAY}

    def test_a_batch_that_was_made_to_fit_has_its_place(self, log, shop, billing):
        """It is sealed twice, and what is sent is what the next one names."""
        shop.shared.topic_settings.learn(TOPIC, replace(DELETED, max_message_bytes=5_000), shop.shared.now())
        fits = Batch(record(0, None, b"a" * 4_900), 1).encode()
        random = Batch(record(0, None, os.urandom(4_500)), 1).encode()
        for batch in (fits, random, fits, random):
            log.write(shop, batch)
        assert all(len(stored) <= 5_000 for stored in log.batches)
        assert len(offsets(log.read(billing))) == 4
        assert alarms(billing) == {}

    def test_another_order(self, log, shop, billing):
        write(log, shop)
        stored = log.batches
        log.batches, log.end = [], 0
        for at in (0, 2, 1, 3):
            log.append(stored[at])
        assert offsets(log.read(billing)) == [0, 1]
        assert log.read(billing, 2) == CORRUPT
        assert Kind.REORDER in alarms(billing)

    def test_another_history_at_an_offset_that_was_read(self, log, shop, billing):
        write(log, shop)
        assert len(offsets(log.read(billing))) == 4
        other = Log()
        other.batches, other.end = log.batches[:2], 2
        other.append(log.batches[3])
        assert offsets(other.read(billing)) == [0, 1]
        assert other.read(billing, 2) == CORRUPT

    def test_a_batch_in_the_middle_is_missing(self, log, shop, billing, audited):
        write(log, shop)
        del log.batches[1]
        assert offsets(log.read(billing)) == [0, 2, 3], "told, and delivered"
        assert alarms(billing) == {Kind.GAP: 1}
        (told,) = [event["data"] for event in audited if event["type"].endswith("stream.alarm")]
        assert (told["kind"], told["first_batch"], told["last_batch"]) == ("gap", 2, 2)
        log.read(billing)
        assert alarms(billing) == {Kind.GAP: 1}, "once"

    def test_a_rule_refuses_what_it_shows_at(self, log, shop, world, tmp_path):
        strict = Member(tmp_path, world, world.members.join("strict", consumes()), gaps="refuse")
        world.deliver()
        write(log, shop)
        del log.batches[1]
        assert offsets(log.read(strict)) == [0]
        assert log.read(strict, 1) == CORRUPT

    def test_the_hole_is_between_two_fetches(self, log, shop, billing):
        write(log, shop, 2)
        assert offsets(log.read(billing)) == [0, 1]
        write(log, shop, 2)
        del log.batches[2]
        assert offsets(log.read(billing, 2)) == [3]
        assert alarms(billing) == {Kind.GAP: 1}


class TestSettings:
    """Whether batches may be missing is a matter of the topic's settings, which are asked for before the fetch.

    Behind it their answer could stand behind that of the client's next request, which waits for the fetch's.
    """

    @pytest.fixture
    def reader(self, world, tmp_path):
        return Member(tmp_path, world, world.members.join("billing", consumes()), mode="auto")

    def ask(self, reader, *topics, epoch=-1):
        """What is needed before a fetch that names these goes out, and nothing once its answer is there."""
        reader.talk.needed.clear()
        asked = [{"topic": one, "partitions": [{"partition": 0, "fetch_offset": 0}]} for one in topics]
        number = reader.talk.client(FETCH, 12, {"topics": asked, "session_epoch": epoch})
        assert reader.talk.to_broker
        found = list(reader.talk.needed)
        reader.talk.broker(FETCH, 12, number, {"responses": []})
        assert reader.talk.to_client
        assert reader.talk.needed == found
        return found

    def test_of_topics_that_it_names(self, reader):
        assert self.ask(reader, TOPIC) == [TopicSettingsNeed(TOPIC)]
        assert self.ask(reader, TOPIC) == []

    def test_of_topics_that_its_session_has_named_before(self, reader, world):
        self.ask(reader, TOPIC, epoch=0)
        assert self.ask(reader, epoch=1) == []
        world.clock.now += 3600
        assert self.ask(reader, epoch=2) == [TopicSettingsNeed(TOPIC)]

    def test_they_count_until_its_answer_has_come(self, log, world, tmp_path, reader):
        shop = Member(tmp_path, world, world.members.join("shop", produces()))
        world.deliver()
        write(log, shop)
        del log.batches[1]
        asked = {"topic": TOPIC, "partitions": [{"partition": 0, "fetch_offset": 0}]}
        number = reader.talk.client(FETCH, 12, {"topics": [asked], "session_epoch": -1})
        assert reader.talk.to_broker
        world.clock.now += 3600
        reader.talk.broker(FETCH, 12, number, fetched({TOPIC: {0: b"".join(log.batches)}}))
        assert reader.talk.to_client
        assert alarms(reader) == {Kind.GAP: 1}


class TestCutBack:
    """An unclean election, or what a broker claims to be one."""

    def cut(self, log, count, leader_epoch):
        """Lose the last batches, and let what is written from now on be a later leader's."""
        del log.batches[-count:]
        log.end -= count
        log.leader_epoch = leader_epoch

    def test_a_later_leader_may_have_other_batches(self, log, shop, billing, audited):
        write(log, shop)
        assert len(offsets(log.read(billing))) == 4
        self.cut(log, 2, 6)
        write(log, shop, 3)
        for _ in range(2):
            assert len(offsets(log.read(billing))) == 5
        assert alarms(billing) == {Kind.CUT: 1, Kind.GAP: 1}, "what was acknowledged is missing"
        (told,) = [event for event in audited if event["type"].endswith("stream.restarted")]
        assert (told["subject"], told["data"]["kind"], told["data"]["offset"]) == ("orders/0", "cut", 2)

    def test_the_same_leader_may_not(self, log, shop, billing):
        write(log, shop)
        assert len(offsets(log.read(billing))) == 4
        self.cut(log, 2, 5)
        write(log, shop, 3)
        assert offsets(log.read(billing)) == [0, 1]
        assert log.read(billing, 2) == CORRUPT
        assert Kind.CUT not in alarms(billing)

    def test_nothing_comes_again_behind_the_end_for_it(self, log, shop, billing):
        write(log, shop)
        assert len(offsets(log.read(billing))) == 4
        log.leader_epoch = 9
        log.append(log.batches[1])
        assert log.read(billing, 4) == CORRUPT
        assert Kind.CUT not in alarms(billing)

    def test_a_rule_that_refuses_gaps_takes_it(self, log, shop, world, tmp_path):
        strict = Member(tmp_path, world, world.members.join("strict", consumes()), gaps="refuse")
        world.deliver()
        write(log, shop, 3)
        number, stored = shop.seal(client_batch(1))
        log.append(stored)
        shop.answer(number, error_code=RETRIED, base_offset=-1)
        assert len(offsets(log.read(strict))) == 4
        self.cut(log, 1, 6)
        write(log, shop, 2)
        assert len(offsets(log.read(strict))) == 5
        assert alarms(strict) == {Kind.CUT: 1}


class TestMadeAgain:
    """A topic that was deleted, and made again under its name, for clients that name it so."""

    def make(self, *members, topic_id=ID):
        for member in members:
            member.shared.topic_names.learn(topic_id, TOPIC)

    def test_it_is_another_one(self, log, shop, billing, world, audited):
        self.make(shop, billing)
        write(log, shop)
        assert len(offsets(log.read(billing))) == 4
        asyncio.run(shop.process.keys.tell())
        self.make(shop, billing, topic_id=OTHER_ID)
        other = Log()
        write(other, shop)
        asyncio.run(shop.process.keys.tell())
        world.deliver()
        for _ in range(2):
            assert len(offsets(other.read(billing))) == 4
            world.clock.now += 10
        assert alarms(billing) == {Kind.REMADE: 1}
        (told,) = [event for event in audited if event["type"].endswith("stream.restarted")]
        assert (told["subject"], told["data"]["kind"]) == ("orders/0", "remade")

    def test_who_comes_later_misses_nothing(self, log, shop, billing, world, tmp_path):
        """Neither the first batches of a lane that goes on, nor what a beacon named before."""
        late = Member(tmp_path, world, world.members.join("late", consumes()))
        world.deliver()
        self.make(shop, late)
        write(log, shop)
        self.make(shop, late, topic_id=OTHER_ID)
        other = Log()
        write(other, shop)
        asyncio.run(shop.process.keys.tell())
        world.deliver()
        for _ in range(2):
            assert len(offsets(other.read(late))) == 4
            world.clock.now += 10
        assert alarms(late) == {}

    def test_while_nobody_has_said_so_it_is_an_attack(self, log, shop, billing):
        self.make(shop, billing)
        write(log, shop)
        assert len(offsets(log.read(billing))) == 4
        other = Log()
        write(other, shop)
        assert other.read(billing) == CORRUPT

    def test_an_id_that_becomes_known_changes_nothing(self, log, shop, billing):
        write(log, shop)
        assert len(offsets(log.read(billing))) == 4
        self.make(billing)
        log.append(log.batches[1])
        assert log.read(billing, 4) == CORRUPT
        assert Kind.REMADE not in alarms(billing)


class TestShareGroups:
    """Some batches of a partition are given out, to several consumers."""

    def share(self, billing, *batches):
        billing.shared.topic_names.learn(ID, "orders")
        number = billing.talk.client(SHARE_FETCH, 1)
        part = {
            "partition_index": 0,
            "records": b"".join(batches),
            "acquired_records": [],
            "current_leader": {"leader_id": 1, "leader_epoch": 1},
        }
        billing.talk.broker(SHARE_FETCH, 1, number, {"responses": [{"topic_id": ID, "partitions": [part]}]})
        ((found,),) = (one.partitions for one in read_response(SHARE_FETCH, 1, billing.talk.to_client[0]).responses)
        return int(found.error_code)

    def test_any_of_them_again_and_in_any_order(self, log, shop, billing):
        write(log, shop, 8)
        for some in ([0, 1], [6], [4, 5], [0], [2], [7], [1, 2, 3]):
            assert self.share(billing, *(log.batches[at] for at in some)) == 0
        assert alarms(billing) == {}

    def test_one_at_another_offset(self, log, shop, billing):
        write(log, shop, 4)
        assert self.share(billing, log.batches[2]) == 0
        log.append(log.batches[2])
        assert self.share(billing, log.batches[4]) == ErrorCode.CORRUPT_MESSAGE
        assert alarms(billing) == {Kind.REPLAY: 1}


class TestWithheldTails:
    def tell(self, shop, world):
        asyncio.run(shop.process.keys.tell())
        world.deliver()

    def test_what_is_withheld_shows_within_seconds_of_a_beacon(self, log, shop, billing, world):
        write(log, shop, 4)
        assert offsets(log.read(billing)) == [0, 1, 2, 3]
        write(log, shop, 2)
        del log.batches[4:]
        log.read(billing, 4, end=4)
        self.tell(shop, world)
        log.read(billing, 4, end=4)
        assert alarms(billing) == {}, "it may be on its way"
        world.clock.now += 5
        log.read(billing, 4, end=4)
        assert alarms(billing) == {Kind.WITHHELD: 1}
        log.read(billing, 4, end=4)
        assert alarms(billing) == {Kind.WITHHELD: 1}, "once"

    def test_a_session_in_which_nothing_changes(self, log, shop, billing, world):
        """The answers leave the partition out."""
        write(log, shop, 4)
        log.read(billing)
        log.read(billing, 4)
        write(log, shop, 1)
        self.tell(shop, world)
        for seconds, found in ((4, {}), (5, {Kind.WITHHELD: 1})):
            world.clock.now += seconds
            number = billing.talk.client(FETCH, 12, {"topics": [], "session_id": 1, "session_epoch": 2})
            assert billing.talk.to_broker
            billing.talk.broker(FETCH, 12, number, {"responses": []})
            assert billing.talk.to_client
            assert alarms(billing) == found

    def test_an_honest_end_is_none(self, log, shop, billing, world):
        """Also where the beacon comes first, what isn't acknowledged is missing, or a lane has an old key."""
        write(log, shop, 4)
        self.tell(shop, world)
        world.clock.now += 10
        assert len(offsets(log.read(billing))) == 4
        shop.seal(client_batch(1))
        shop.process.keys.reload()
        write(log, shop, 3, talk=shop.client())
        for _ in range(4):
            self.tell(shop, world)
            log.read(billing, 7)
            log.read(billing, 4)
            world.clock.now += 60
            world.members.checkpoint()
            world.deliver()
            log.read(billing, 7)
        assert alarms(billing) == {}
        assert len({head.kid for head in shop.process.keys.lanes.heads()}) == 1, "the old one was told often enough"

    def test_beacons_of_a_process_count_up_also_after_a_restart(self, log, shop, billing, world, tmp_path):
        write(log, shop, 1)
        self.tell(shop, world)
        self.tell(shop, world)
        shop.process.keys.close()
        after = Member(tmp_path, world, shop.node)
        write(log, after, 1)
        self.tell(after, world)
        chain = {
            judged.announced.announcement.epoch.chain
            for kid in after.process.keys.control.view.kids()
            for judged in after.process.keys.control.view.announcements(kid)
        }
        (name,) = chain
        beacon = billing.process.keys.control.view.beacon(shop.node.keys.id, name)
        assert beacon.number > shop.process.keys._announcer._number
        assert billing.process.keys.control.alarms == ()


class TestFalseAlarms:
    """What looks like an attack, and isn't."""

    @pytest.fixture(autouse=True)
    def nothing(self, billing):
        yield
        assert alarms(billing) == {}

    def test_reading_on_again_and_from_anywhere(self, log, shop, billing):
        write(log, shop, 12)
        other = billing.client()
        for offset in (6, 0, 3, 11, 0):
            assert len(offsets(log.read(billing, offset))) == 12 - offset
            assert len(offsets(log.read(billing, offset, talk=other))) == 12 - offset

    def test_a_retry_of_a_batch_that_was_not_stored(self, log, shop, billing):
        write(log, shop)
        number, _ = shop.seal(client_batch(1))
        shop.answer(number, error_code=RETRIED, base_offset=-1)
        write(log, shop)
        assert len(offsets(log.read(billing))) == 8

    def test_a_retry_of_a_batch_that_was_stored_all_the_same(self, log, shop, billing):
        write(log, shop)
        number, stored = shop.seal(client_batch(1))
        log.append(stored)
        shop.answer(number, error_code=STORED_ALL_THE_SAME, base_offset=-1)
        write(log, shop)
        assert len(offsets(log.read(billing))) == 9

    @pytest.mark.parametrize("acks", [0, 1])
    def test_what_not_all_replicas_have_may_be_lost(self, log, shop, billing, acks):
        write(log, shop)
        number, _ = shop.seal(client_batch(1), acks=acks)
        if acks:
            shop.answer(number, base_offset=log.end)
        write(log, shop)
        assert len(offsets(log.read(billing))) == 8

    def test_an_idempotent_retry_is_the_same_bytes(self, log, shop, billing):
        for sequence in range(8):
            log.write(shop, idempotent(sequence))
        _, first = shop.seal(idempotent(8))
        _, other = shop.seal(idempotent(9))
        later = shop.client()
        for sequence, stored in ((8, first), (9, other)):
            number, again = shop.seal(idempotent(sequence), talk=later)
            assert again == stored
            shop.answer(number, base_offset=log.append(stored), talk=later)
        for sequence in range(10, 14):
            log.write(shop, idempotent(sequence), talk=later)
        assert len(offsets(log.read(billing))) == 14

    def test_a_batch_that_was_taken_apart(self, log, shop, billing):
        """MESSAGE_TOO_LARGE: what was behind it comes again, and in another place than before."""
        log.write(shop, idempotent(0))
        large, _ = shop.seal(idempotent(1, count=4))
        behind, stored = shop.seal(idempotent(5))
        shop.answer(large, error_code=ErrorCode.MESSAGE_TOO_LARGE, base_offset=-1)
        shop.answer(behind, error_code=ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, base_offset=-1)
        log.write(shop, idempotent(1, count=2))
        log.write(shop, idempotent(3, count=2))
        number, again = shop.seal(idempotent(5))
        assert again != stored
        shop.answer(number, base_offset=log.append(again))
        for sequence in range(6, 14):
            log.write(shop, idempotent(sequence))
        assert len(offsets(log.read(billing))) == 12

    def test_a_killed_process_whose_client_sends_again_what_is_stored(self, log, shop, billing, world, tmp_path):
        """The broker answers the retries with the offsets that the batches have, and stores nothing."""
        for sequence in range(8):
            log.write(shop, idempotent(sequence))
        _, first = shop.seal(idempotent(8))
        _, other = shop.seal(idempotent(9))
        bases = [log.append(first), log.append(other)]
        shop.process.keys.close()
        after = Member(tmp_path, world, shop.node)
        for sequence, base in zip((8, 9), bases, strict=True):
            number, stored = after.seal(idempotent(sequence))
            assert stored not in (first, other)
            after.answer(number, base_offset=base)
        for sequence in range(10, 20):
            log.write(after, idempotent(sequence))
        assert len(offsets(log.read(billing))) == 20

    def test_a_new_key_while_batches_are_on_their_way(self, log, shop, billing):
        for sequence in range(8):
            log.write(shop, idempotent(sequence))
        bases = [log.append(shop.seal(idempotent(sequence))[1]) for sequence in (8, 9, 10)]
        shop.process.keys.reload()
        later = shop.client()
        for sequence, base in zip((8, 9, 10), bases, strict=True):
            number, _ = shop.seal(idempotent(sequence), talk=later)
            shop.answer(number, base_offset=base, talk=later)
        for sequence in range(11, 20):
            log.write(shop, idempotent(sequence), talk=later)
        assert len(offsets(log.read(billing))) == 20

    def test_retention(self, log, shop, billing):
        write(log, shop, 8)
        del log.batches[:4]
        assert offsets(log.read(billing, 4)) == [4, 5, 6, 7]

    def test_many_connections_one_after_the_other(self, log, shop, billing):
        for _ in range(5):
            talk = shop.client()
            write(log, shop, 2, talk=talk)
            talk.connection.release_lanes()
        assert len(offsets(log.read(billing))) == 10
        heads = list(shop.process.keys.lanes.heads())
        assert [(head.acknowledged, head.sealed) for head in heads] == [(10, 10)], "one lane, used again"

    def test_an_epoch_with_too_many_lanes_ends(self, log, shop, billing, monkeypatch):
        monkeypatch.setattr("kveil.proxy.keys.lanes.MAX_LANES", 3)
        for _ in range(5):
            write(log, shop, 1, talk=shop.client())
        assert shop.process.keys.announcements == 2
        assert len(offsets(log.read(billing))) == 5
