"""Fixtures that every test may use: real clusters, a topic of one's own, and a watch over child processes."""

import re
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest
import structlog

from tests.support.children import children_left, own_children
from tests.support.kafka import Cluster, Security, kafka_cluster

RACKS = ("rack-0", "rack-1", "rack-2")
BROKER_FIXTURES = {"kafka", "kafka3", "kafka_sasl"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark whatever needs a real broker, so that `-m "not broker"` is the fast set."""
    for item in items:
        if BROKER_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.broker)


_clusters: list[Cluster] = []


def shared_cluster(start: AbstractContextManager[Cluster]) -> Iterator[Cluster]:
    """Run a cluster for a fixture that several tests use: its brokers are no test's children, also started again."""
    with start as cluster:
        _clusters.append(cluster)
        yield cluster
        _clusters.remove(cluster)


@pytest.fixture(scope="session")
def kafka() -> Iterator[Cluster]:
    """One plain node for the whole session. Tests share it: use the `topic` fixture, and don't stop it."""
    yield from shared_cluster(kafka_cluster())


@pytest.fixture(scope="session")
def kafka3() -> Iterator[Cluster]:
    """Three plain nodes, each in a rack of its own. A test that stops one starts it again."""
    yield from shared_cluster(kafka_cluster(nodes=3, racks=RACKS))


@pytest.fixture(scope="session")
def kafka_sasl() -> Iterator[Cluster]:
    """One node behind TLS that wants a login, by any mechanism; users in tests.support.security.USERS."""
    yield from shared_cluster(kafka_cluster(security=Security.SASL_SSL))


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A topic name that no other test uses. It doesn't exist yet: create it where its settings matter."""
    stem = re.sub(r"[^a-zA-Z0-9._-]+", "-", request.node.name)[:80].strip("-.")
    return f"{stem}-{uuid.uuid4().hex[:8]}"


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Undo what a test sets up of logging, which the whole process shares."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(autouse=True)
def no_child_left() -> Iterator[None]:
    """Fail a test that leaves a child process behind. The shared clusters' brokers don't count."""
    before = own_children()
    yield
    brokers = {node.pid for cluster in _clusters for node in cluster.nodes if node.running}
    left = children_left(before | brokers)
    assert not left, f"child processes left behind: {left}"
