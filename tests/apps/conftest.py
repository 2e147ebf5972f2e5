"""What the application tests share: each program is run directly and through a proxy."""

from collections.abc import Iterator

import pytest

from tests.support.kafka import Cluster
from tests.support.proxy import Proxy, kveil_proxy

RULES: dict[str, list[dict[str, str]]] = {
    "auto": [],  # compacted topics in record mode, the others in batch mode
    "record": [{"match": "*", "mode": "record"}],
}
"""The ways to seal whatever an application keeps in Kafka, its compacted topics too."""


@pytest.fixture(scope="module", params=RULES)
def proxy(request: pytest.FixtureRequest, kafka: Cluster) -> Iterator[Proxy]:
    """A proxy before the shared node, with one of the RULES after the other. No application may make it stumble."""
    with kveil_proxy(kafka.bootstrap, topics=RULES[request.param]) as running:
        yield running
        assert running.child.exit_code is None, running.log()[-5:]
        assert not running.events("connection_failed"), running.events("connection_failed")
