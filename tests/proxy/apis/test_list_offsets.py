"""ListOffsets: which lookups are made exact, by what is read, and what passes as it is."""

import pytest

from kveil.protocol.kafka.messages import encode_response
from kveil.proxy.needs import ReadRecords, RecordsNeed
from tests.support.conversation import number_of, read_response
from tests.support.kio_instances import versions_of
from tests.support.records import at_offset, tampered
from tests.support.time_lookups import (
    LIST_OFFSETS,
    MAX_TIMESTAMP,
    STAMPS,
    Log,
    T,
    answer,
    early,
    look_up,
    request,
    stored,
    timed,
)

VERSIONS = versions_of(LIST_OFFSETS)
PLAIN = [{"match": "logs", "seal": "none"}]
pytestmark = pytest.mark.usefixtures("fresh_log_limits")


class TestExact:
    @pytest.mark.parametrize("version", VERSIONS)
    def test_the_first_record_that_is_not_older(self, converse, writer, version):
        talk = converse()
        talk.records = Log(*stored(writer, timed(STAMPS)))
        epoch = 5 if version >= 4 else None
        assert look_up(talk, {0: T + 6}, {0: (0, 0, T + 9)}, version=version) == {0: (0, 2, T + 9, epoch)}
        assert early(talk) == []

    @pytest.mark.parametrize("codec", range(5))
    def test_whatever_the_client_compressed_with(self, converse, writer, codec):
        talk = converse()
        talk.records = Log(*stored(writer, timed(STAMPS, codec)))
        assert look_up(talk, {0: T + 6}, {0: (0, 0, T + 9)})[0] == (0, 2, T + 9, 5)

    @pytest.mark.parametrize(
        ("at", "found"), [(0, (0, T + 5)), (T + 5, (0, T + 5)), (T + 6, (2, T + 9)), (T + 9, (2, T + 9))]
    )
    def test_of_one_batch(self, converse, writer, at, found):
        talk = converse()
        talk.records = Log(*stored(writer, timed(STAMPS)))
        assert look_up(talk, {0: at}, {0: (0, 0, T + 9)})[0] == (0, *found, 5)

    @pytest.mark.parametrize("begin", [0, 3])
    def test_the_largest_timestamp_is_looked_for_in_the_whole_batch(self, converse, writer, begin):
        """Also where the log starts behind the record, as in a plain topic."""
        talk = converse()
        talk.records = Log(*stored(writer, timed(STAMPS)), begin=begin)
        assert look_up(talk, {0: MAX_TIMESTAMP}, {0: (0, 0, T + 9)})[0] == (0, 2, T + 9, 5)

    def test_a_log_that_starts_in_the_middle_of_a_batch(self, converse, writer):
        talk = converse()
        talk.records = log = Log(*stored(writer, timed(STAMPS), timed([T + 2, T + 8]), timed([T + 9])), begin=4)
        expected = {T: (4, T + 3), T + 4: (6, T + 8), T + 9: (7, T + 9), T + 10: (-1, -1)}
        for at, found in expected.items():
            epoch = -1 if found[0] < 0 else 5
            assert look_up(talk, {0: at}, {0: (0, 4, T + 9)})[0] == (0, *found, epoch)
        first, second = log.asked[1:3]
        assert (first.offset, second.offset) == (4, 5)
        assert first.max_bytes == 1 < second.max_bytes

    def test_a_log_that_lost_its_beginning_meanwhile(self, converse, writer):
        talk = converse()
        talk.records = Log(*stored(writer, timed(STAMPS), timed([T + 2, T + 8])), begin=4)
        assert look_up(talk, {0: T + 7}, {0: (0, 0, T + 9)})[0] == (0, 6, T + 8, 5)

    def test_batches_that_cannot_hold_it_are_not_opened(self, converse, writer):
        talk = converse()
        first, second, third = stored(writer, timed([T + 9, T]), timed([T + 1]), timed([T + 6]))
        talk.records = Log(first, tampered(second), third, begin=1)
        assert look_up(talk, {0: T + 5}, {0: (0, 1, T + 9)})[0] == (0, 3, T + 6, 5)

    def test_batches_before_the_answer_do_not_count(self, converse, writer):
        talk = converse()
        before, each = stored(writer, timed([T + 9]), timed(STAMPS))
        talk.records = lambda _: ReadRecords(1, 6, memoryview(tampered(before) + each))
        assert look_up(talk, {0: T + 6}, {0: (0, 1, T + 9)})[0] == (0, 3, T + 9, 5)

    def test_times_of_the_broker(self, converse, writer):
        talk = converse()
        (each,) = stored(writer, timed(STAMPS))
        changed = bytearray(each)
        changed[22] |= 0x08
        changed[35:43] = (T + 99).to_bytes(8, "big")
        talk.records = Log(bytes(changed))
        assert look_up(talk, {0: T + 50}, {0: (0, 0, T + 99)})[0] == (0, 0, T + 99, 5)
        assert look_up(talk, {0: MAX_TIMESTAMP}, {0: (0, 0, T + 99)})[0] == (0, 0, T + 99, 5)

    def test_plain_records_from_before(self, converse):
        talk = converse(topics=[{"match": "t", "accept_plain": True}])
        talk.records = Log(at_offset(timed(STAMPS), 0))
        assert look_up(talk, {0: T + 6}, {0: (0, 2, T + 9)})[0] == (0, 2, T + 9, 5)

    def test_several_partitions_each_by_its_own(self, converse, writer):
        talk = converse()
        logs = {index: Log(*stored(writer, timed([T, T + index]), partition=index)) for index in range(12)}
        talk.records = lambda need: logs[need.partition](need)
        answers = look_up(talk, dict.fromkeys(logs, T + 1), {index: (0, 0, T + index) for index in logs})
        assert answers == {0: (0, -1, -1, -1)} | {index: (0, 1, T + index, 5) for index in range(1, 12)}
        rounds = [need for need in talk.needed if isinstance(need, RecordsNeed)]
        assert [need.partition for need in rounds] == list(range(12))

    @pytest.mark.parametrize("level", [0, 1])
    def test_the_isolation_level_is_the_clients(self, converse, writer, level):
        talk = converse()
        talk.records = log = Log(*stored(writer, timed(STAMPS)))
        look_up(talk, {0: T + 6}, {0: (0, 0, T + 9)}, isolation_level=level)
        assert [need.isolation_level for need in log.asked] == [level]

    def test_throttling_of_the_reads_is_told(self, converse, writer):
        talk = converse()
        talk.records, talk.throttle_ms = Log(*stored(writer, timed(STAMPS))), 200
        number = talk.park(LIST_OFFSETS, 7, request({0: T + 6}))
        talk.broker(LIST_OFFSETS, 7, number, answer({0: (0, 0, T + 9)}, throttle_time=50))
        found = read_response(LIST_OFFSETS, 7, talk.to_client[0])
        assert found.throttle_time.total_seconds() == 0.05 + 0.2 * 2  # for the records, and for the key

    def test_version_1_has_no_throttling_to_tell(self, converse, writer):
        talk = converse()
        talk.records, talk.throttle_ms = Log(*stored(writer, timed(STAMPS))), 200
        assert look_up(talk, {0: T + 6}, {0: (0, 0, T + 9)}, version=1)[0] == (0, 2, T + 9, None)


class TestPassing:
    @pytest.mark.parametrize("at", [-1, -2, -4, -5, -6, -100])
    def test_ends_of_the_log(self, converse, at):
        talk = converse()
        assert look_up(talk, {0: at}, {0: (0, 7, -1)})[0] == (0, 7, -1, 3)
        assert talk.needed == []

    def test_plain_topics(self, converse):
        talk = converse(topics=PLAIN)
        assert look_up(talk, {0: T}, {0: (0, 7, T)}, topic="logs")[0] == (0, 7, T, 3)
        assert talk.needed == []

    def test_listeners_for_producers(self, converse):
        talk = converse(direction="produce")
        assert look_up(talk, {0: T}, {0: (0, 7, T)})[0] == (0, 7, T, 3)
        assert talk.needed == []

    @pytest.mark.parametrize("said", [(3, -1, -1), (0, -1, -1), (78, -1, -1), (6, 4, T)])
    def test_errors_and_nothing_found(self, converse, said):
        talk = converse()
        number = talk.client(LIST_OFFSETS, 7, request({0: T}))
        frame = encode_response(LIST_OFFSETS, 7, number, answer({0: said}))
        talk.broker_frame(frame)
        assert (talk.to_client, talk.needed) == ([frame], [])

    def test_partitions_that_nobody_asked_for(self, converse):
        talk = converse()
        answers = look_up(talk, {0: -1}, {0: (0, 9, -1), 1: (0, 4, T)})
        assert (answers, talk.needed) == ({0: (0, 9, -1, 3), 1: (0, 4, T, 3)}, [])

    def test_one_partition_twice_is_looked_up_once(self, converse, writer):
        talk = converse()
        talk.records = log = Log(*stored(writer, timed(STAMPS)))
        number = talk.client(LIST_OFFSETS, 7, request({0: T + 6}))
        values = answer({0: (0, 0, T + 9)})
        values["topics"] *= 2
        talk.broker(LIST_OFFSETS, 7, number, values)
        found = [topic.partitions[0].offset for topic in read_response(LIST_OFFSETS, 7, talk.to_client[0]).topics]
        assert (found, len(log.asked)) == ([2, 0], 1)


class TestHolding:
    def test_later_requests_wait_for_the_answer(self, converse, writer):
        talk = converse()
        talk.records = Log(*stored(writer, timed(STAMPS)))
        before = talk.client(12, 4)
        assert talk.session.takes_requests
        number = talk.client(LIST_OFFSETS, 7, request({0: T + 6}))
        assert not talk.session.takes_requests
        talk.broker(12, 4, before)
        assert not talk.session.takes_requests
        talk.broker_frame(encode_response(LIST_OFFSETS, 7, number, answer({0: (0, 0, T + 9)})))
        assert talk.session.parked_response
        assert not talk.session.takes_requests
        talk.meet()
        assert talk.session.takes_requests
        assert [number_of(frame) for frame in talk.to_client] == [before, number]

    @pytest.mark.parametrize("at", [-1, -2])
    def test_not_for_the_ends_of_the_log(self, converse, at):
        talk = converse()
        talk.client(LIST_OFFSETS, 7, request({0: at}))
        assert talk.session.takes_requests

    def test_not_for_plain_topics(self, converse):
        talk = converse(topics=PLAIN)
        talk.client(LIST_OFFSETS, 7, request({0: T}, topic="logs"))
        assert talk.session.takes_requests
