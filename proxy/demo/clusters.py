"""A cluster for the demonstration: librdkafka's mock cluster, or a real Apache Kafka from the source tree."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from kveil.proxy.demo.errors import DemoFailed, DemoImpossible

MOCK_BROKERS: Final = 3
_SECONDS: Final = 10.0
_ERRORS_ONLY: Final = 3
_SOURCE_TREE: Final = Path(__file__).resolve().parents[2]


class Kafka(StrEnum):
    """Which cluster to use."""

    MOCK = "mock"
    REAL = "real"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A running cluster."""

    name: str
    bootstrap: str
    mode: str
    """The sealing mode of all topics: `auto` needs a broker that tells a topic's settings."""
    knows_java_groups: bool
    """Whether Java clients can join a group."""
    disk_holds: Callable[[bytes], bool] | None = None
    """Whether these bytes stand in any file of the brokers, where there are files."""


def start_cluster(kind: Kafka) -> AbstractContextManager[Cluster]:
    """A cluster for the length of a `with` block.

    :raises DemoImpossible: something for it isn't installed.
    """
    return mock_cluster() if kind is Kafka.MOCK else real_cluster()


@contextmanager
def mock_cluster() -> Iterator[Cluster]:
    """Three brokers inside of librdkafka, with sockets of their own on loopback. They live in this process."""
    from confluent_kafka import KafkaException, Producer

    host = Producer({"test.mock.num.brokers": MOCK_BROKERS, "log_level": _ERRORS_ONLY})
    try:
        brokers = host.list_topics(timeout=_SECONDS).brokers.values()
    except KafkaException as error:
        raise DemoFailed(f"librdkafka's mock cluster doesn't answer: {error}") from None
    yield Cluster(
        name=f"librdkafka's mock cluster, {len(brokers)} brokers, no Java",
        bootstrap=",".join(f"{broker.host}:{broker.port}" for broker in brokers),
        mode="batch",  # it has no DescribeConfigs
        knows_java_groups=False,
    )


@contextmanager
def real_cluster() -> Iterator[Cluster]:
    """Apache Kafka as the tests start it: in a container, or on a Java runtime from a Python package."""
    harness = _test_harness()
    with harness.kafka_cluster() as cluster:
        yield Cluster(
            name="Apache Kafka, one broker",
            bootstrap=cluster.bootstrap,
            mode="auto",
            knows_java_groups=True,
            disk_holds=cluster.contains,
        )


def _test_harness() -> Any:
    if not (_SOURCE_TREE / "tests" / "support" / "kafka.py").is_file():
        raise DemoImpossible(
            "the real broker comes from the tests of the source tree, which an installed package doesn't have: "
            "run `make demo KAFKA=real` in a clone of the repository"
        )
    if str(_SOURCE_TREE) not in sys.path:
        sys.path.insert(0, str(_SOURCE_TREE))
    try:
        return importlib.import_module("tests.support.kafka")
    except ModuleNotFoundError as error:
        raise DemoImpossible(
            f"the real broker needs the Python package {error.name}: `pip install -e '.[test]'` installs all it needs"
        ) from None
