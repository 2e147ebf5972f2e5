"""Old versions of Produce and Fetch that Kafka 4 still speaks: each answer is the broker's own, to the byte."""

import pytest

from tests.support.kafka import Cluster
from tests.support.proxy import Proxy
from tests.support.raw_client import RawClient, batch

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
PRODUCE_VERSIONS = range(3, 10)
FETCH_VERSIONS = range(4, 13)
ZSTD_PRODUCE_VERSION = 7
UNSUPPORTED_COMPRESSION_TYPE = 76
T = 1_700_000_000_000


def batches(codec: int) -> list[bytes]:
    """One record, a few, and so many that the broker gets them compressed whatever the client did."""
    return [
        batch([b"value %d " % index * 9 for index in range(count)], codec=codec, timestamp_ms=T)
        for count in (1, 3, 40, 2000)
    ]


@pytest.mark.parametrize("topic_codec", ["producer", pytest.param("zstd", marks=pytest.mark.kafka4), "gzip"])
@pytest.mark.parametrize("codec", CODECS)
def test_every_version_with_every_codec(kafka: Cluster, proxy: Proxy, topic: str, codec: str, topic_codec: str):
    """Before version 7 of Produce there is no zstd, and Kafka 4 hands it out in every version of Fetch.

    Where the topic has a codec of its own the broker packs what it gets in plain, and the records count.
    """
    sent = batches(CODECS[codec])  # made once: gzip notes the time
    answers, read = [], []
    for name, bootstrap in ((f"{topic}-direct", kafka.bootstrap), (f"{topic}-sealed", proxy.bootstrap)):
        kafka.create_topic(name, config={"compression.type": topic_codec})
        with RawClient(bootstrap) as client:
            answers.append(
                [
                    client.produce({name: {0: each}}, version=version)[name, 0]
                    for version in PRODUCE_VERSIONS
                    for each in sent
                ]
            )
            found = [client.fetch(name, version=version) for version in FETCH_VERSIONS]
            read.append(found if topic_codec == "producer" else [(each.error, each.values) for each in found])
    direct, through = answers
    refused = 4 * (ZSTD_PRODUCE_VERSION - PRODUCE_VERSIONS.start) if codec == "zstd" else 0
    assert [code for code, _ in direct].count(UNSUPPORTED_COMPRESSION_TYPE) == refused
    assert through == direct
    assert read[1] == read[0]
    assert read[0].count(read[0][0]) == len(FETCH_VERSIONS)
