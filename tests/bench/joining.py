"""How long somebody who joins waits: to the first record sealed as a new producer, and opened under many keys."""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from kveil.protocol.envelope.batch import seal
from kveil.protocol.envelope.crypto import SigningKey
from kveil.protocol.envelope.lane import Lane
from kveil.protocol.identity import CONTROL_TOPIC
from kveil.protocol.identity.signing import Signed
from kveil.protocol.kafka.record_batch import check_produced
from tests.bench.cases import Case
from tests.bench.cluster import PARTITIONS, BenchCluster
from tests.bench.identities import ALL_TOPICS, new_realm, proxy_of
from tests.bench.micro import keyed_batch
from tests.bench.results import Results
from tests.bench.rounds import topic_for
from tests.bench.ways import KVEIL, LOG
from tests.support.members import Members
from tests.support.processes import Child
from tests.support.proxy import KVEIL as COMMAND
from tests.support.proxy import kveil, kveil_proxy
from tests.support.raw_client import RawClient
from tests.support.realm import DAY, Node, announcement_of, consumes, produces

SECONDS = 60.0
RECORD_BYTES = 100


class _Authority:
    """One that runs, with its directory and configuration in `folder`."""

    def __init__(self, folder: Path, bench: BenchCluster) -> None:
        self._folder = folder
        self.config = folder / "kveil.yaml"
        self.config.write_text(yaml.safe_dump({"upstream": {"bootstrap": [bench.direct]}, "log": LOG}))
        self.directory = ("--authority", str(folder / "authority"))
        run_command("authority", "init", "--realm", "bench", *self.directory)

    @contextmanager
    def running(self) -> Iterator[None]:
        """It answers who comes with a ticket."""
        with Child([*COMMAND, "authority", "run", *self.directory, "-c", str(self.config)]) as child:
            child.errors.wait_for('"authority_running"', SECONDS)
            yield

    def enrolment(self, name: str, role: str) -> Callable[[], Path]:
        """A call that enrols a node with a ticket that was made before, and returns its directory."""
        ticket = self._folder / f"{name}.ticket"
        made = ("ticket", "--role", role, "--topics", ALL_TOPICS, "--name", name)
        ticket.write_text(run_command("authority", *made, *self.directory))
        node = self._folder / name

        def enroll() -> Path:
            run_command("enroll", str(ticket), "--identity", str(node), "-c", str(self.config))
            return node

        return enroll


def run_command(*arguments: str) -> str:
    """What a command printed. Raises RuntimeError if it failed."""
    done = kveil(*arguments)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


def enrol_round(case: Case, bench: BenchCluster, results: Results) -> None:
    """Enrol a producer once, start its proxy, and have a record acknowledged."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="kveil-enrol-")))
        bench.cluster.create_topic(CONTROL_TOPIC, config={"cleanup.policy": "compact"})
        stack.callback(bench.cluster.delete_topic, CONTROL_TOPIC)
        topic = stack.enter_context(topic_for(case, KVEIL, bench))
        authority = _Authority(folder, bench)
        stack.enter_context(authority.running())
        authority.enrolment("reader", "consumer")()
        enroll = authority.enrolment("writer", "producer")
        config = {"log": LOG, "keys": {"provider": "identities"}, "identity": {"path": str(folder / "writer")}}
        none = folder / "none.json"
        proxy = stack.enter_context(kveil_proxy(bench.direct, keys=none, start=False, config=config))
        began = time.perf_counter()
        enroll()
        enrolled = time.perf_counter()
        proxy.start()
        acknowledge_one(proxy.bootstrap, topic)
        results.add(case.name, "enroll", "s", KVEIL, enrolled - began)
        results.add(case.name, "enroll to first sealed record", "s", KVEIL, time.perf_counter() - began)


def acknowledge_one(bootstrap: str, topic: str) -> None:
    """Produce a record. Raises RuntimeError if it was refused."""
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "linger.ms": 0, "log_level": 0})
    failures: list[str] = []
    producer.produce(topic, b"first", on_delivery=lambda error, _: failures.append(str(error)) if error else None)
    if producer.flush(SECONDS) or failures:
        raise RuntimeError(f"the first record was lost: {failures}")


def many_keys_round(case: Case, bench: BenchCluster, results: Results) -> None:
    """Start a reader once, of a topic with as many keys as the case has, each of them of one batch."""
    with new_realm(bench) as members, topic_for(case, KVEIL, bench) as topic:
        writer = members.join("writer", produces(ALL_TOPICS), checkpoint=False)
        reader = members.join("reader", consumes(ALL_TOPICS))
        write_under_many(members, writer, reader, bench, topic, case.count)
        with proxy_of(bench, members, reader, start=False) as proxy:
            began = time.perf_counter()
            proxy.start()
            listening = time.perf_counter()
            first, last = read_all(proxy.bootstrap, topic, case.count)
    results.add(case.name, "start to listening", "s", KVEIL, listening - began)
    results.add(case.name, "start to first record", "s", KVEIL, first - began)
    results.add(case.name, "start to all records", "s", KVEIL, last - began)


def write_under_many(members: Members, writer: Node, reader: Node, bench: BenchCluster, topic: str, count: int) -> None:
    """What a producer that was restarted so often leaves on both topics."""
    with RawClient(bench.direct) as client:
        client.leaders(topic, PARTITIONS)
        announced: list[Signed] = []
        for number in range(count):
            record, batch = _one_epoch(members, writer, reader, topic, number)
            announced.append(record)
            client.produce({topic: {number % PARTITIONS: batch}})
    members.publish(*announced)


def _one_epoch(members: Members, writer: Node, reader: Node, topic: str, number: int) -> tuple[Signed, bytes]:
    signing_key, secret = SigningKey(os.urandom(32)), os.urandom(32)
    times = {"created": members.now, "not_after": members.now + DAY}
    public = signing_key.verify_key.public
    record = members.realm.announce(writer, secret, reader, topic=topic, batch_key=public, **times)
    key = announcement_of(record).epoch_key(secret, signing_key=signing_key)
    view = memoryview(keyed_batch([json.dumps(number).encode()], RECORD_BYTES))
    slot = Lane(number + 1).next(1)
    pieces = seal(view, check_produced(view), key=key, partition=number % PARTITIONS, slot=slot)
    return record, b"".join(map(bytes, pieces))


def read_all(bootstrap: str, topic: str, count: int) -> tuple[float, float]:
    """Read so many records, and say when the first and the last came. Raises RuntimeError if they don't come."""
    settings = {"group.id": "bench", "enable.auto.commit": False, "log_level": 0}
    consumer = Consumer({"bootstrap.servers": bootstrap, **settings})
    consumer.assign([TopicPartition(topic, each, OFFSET_BEGINNING) for each in range(PARTITIONS)])
    times: Sequence[float] = []
    deadline = time.monotonic() + SECONDS
    try:
        came: list[float] = []
        while len(came) < count and time.monotonic() < deadline:
            for message in consumer.consume(count - len(came), timeout=0.01):
                if message.error():
                    raise RuntimeError(str(message.error()))
                came.append(time.perf_counter())
        times = came
    finally:
        consumer.close()
    if len(times) < count:
        raise RuntimeError(f"{len(times)} of {count} records came")
    return times[0], times[-1]
