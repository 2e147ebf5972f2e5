"""Stubs, their frames, and raw zstd frames."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kveil.protocol.envelope import stubs
from kveil.protocol.envelope.stubs import plain_stubs, raw_frame, raw_frame_blocks, stub_frames
from kveil.protocol.kafka.compression import ZSTD, decompress
from kveil.protocol.kafka.record_batch import MAX_RECORDS
from tests.vectors import reference

COUNTS = [
    1,
    2,
    16,
    17,
    63,
    64,
    65,
    66,
    127,
    128,
    129,
    130,
    255,
    256,
    257,
    1000,
    1023,
    1024,
    1025,
    1152,
    1153,
    2047,
    2048,
    8191,
    8192,
    8193,
    8194,
    10_000,
]


@pytest.fixture(params=["fresh", "grown"])
def _table(request, monkeypatch):
    if request.param == "fresh":
        monkeypatch.setattr(stubs, "_table", stubs._Table())
        stubs._frame.cache_clear()


def unpacked(frames):
    return decompress(ZSTD, b"".join(frames), 1 << 20) if frames else b""


@pytest.mark.usefixtures("_table")
@pytest.mark.parametrize("count", COUNTS)
def test_stubs_are_the_reference_records(count):
    expected = reference.stubs(count)
    assert plain_stubs(count) == expected
    assert unpacked(stub_frames(count)) == expected


def test_the_counts_in_any_order(monkeypatch):
    monkeypatch.setattr(stubs, "_table", stubs._Table())
    taken = {count: (plain_stubs(count), stub_frames(count)) for count in (300, 5, 8000, 700, 1)}
    for count, (plain, frames) in taken.items():  # slices of a table that has grown since stay what they were
        assert plain == reference.stubs(count)
        assert unpacked(frames) == reference.stubs(count)


def test_what_they_cost():
    """The figures of the design: stubs of a full librdkafka batch must not push it over a broker's limit."""
    assert len(plain_stubs(10_000)) == 81_737
    assert sum(len(frame) for frame in stub_frames(10_000)) < 9_600
    assert sum(len(frame) for frame in stub_frames(160)) < 270


@pytest.mark.parametrize("count", [0, -1, MAX_RECORDS + 1])
def test_counts_out_of_range(count):
    with pytest.raises(ValueError, match="records"):
        plain_stubs(count)
    with pytest.raises(ValueError, match="records"):
        stub_frames(count)


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 400_000), st.binary(min_size=1, max_size=1))
def test_a_raw_frame_holds_its_content_both_ways(head, size, tail):
    content = head + bytes(size) + tail
    start, pieces = raw_frame(head, memoryview(bytes(size)), tail)
    frame = start + b"".join(pieces)
    assert decompress(ZSTD, frame, len(content)) == content
    assert frame == reference.zstd_raw(content)
    blocks = raw_frame_blocks(memoryview(b"xx" + frame + b"behind"), 2)
    assert b"".join((b"xx" + frame)[begin:end] for begin, end in blocks) == content


@pytest.mark.parametrize(
    "header", [b"\x00\x38", b"\x20\x03", b"\x60\x03\x00", b"\x80\x38" + bytes(4), b"\xe0" + bytes(8)]
)
def test_any_header_without_a_dictionary(header):
    frame = reference.zstd_raw(b"abc", header=header)
    assert raw_frame_blocks(memoryview(frame), 0) == [(len(frame) - 3, len(frame))]


def test_every_cut_and_every_other_frame_takes_the_other_way():
    frame = reference.zstd_raw(bytes(300), 100)
    for end in range(len(frame)):
        assert raw_frame_blocks(memoryview(frame[:end]), 0) is None
    compressed = b"".join(stub_frames(128))
    assert raw_frame_blocks(memoryview(compressed), 0) is None
    for at, bit in ((0, 1), (4, 1), (4, 8), (6, 2), (6, 4), (8, 0x80)):
        bad = bytearray(frame)
        bad[at] ^= bit
        assert raw_frame_blocks(memoryview(bad), 0) is None
