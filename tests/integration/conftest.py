"""A proxy with default rules before the shared node, for the tests that need nothing else."""

from collections.abc import Iterator

import pytest

from tests.support.kafka import Cluster
from tests.support.proxy import Proxy, kveil_proxy


@pytest.fixture(scope="session")
def proxy(kafka: Cluster) -> Iterator[Proxy]:
    """A proxy that seals everything. What its tests do must not make it stumble."""
    with kveil_proxy(kafka.bootstrap) as running:
        yield running
        assert running.child.exit_code is None, running.log()[-5:]
        assert not running.events("connection_failed"), running.events("connection_failed")
