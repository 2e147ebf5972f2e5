"""Codecs: both ways, other writers' framings, and the bounds."""

import contextlib
import json
import subprocess
import sys

import cramjam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kveil.protocol.kafka import compression
from kveil.protocol.kafka.compression import GZIP, LZ4, NONE, SNAPPY, ZSTD, compress, decompress, decompress_head
from kveil.protocol.kafka.errors import CorruptBatch, DecompressedTooLarge
from tests.vectors import reference

CODECS = [NONE, GZIP, SNAPPY, LZ4, ZSTD]
COMPRESSING = [GZIP, SNAPPY, LZ4, ZSTD]
MIB = 1 << 20


def test_numbers_are_kafkas():
    assert CODECS == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("codec", CODECS)
@settings(max_examples=30)
@given(data=st.binary(max_size=5000), times=st.integers(1, 50))
def test_both_ways(codec, data, times):
    data *= times
    packed = compress(codec, data)
    assert decompress(codec, packed, len(data)) == data
    assert decompress(codec, memoryview(bytearray(packed)), 10 * MIB) == data
    assert decompress_head(codec, packed, len(data) // 2) == data[: len(data) // 2]
    assert decompress_head(codec, packed, len(data) + 99) == data


@pytest.mark.parametrize("codec", CODECS)
def test_the_limit_is_exact(codec):
    data = b"ab" * 50_000
    packed = compress(codec, data)
    assert decompress(codec, packed, 100_000) == data
    with pytest.raises(DecompressedTooLarge):
        decompress(codec, packed, 99_999)


def test_a_head_above_its_limit_is_refused():
    with pytest.raises(DecompressedTooLarge):
        decompress_head(ZSTD, compress(ZSTD, b"abc"), 11, 10)


CHILD = """
import json, re, sys
from kveil.protocol.kafka.compression import decompress, decompress_head
from kveil.protocol.kafka.errors import CorruptBatch

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])

bombs = [(int(codec), bytes.fromhex(data)) for codec, data in json.load(sys.stdin).items()]
before = peak()
for codec, bomb in bombs:
    try:
        decompress(codec, bomb, 1 << 20)
    except CorruptBatch:
        pass
    else:
        sys.exit("a bomb was decompressed")
    assert len(decompress_head(codec, bomb, 1000, 1 << 20)) == 1000
print(peak() - before)
"""


def test_bombs_take_no_more_memory_than_the_limit():
    """In a process of its own: the codecs' memory is not Python's, so only the kernel's figure counts."""
    bombs = {codec: compress(codec, bytes(64 * MIB)).hex() for codec in COMPRESSING}
    ran = subprocess.run(
        [sys.executable, "-c", CHILD], input=json.dumps(bombs), capture_output=True, text=True, timeout=60, check=True
    )
    assert int(ran.stdout) < 8 * 1024  # KiB: a megabyte of output, and what the codecs themselves need


def test_a_snappy_block_that_lies_about_its_length_takes_no_memory():
    lie = b"\x80\x80\x80\x20" + b"\x00a"  # claims 64 MiB
    with pytest.raises(CorruptBatch, match="more than it can be"):
        decompress_head(SNAPPY, lie, 10)


@pytest.mark.parametrize("codec", [GZIP, LZ4, ZSTD])
def test_concatenated_frames_are_one_stream(codec):
    parts = [b"first" * 100, b"", b"second" * 3000, b"third"]
    packed = b"".join(compress(codec, part) for part in parts)
    assert decompress(codec, packed, MIB) == b"".join(parts)


def test_zstd_of_raw_and_compressed_frames():
    packed = reference.zstd_raw(b"raw" * 1000, 100) + compress(ZSTD, b"z" * 1000)
    assert decompress(ZSTD, packed, MIB) == b"raw" * 1000 + b"z" * 1000


def test_linked_lz4_blocks():
    data = bytes(range(256)) * 2000
    linked = cramjam.lz4.Compressor(block_linked=True)
    linked.compress(data)
    assert decompress(LZ4, bytes(linked.finish()), MIB) == data


@pytest.mark.parametrize("framed", [reference.snappy_raw, reference.snappy_framed])
def test_both_snappy_framings(framed):
    data = bytes(range(256)) * 40
    assert decompress(SNAPPY, framed(data)[1], MIB) == data


def test_the_head_reads_no_further():
    for codec in (LZ4, ZSTD, GZIP):
        packed = compress(codec, bytes(3 * MIB))
        assert decompress_head(codec, packed[:-4] + b"!!!!", 1000) == bytes(1000)
    framed = compress(SNAPPY, bytes(100_000))
    assert decompress_head(SNAPPY, framed[:-8] + b"noisenoi", 1000) == bytes(1000)


@pytest.mark.parametrize("codec", COMPRESSING)
def test_what_does_not_decode_is_corrupt(codec):
    packed = compress(codec, bytes(range(256)) * 8)
    for bad in (packed[:-1], packed[:20], b"\xff" * 40):
        with pytest.raises(CorruptBatch) as caught:
            decompress(codec, bad, MIB)
        assert not isinstance(caught.value, DecompressedTooLarge)


@pytest.mark.parametrize("codec", [5, 6, 7, -1])
def test_unknown_codecs(codec):
    with pytest.raises(CorruptBatch):
        decompress(codec, b"abc", 10)
    with pytest.raises(ValueError, match="codec"):
        compress(codec, b"abc")


@pytest.mark.parametrize("codec", COMPRESSING)
@settings(max_examples=100)
@given(st.binary(max_size=300))
def test_noise_raises_nothing_else(codec, data):
    with contextlib.suppress(CorruptBatch):
        assert len(decompress(codec, data, 1000)) <= 1000


def test_the_full_buffer_text_is_still_cramjams():
    """`compression` tells "no room" from "corrupt" by this text; another one would refuse honest batches."""
    for module in (cramjam.gzip, cramjam.lz4, cramjam.zstd):
        with pytest.raises(cramjam.DecompressionError, match=f"^{compression._FULL}$"):
            module.decompress_into(bytes(module.compress(bytes(1000))), bytearray(10))
