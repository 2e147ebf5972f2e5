"""The same calls directly and through the proxy, compared one by one: results, errors and their texts, offsets."""

import re
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support import java
from tests.support.kafka import Cluster, kafka_cluster
from tests.support.proxy import Proxy, kveil_proxy

JAVA = Path(__file__).parent / "java"
_ADDRESS = re.compile(r"127\.0\.0\.1:\d+")


@pytest.fixture(scope="module")
def strict_kafka() -> Iterator[Cluster]:
    """A node that knows access rules, so that these calls are not all refused."""
    with kafka_cluster(acls=True) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def strict_proxy(strict_kafka: Cluster) -> Iterator[Proxy]:
    """A proxy before it."""
    with kveil_proxy(strict_kafka.bootstrap) as running:
        yield running
        assert not running.events("connection_failed"), running.events("connection_failed")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Java programs, compiled."""
    return java.compile_java(tmp_path_factory.mktemp("calls"), JAVA / "AdminCalls.java", JAVA / "ClientCalls.java")


def calls(program: str, programs: str, bootstrap: str, *arguments: str) -> list[str]:
    """What a program says of its calls, without what differs from run to run."""
    name = f"calls-{uuid.uuid4().hex}"
    said = java.java_tool(program, bootstrap, name, *arguments, extra_jars=[programs]).stdout
    return [_ADDRESS.sub("ADDRESS", line.replace(name, "NAME")) for line in said.splitlines()]


def compared(cluster: Cluster, proxy: Proxy, program: str, programs: str, *arguments: str) -> list[str]:
    """Run a program both ways, at the same time; gives what it says when both say the same."""
    with ThreadPoolExecutor(2) as both:
        direct = both.submit(calls, program, programs, cluster.bootstrap, *arguments)
        proxied = both.submit(calls, program, programs, proxy.bootstrap, *arguments)
        assert proxied.result() == direct.result()
    return direct.result()


@pytest.mark.broker
def test_java_administration(strict_kafka: Cluster, strict_proxy: Proxy, programs: str):
    said = compared(strict_kafka, strict_proxy, "AdminCalls", programs)
    failed = [line for line in said if " failed: " in line]
    assert not [line for line in failed if "Timeout" in line or "Disconnect" in line]
    assert len(failed) == 18, failed
    assert len(said) > 400, "settings are lines too"


LONG = [("auto", "produce"), ("auto", "classic"), ("auto", "consumer")]
LONG += [("record", scenario) for scenario in ("produce", "transactions", "classic", "consumer", "share")]
CASES = [("auto", "transactions"), ("auto", "share"), *(pytest.param(*case, marks=pytest.mark.full) for case in LONG)]
EXPECTED = {
    "produce": ["ends: {NAME-0=12, NAME-1=4}", "too large failed: RecordTooLargeException"],
    "transactions": [f"fenced {call} failed: InvalidProducerEpochException" for call in ("send", "commit")],
    "classic": ["described: Classic Stable range [2, 2]", "delete it: null"],
    "consumer": ["described: Consumer Stable uniform [2, 2]", "delete it: null"],
    "share": ["round 3: [10 v10 1700000000010 3 accept, 7 v7 1700000000007 3 accept]", "delete: null"],
}
"""Some of what must come of it either way, so that two failures are not taken for a success."""


@pytest.mark.parametrize(("proxy", "scenario"), CASES, indirect=["proxy"])
def test_java_clients(kafka: Cluster, proxy: Proxy, programs: str, scenario: str):
    said = compared(kafka, proxy, "ClientCalls", programs, scenario)
    assert not [line for line in EXPECTED[scenario] if line not in said], said
