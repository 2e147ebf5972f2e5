"""Frames out of a stream, however the network cuts it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kveil.protocol.kafka.errors import FrameError
from kveil.protocol.kafka.framing import INITIAL_CAPACITY, FrameBuffer, KeptBuffers, write_frame

LIMIT = 1024 * 1024


def feed(buffer, data, most=None):
    """Receive `data` in reads of at most `most` bytes, and return the frames that came out meanwhile."""
    frames = []
    position = 0
    while position < len(data):
        space = buffer.free_space()
        assert len(space) > 0, "a socket can't be read into nothing"
        count = min(len(space), len(data) - position, most or len(data))
        space[:count] = data[position : position + count]
        buffer.received(count)
        position += count
        frames += drain(buffer)
    return frames


def drain(buffer):
    frames = []
    while (frame := buffer.next_frame()) is not None:
        frames.append(bytes(frame))
    return frames


def stream_of(frames):
    return b"".join(piece for frame in frames for piece in write_frame([frame]))


def capacity(buffer):
    return len(buffer._data)


FRAMES = [b"first", b"", b"x" * 300, b"last"]


class TestCutting:
    def test_at_every_byte(self):
        stream = stream_of(FRAMES)
        for cut in range(len(stream) + 1):
            buffer = FrameBuffer(LIMIT, KeptBuffers())
            assert feed(buffer, stream[:cut]) + feed(buffer, stream[cut:]) == FRAMES

    @pytest.mark.parametrize("most", [1, 2, 3, 5, 7, 1000])
    def test_into_small_reads(self, most):
        assert feed(FrameBuffer(LIMIT, KeptBuffers()), stream_of(FRAMES), most) == FRAMES

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.integers(0, 3 * INITIAL_CAPACITY) | st.integers(0, 50), max_size=12),
        st.lists(st.integers(1, 3 * INITIAL_CAPACITY) | st.integers(1, 20), min_size=1, max_size=20),
    )
    def test_by_chance(self, sizes, reads):
        frames = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
        stream = stream_of(frames)
        buffer, found, position, turn = FrameBuffer(LIMIT, KeptBuffers()), [], 0, 0
        while position < len(stream):
            count = max(reads[turn % len(reads)], len(stream) // 500)
            found += feed(buffer, stream[position : position + count])
            position += count
            turn += 1
        assert found == frames
        assert buffer.next_frame() is None

    def test_frames_wait_while_nobody_takes_them(self):
        """As when a request is parked: the rest of what was read stays, and comes out in its turn."""
        frames = [b"a" * 1000, b"b" * 1000, b"c" * 1000]
        buffer = FrameBuffer(LIMIT, KeptBuffers())
        stream = stream_of(frames)
        buffer.free_space()[: len(stream)] = stream
        buffer.received(len(stream))
        assert bytes(buffer.next_frame()) == frames[0]
        more = stream_of([b"d" * 10])
        buffer.free_space()[: len(more)] = more
        buffer.received(len(more))
        assert drain(buffer) == [*frames[1:], b"d" * 10]

    def test_a_frame_holds_until_more_is_received(self):
        buffer = FrameBuffer(LIMIT, KeptBuffers())
        stream = stream_of([b"one", b"two"])
        buffer.free_space()[: len(stream)] = stream
        buffer.received(len(stream))
        one = buffer.next_frame()
        two = buffer.next_frame()
        assert (bytes(one), bytes(two)) == (b"one", b"two")


class TestMemory:
    def test_a_small_frame_costs_a_small_buffer(self):
        buffer = FrameBuffer(LIMIT, KeptBuffers())
        feed(buffer, stream_of([b"x" * 100] * 5000) + b"\0\0\0")
        assert capacity(buffer) == INITIAL_CAPACITY

    def test_nothing_received_costs_nothing(self):
        buffer = FrameBuffer(LIMIT, KeptBuffers())
        assert capacity(buffer) == 0
        assert feed(buffer, stream_of([b"x" * 100])) == [b"x" * 100]
        assert capacity(buffer) == 0

    def test_an_announcement_costs_nothing(self):
        buffer = FrameBuffer(100 * LIMIT, KeptBuffers())
        feed(buffer, (90 * LIMIT).to_bytes(4, "big"))
        assert capacity(buffer) == INITIAL_CAPACITY
        feed(buffer, bytes(100_000))
        assert capacity(buffer) <= 4 * 100_000

    def test_an_announcement_behind_another_frame_costs_nothing_either(self):
        buffer = FrameBuffer(100 * LIMIT, KeptBuffers())
        feed(buffer, stream_of([b"x" * 100]) + (90 * LIMIT).to_bytes(4, "big"))
        assert len(buffer.free_space()) > 0
        assert capacity(buffer) == INITIAL_CAPACITY

    def test_a_buffer_that_grew_for_one_large_frame_is_given_back(self):
        buffer = FrameBuffer(100 * LIMIT, KeptBuffers())
        large = bytes(12 * LIMIT)
        stream = stream_of([large])
        assert feed(buffer, stream[:-1], 300_000) == []
        assert len(large) < capacity(buffer) < len(large) + 100_000
        assert feed(buffer, stream[-1:]) == [large]
        assert capacity(buffer) == 0

    @pytest.mark.parametrize("most", [1448, 65536, None])
    def test_a_frame_as_large_as_the_limit(self, most):
        buffer = FrameBuffer(LIMIT, KeptBuffers())
        frame = bytes(range(256)) * (LIMIT // 256)
        for _ in range(3):
            assert feed(buffer, stream_of([frame]), most) == [frame]
        assert capacity(buffer) < LIMIT + 100_000

    def test_a_taken_frame_makes_room(self):
        buffer = FrameBuffer(LIMIT, KeptBuffers())
        frame = b"x" * (INITIAL_CAPACITY - 100)
        assert feed(buffer, stream_of([frame] * 50), 1000) == [frame] * 50
        assert capacity(buffer) <= 2 * INITIAL_CAPACITY


class TestKeptBuffers:
    """Connections share what empty buffers may hold."""

    LARGE = bytes(LIMIT // 2)

    def buffers(self, count, kept):
        return [FrameBuffer(LIMIT, kept) for _ in range(count)]

    def test_a_busy_connection_keeps_its_buffer(self):
        (buffer,) = self.buffers(1, KeptBuffers())
        feed(buffer, stream_of([self.LARGE]), 10_000)
        grown = capacity(buffer)
        assert grown > len(self.LARGE)
        for _ in range(3):
            feed(buffer, stream_of([self.LARGE]), 10_000)
            assert capacity(buffer) == grown

    def test_all_together_are_bounded(self):
        kept = KeptBuffers(4 * LIMIT)
        buffers = self.buffers(50, kept)
        for buffer in buffers:
            assert feed(buffer, stream_of([self.LARGE]), 10_000) == [self.LARGE]
            assert sum(map(capacity, buffers)) <= 4 * LIMIT
        assert all(capacity(buffer) for buffer in buffers[-6:])

    def test_the_one_used_longest_ago_goes_first(self):
        buffers = self.buffers(4, KeptBuffers(2 * LIMIT))
        for number in (0, 1, 2, 0, 3):
            feed(buffers[number], stream_of([self.LARGE]), 10_000)
        assert [capacity(buffer) > 0 for buffer in buffers] == [True, False, True, True]

    def test_one_in_use_is_left_alone(self):
        first, *others = self.buffers(9, KeptBuffers(LIMIT))
        stream = stream_of([self.LARGE])
        feed(first, stream + stream[:-1], 10_000)
        for other in others:
            feed(other, stream, 10_000)
        assert feed(first, stream[-1:]) == [self.LARGE]

    def test_a_frame_outlives_its_buffer(self):
        first, second = self.buffers(2, KeptBuffers(LIMIT))
        large = b"x" * len(self.LARGE)
        feed(first, stream_of([large])[:-1], 10_000)
        first.free_space()[:1] = b"x"
        first.received(1)
        frame = first.next_frame()
        feed(second, stream_of([self.LARGE]), 10_000)
        assert capacity(first) == 0, "there was room for one"
        assert frame == large

    def test_one_that_is_gone_no_longer_counts(self):
        kept = KeptBuffers(2 * LIMIT)
        first, second, third = self.buffers(3, kept)
        for buffer in (first, second):
            feed(buffer, stream_of([self.LARGE]), 10_000)
        second.give_back()
        feed(third, stream_of([self.LARGE]), 10_000)
        assert [capacity(buffer) > 0 for buffer in (first, second, third)] == [True, False, True]

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4 * INITIAL_CAPACITY)), max_size=25),
        st.integers(0, 8 * INITIAL_CAPACITY),
        st.integers(1000, 50_000),
    )
    def test_by_chance(self, sent, most_bytes, most):
        """Frames on four connections in turn, each cut where the next one's turn comes."""
        buffers = self.buffers(4, KeptBuffers(most_bytes))
        expected, found, rests = [[] for _ in buffers], [[] for _ in buffers], [b""] * 4
        for number, (place, size) in enumerate(sent):
            frame = bytes([number + 1]) * size
            expected[place].append(frame)
            stream = rests[place] + stream_of([frame])
            cut = len(stream) - number % 5 * (len(stream) // 8)
            found[place] += feed(buffers[place], stream[:cut], most)
            rests[place] = stream[cut:]
        for place, buffer in enumerate(buffers):
            found[place] += feed(buffer, rests[place], most)
        assert found == expected


class TestLimits:
    def test_the_largest_frame_that_is_allowed(self):
        assert feed(FrameBuffer(10, KeptBuffers()), stream_of([b"x" * 10])) == [b"x" * 10]

    def test_one_byte_more(self):
        with pytest.raises(FrameError, match=r"11 bytes is over the limit of 10 \(limits.frame_bytes;"):
            feed(FrameBuffer(10, KeptBuffers()), stream_of([b"x" * 11]))

    def test_it_is_refused_before_it_is_received(self):
        with pytest.raises(FrameError, match="limit"):
            feed(FrameBuffer(10, KeptBuffers()), b"\0\0\0\x0b")

    @pytest.mark.parametrize("size", [-1, -(2**31)])
    def test_negative(self, size):
        with pytest.raises(FrameError, match="not Kafka's protocol"):
            feed(FrameBuffer(LIMIT, KeptBuffers()), size.to_bytes(4, "big", signed=True))

    def test_good_frames_before_a_bad_one_come_out(self):
        buffer = FrameBuffer(10, KeptBuffers())
        stream = stream_of([b"good"]) + b"\xff\xff\xff\xff"
        buffer.free_space()[: len(stream)] = stream
        buffer.received(len(stream))
        assert bytes(buffer.next_frame()) == b"good"
        with pytest.raises(FrameError):
            buffer.next_frame()

    @pytest.mark.parametrize(
        ("start", "hint"),
        [
            (b"\x16\x03\x01\x02\x00\x01", "looks like TLS.*SASL_PLAINTEXT"),
            (b"GET / HTTP/1.1", "HTTP"),
            (b"POST / HTTP/1.1", "HTTP"),
        ],
    )
    def test_other_protocols_are_named(self, start, hint):
        with pytest.raises(FrameError, match=hint):
            feed(FrameBuffer(100 * LIMIT, KeptBuffers()), start)


def test_write_frame():
    pieces = write_frame([b"ab", memoryview(b"cde"), bytearray(b"")])
    assert b"".join(pieces) == b"\0\0\0\x05abcde"
    assert write_frame([]) == [b"\0\0\0\0"]
