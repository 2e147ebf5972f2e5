"""What sealing and opening one batch cost here: `python -m tests.protocol.envelope.bench`. Best of seven, in us."""

import os
import timeit

from kveil.protocol.envelope.batch import StubCodec, peek, seal, unseal
from kveil.protocol.envelope.header import KeyBlock
from kveil.protocol.envelope.key_schedule import EpochKey
from kveil.protocol.kafka.record_batch import check_produced, read_header
from tests.vectors.reference import Batch, Sealer, record

SIZES = ((1, 100), (15, 1060), (950, 1020), (10_000, 85))


def epoch_key():
    made = Sealer()
    block = KeyBlock(provider=1, name="main", mechanism=1, version="1", wrapped=made.made_wrap())
    return EpochKey(secret=made.secret, realm="demo", topic="orders", kid=made.made_kid(), block=block)


def best(work, times):
    return min(timeit.repeat(work, number=times, repeat=7)) / times * 1e6


def measure(key, count, size):
    """Bytes of the client's batch, then microseconds of each step."""
    client = Batch(b"".join(record(i, None, os.urandom(size)) for i in range(count)), count).encode()
    times = 3000 if len(client) < 100_000 else 100
    view = memoryview(bytearray(client))
    header = check_produced(view)
    stored = b"".join(seal(view, header, key=key, partition=3))
    fetched = memoryview(bytearray(stored))
    produced = memoryview(client)
    yield len(client)
    yield best(lambda: check_produced(produced), times)
    yield best(lambda: seal(view, header, key=key, partition=3), times)
    yield best(lambda: seal(view, header, key=key, partition=3, stub_codec=StubCodec.NONE), times)
    yield best(lambda: peek(fetched, read_header(fetched)), times)
    # A large batch is closed up in place, so each opening needs the bytes as fetched; copying them is not counted.
    fresh = [peek(copy, read_header(copy)) for copy in (memoryview(bytearray(stored)) for _ in range(30))]
    yield min(timeit.timeit(lambda one=one: unseal(one, key=key, partition=3), number=1) * 1e6 for one in fresh)


def main():
    print("records    bytes    check     seal  no zstd     peek   unseal")
    for count, size in SIZES:
        print(f"{count:7}", *(f"{figure:8.0f}" for figure in measure(epoch_key(), count, size)))


if __name__ == "__main__":
    main()
