"""What a process vouches for, and what it sends again as it was."""

import pytest

from kveil.protocol.kafka.record_batch import read_header
from kveil.proxy.config import Mode
from kveil.proxy.keys import lanes as module
from kveil.proxy.keys.lanes import RETRY_SECONDS, Lanes, OwnLanes, digest_of
from tests.support.records import client_batch, idempotent

KID, OTHER = b"k" * 16, b"o" * 16
WHERE = ("orders", 0, Mode.BATCH)
LATE = RETRY_SECONDS + 1


class Line:
    """One producer's way to the broker."""

    def __init__(self, lanes, kid=KID, where=WHERE):
        self.lanes, self.kid, self.where = lanes, kid, where
        self.own = OwnLanes()
        self.offset = 0

    def send(self, batch, *, now=0.0, all_replicas=True, kid=None):
        """What it is sealed to, what is to be settled, and the lane."""
        header = read_header(batch)
        writer = self.lanes.writer(kid or self.kid, self.where, header, self.own)
        kept = self.lanes.again(writer, header, digest_of(batch))
        if kept is not None:
            self.lanes.goes_on(writer, self.where, header, self.own, now=now)
            return kept, None, writer
        slot = writer.lane.next(header.record_count)
        slot.digest = bytes([slot.position.batch]) * 16
        pieces = [b"sealed", slot.digest]
        self.lanes.keep(writer, slot, header, digest_of(batch), pieces)
        placed = self.lanes.sealed(writer, slot, self.where, header, self.own, now=now, all_replicas=all_replicas)
        return pieces, placed, writer

    def vouches(self, *sequences, **options):
        return [self.send(idempotent(each), **options)[1] is not None for each in sequences]


@pytest.fixture
def lanes():
    return Lanes(began=0.0, is_alone=True)


@pytest.fixture
def line(lanes):
    return Line(lanes)


class TestVouching:
    def test_a_plain_producer_is_vouched_for_at_once(self, line):
        for number in range(3):
            _, placed, writer = line.send(client_batch(1))
            placed.writer.settle(placed.batch, number)
            assert writer.lane.acknowledged_batch == number + 1

    def test_a_producer_id_after_as_many_batches_as_may_be_on_their_way(self, line):
        assert line.vouches(*range(7)) == [False] * 5 + [True] * 2

    def test_one_that_begins_when_no_retry_of_another_process_can_come(self, line):
        assert line.vouches(0, 1, now=LATE) == [True, True]
        assert Line(line.lanes, where=("orders", 1, Mode.BATCH)).vouches(3, 4, now=LATE) == [False, False]

    def test_never_at_once_where_other_processes_serve_the_same_clients(self):
        assert Line(Lanes(began=0.0, is_alone=False)).vouches(0, now=1e9) == [False]

    @pytest.mark.parametrize("batch", [idempotent(9), idempotent(6), idempotent(7, epoch=1)])
    def test_what_doesn_t_go_on_begins_again(self, line, batch):
        """A hole, a retry, a new epoch."""
        line.vouches(*range(7), now=LATE)
        assert line.send(batch)[1] is None
        following = read_header(batch).base_sequence + 1
        epoch = read_header(batch).producer_epoch
        found = [line.send(idempotent(following + at, epoch=epoch))[1] is not None for at in range(5)]
        assert found == [False] * 4 + [True]

    def test_sequences_begin_again_at_0(self, line):
        line.vouches(*(2**31 - at for at in range(7, 0, -1)))
        assert line.vouches(0, 1) == [True, True]

    def test_another_connection_leaves_what_is_on_its_way(self, lanes, line):
        line.vouches(0, now=LATE)
        _, placed, writer = line.send(idempotent(1), now=LATE)
        other = Line(lanes)
        assert other.vouches(2) == [False]
        placed.writer.settle(placed.batch, 7)
        assert writer.is_settled
        assert writer.lane.acknowledged_batch == 0, "another process could have got it too"

    def test_a_new_key_goes_on_where_the_old_one_ended(self, line):
        line.vouches(*range(5))
        assert line.send(idempotent(5))[1] is not None
        assert line.send(idempotent(6), kid=OTHER)[1] is not None

    def test_an_offset_that_was_told_before(self, line):
        """The broker knew the batch, and didn't take it again."""
        for offset, expected in ((5, 1), (5, 1), (4, 1), (6, 4)):
            _, placed, writer = line.send(client_batch(1))
            placed.writer.settle(placed.batch, offset)
            assert writer.lane.acknowledged_batch == expected

    def test_fewer_replicas_and_errors(self, line):
        assert line.send(client_batch(1), all_replicas=False)[1] is None
        _, placed, writer = line.send(client_batch(1))
        placed.writer.settle(placed.batch, None)
        assert writer.is_settled
        assert writer.lane.acknowledged_batch == 0


class TestSentAgain:
    def test_the_last_five_as_they_were(self, line):
        first = [line.send(idempotent(each))[0] for each in range(6)]
        assert [line.send(idempotent(each))[0] for each in range(1, 6)] == first[1:]

    def test_an_older_one_anew_and_all_that_follow_it_too(self, line):
        first = [line.send(idempotent(each))[0] for each in range(6)]
        again = [line.send(idempotent(each))[0] for each in range(6)]
        assert not any(one in first for one in again)

    def test_other_records_under_the_same_sequence(self, line):
        first = line.send(idempotent(3))[0]
        assert line.send(idempotent(3, count=2))[0] != first

    def test_not_more_than_there_is_room_for(self, line, monkeypatch):
        monkeypatch.setattr(module, "MAX_KEPT_BYTES", 50)
        first = [line.send(idempotent(each))[0] for each in range(4)]
        assert [line.send(idempotent(each))[0] for each in (2, 3)] == first[2:]
        assert line.send(idempotent(1))[0] != first[1]

    def test_nothing_of_a_producer_without_an_id(self, line):
        assert line.send(client_batch(1))[0] != line.send(client_batch(1))[0]


class TestLanes:
    def test_one_for_each_partition_mode_connection_and_producer(self, lanes, line):
        lines = [line, Line(lanes), Line(lanes, where=("orders", 1, Mode.BATCH)), Line(lanes, OTHER)]
        lines.append(Line(lanes, where=("orders", 0, Mode.RECORD)))
        for one in lines:
            one.send(client_batch(1))
        for producer in (7, 8):
            lines[0].send(idempotent(0, producer_id=producer))
            lines[1].send(idempotent(1, producer_id=producer))
        marks = [*lanes.marks(KID), *lanes.marks(OTHER)]
        assert sorted(mark.batches for mark in marks) == [1, 1, 1, 1, 1, 2, 2]
        assert len({mark.lane for mark in marks}) == len(marks)

    def test_one_with_batches_on_their_way_is_not_used_again(self, lanes, line):
        _, _, first = line.send(client_batch(1))
        lanes.release(line.own)
        _, other, second = line.send(client_batch(1))
        assert second is not first
        other.writer.settle(other.batch, 0)
        lanes.release(line.own)
        assert line.send(client_batch(1))[2] is second

    def test_a_key_that_is_forgotten_has_none(self, lanes, line):
        line.send(client_batch(1))
        line.send(idempotent(0))
        lanes.forget(KID)
        lanes.release(line.own)
        assert list(lanes.heads()) == []
        line.send(idempotent(1))
        assert [head.partition for head in lanes.heads()] == [0]


class TestTopicsMadeAgain:
    """A producer's end goes by what was sealed, so that is told of all lanes (identities' FORMAT.md, section 5)."""

    @pytest.mark.parametrize(
        ("before", "after", "acknowledged"),
        [(b"a" * 16, b"b" * 16, 0), ("orders", b"a" * 16, 1), (b"a" * 16, "orders", 1)],
    )
    def test_what_was_sealed_is_told_and_what_is_gone_is_not_missed(self, lanes, before, after, acknowledged):
        """The topic was made again, its id has become known, or isn't any more."""
        for topic in (before, after):
            _, placed, _ = Line(lanes, where=(topic, 0, Mode.BATCH)).send(client_batch(1))
            placed.writer.settle(placed.batch, 0)
        assert [(head.acknowledged, head.sealed) for head in lanes.heads()] == [(acknowledged, 1), (1, 1)]
