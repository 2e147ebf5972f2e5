"""Kafka Streams, exactly once: killed in the middle, restored from its changelogs, with the result of the plain run."""

import random
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import java
from tests.support.clients import Record, librdkafka_produce, librdkafka_read
from tests.support.jvm import KAFKA_VERSION, further_jars
from tests.support.kafka import Cluster
from tests.support.processes import Child
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

SECONDS = 60.0
T = 1_700_000_000_000
MINUTE = 60_000
PARTITIONS = 2
SOURCE = Path(__file__).parent / "java" / "WordCounts.java"

_chance = random.Random(4)
WORDS = [f"veiled-word-{number}" for number in range(100)]
LINES = [" ".join(_chance.choices(WORDS, k=5)) for _ in range(900)]
# 100 ms from line to line, a few of them out of order.
RECORDS = [
    Record(value=line.encode(), partition=n % PARTITIONS, timestamp=T + 100 * (n - _chance.randrange(50)))
    for n, line in enumerate(LINES)
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What an application has counted: in its stores, and in its output topic."""

    total: dict[str, int]
    by_minute: dict[str, int]
    output: dict[str, int]


@pytest.fixture(scope="module")
def jars(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The class path of the application, compiled."""
    streams = further_jars(f"org.apache.kafka:kafka-streams:{KAFKA_VERSION}")
    return [java.compile_java(tmp_path_factory.mktemp("word-counts"), SOURCE, jars=streams), *streams]


class Application:
    """Word counts of one topic, kept in a folder."""

    def __init__(self, bootstrap: str, name: str, folder: Path, jars: list[str], protocol: str) -> None:
        self.bootstrap, self.name, self.folder, self.protocol = bootstrap, name, folder, protocol
        self.input, self.output = f"{name}-lines", f"{name}-counts"
        self._jars = jars

    @contextmanager
    def running(self) -> Iterator[Child]:
        """Run it, from the moment that it works."""
        settings = {
            "bootstrap.servers": self.bootstrap,
            "application.id": self.name,
            "state.dir": str(self.folder),
            "processing.guarantee": "exactly_once_v2",
            "commit.interval.ms": "100",
            "num.stream.threads": "2",
            "auto.offset.reset": "earliest",
            "producer.transaction.timeout.ms": "3000",
            "group.protocol": self.protocol,
        }
        if self.protocol == "classic":  # with the other one the broker decides
            settings |= {"main.consumer.session.timeout.ms": "3000", "main.consumer.heartbeat.interval.ms": "500"}
        with java.properties_file(settings) as path:
            tool = java.start_java_tool("WordCounts", path, self.input, self.output, extra_jars=self._jars)
            with tool as child:
                child.lines.wait_for("running", SECONDS)
                yield child

    def produce(self, records: list[Record]) -> None:
        """Give it lines to count."""
        librdkafka_produce(self.bootstrap, self.input, records)

    def counts(self) -> dict[str, int]:
        """Its output up to now, without what was not committed."""
        read = librdkafka_read(self.bootstrap, self.output, isolation_level="read_committed")
        return {(record.key or b"").decode(): int(record.value or b"0") for record in read}

    def wait_until_counted(self, words: int) -> None:
        """Wait until it has committed that many words."""
        wait_until(lambda: sum(self.counts().values()) >= words, SECONDS)

    def result(self, child: Child) -> Result:
        """What its stores and its output say."""
        child.write_line("tables")
        tables: dict[str, dict[str, int]] = {"total": {}, "by-minute": {}}
        for line in child.lines.read_until("end", SECONDS):
            table, *row = line.split()
            if table in tables:
                tables[table][row[0]] = int(row[1])
        return Result(total=tables["total"], by_minute=tables["by-minute"], output=self.counts())


def run_with_a_crash(kafka: Cluster, application: Application) -> Result:
    """Count all lines, with a crash at a third of them, and the loss of all that was kept on the disk."""
    for topic in (application.input, application.output):
        kafka.create_topic(topic, PARTITIONS)
    third = len(RECORDS) // 3
    application.produce(RECORDS[:third])
    with application.running() as child:
        application.wait_until_counted(5 * third)
        application.produce(RECORDS[third : 2 * third])
        application.wait_until_counted(5 * third + 1)
        child.kill()
    shutil.rmtree(application.folder)
    application.produce(RECORDS[2 * third :])
    with application.running() as child:
        application.wait_until_counted(5 * len(RECORDS))
        restored = [line.split() for line in child.lines.so_far() if line.startswith("restored")]
        assert {store for _, store, _ in restored} == {"total", "by-minute"}
        assert sum(int(count) for _, _, count in restored) > 0, "nothing came from the changelogs"
        return application.result(child)


def counted_here() -> Result:
    """The same without Kafka."""
    total = Counter(word for line in LINES for word in line.split())
    stamps = [(record.timestamp or 0) // MINUTE * MINUTE for record in RECORDS]
    pairs = zip(LINES, stamps, strict=True)
    by_minute = Counter(f"{word}@{start}" for line, start in pairs for word in line.split())
    return Result(total=dict(total), by_minute=dict(by_minute), output=dict(total))


@pytest.fixture(scope="module")
def plain_result(kafka: Cluster, jars: list[str], tmp_path_factory: pytest.TempPathFactory) -> Result:
    """What comes out without a proxy."""
    folder = tmp_path_factory.mktemp("plain")
    return run_with_a_crash(kafka, Application(kafka.bootstrap, "streams-plain", folder, jars, "classic"))


def test_the_plain_run_counts_every_word_once(plain_result: Result):
    assert plain_result == counted_here()


CASES = [("auto", "classic"), ("auto", "streams"), pytest.param("record", "classic", marks=pytest.mark.full)]


@pytest.mark.parametrize(("proxy", "protocol"), CASES, indirect=["proxy"])
def test_the_result_is_that_of_the_plain_run(
    kafka: Cluster, proxy: Proxy, plain_result: Result, jars: list[str], tmp_path: Path, topic: str, protocol: str
):
    application = Application(proxy.bootstrap, topic, tmp_path / "state", jars, protocol)
    assert run_with_a_crash(kafka, application) == plain_result
    internal = [f"{topic}-{part}" for part in ("words-repartition", "total-changelog", "by-minute-changelog")]
    for each in (application.input, application.output, *internal):
        stored = kafka.stored_bytes(each)
        assert stored, f"{each} is empty"
        assert b"veiled-word" not in stored, f"plain words in {each}"
