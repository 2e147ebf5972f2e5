"""A plain topic, written and asked directly, and a sealed one through the proxy: the same batches, the same lookups.

with twin_topics(kafka, proxy.bootstrap, "name") as twins:
    twins.create()
    twins.produce(0, [T + 5, T + 1])
    twins.check({0: T + 3})                                      # fails where the answers differ
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from tests.support.kafka import Cluster
from tests.support.raw_client import RawClient, batch

PARTITIONS = 6
DELETE_RECORDS = 21

Answers = dict[int, tuple[int, int, int, int | None]]


class Twins:
    """A plain topic and a sealed one with the same content, and a connection to each."""

    def __init__(self, kafka: Cluster, topic: str, plain: RawClient, sealed: RawClient) -> None:
        self._kafka = kafka
        self.plain, self.sealed = f"{topic}-plain", f"{topic}-sealed"
        self.sides = ((plain, self.plain), (sealed, self.sealed))
        self.lookups = 0

    def create(self, **config: object) -> None:
        for _, name in self.sides:
            self._kafka.create_topic(
                name, partitions=PARTITIONS, config={k.replace("_", "."): config[k] for k in config}
            )

    def produce(self, partition: int, timestamps: Sequence[int], codec: int = 0) -> None:
        values = [b"a value that shrinks when compressed %d" % number for number in range(len(timestamps))]
        for client, name in self.sides:
            answer = client.produce({name: {partition: batch(values, codec=codec, timestamp_ms=timestamps)}})
            assert answer[name, partition][0] == 0

    def begin_at(self, offsets: Mapping[int, int]) -> None:
        """Delete the records before an offset in each partition."""
        partitions = [{"partition_index": index, "offset": offset} for index, offset in offsets.items()]
        for client, name in self.sides:
            values = {"topics": [{"name": name, "partitions": partitions}], "timeout": 10_000}
            (found,) = client.ask(DELETE_RECORDS, 2, values).topics
            assert {each.partition_index: each.low_watermark for each in found.partitions} == offsets

    def ask(self, timestamps: Mapping[int, int], **options: int) -> tuple[Answers, Answers]:
        """What the plain topic's broker says, and what the proxy says of the sealed one."""
        self.lookups += len(timestamps)
        plain, sealed = (client.list_offsets(name, timestamps, **options) for client, name in self.sides)
        return plain, sealed

    def check(self, timestamps: Mapping[int, int], **options: int) -> Answers:
        plain, sealed = self.ask(timestamps, **options)
        assert sealed == plain, timestamps
        return plain


@contextmanager
def twin_topics(kafka: Cluster, proxy: str, topic: str) -> Iterator[Twins]:
    """Connect to both sides."""
    with RawClient(kafka.bootstrap) as plain, RawClient(proxy) as sealed:
        yield Twins(kafka, topic, plain, sealed)
