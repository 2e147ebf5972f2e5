"""librdkafka's mock cluster behind the proxy: it breaks a few of the protocol's rules, and clients get by."""

import pytest

from kveil.proxy.demo.clusters import mock_cluster
from tests.support.java import CONSOLE_CONSUMER, CONSOLE_PRODUCER, java_tool
from tests.support.proxy import kveil_proxy

PARTITIONS = 4  # of a topic that the mock cluster makes by itself


@pytest.mark.broker  # no broker, but Java
def test_java_gets_an_error_35_that_it_understands(topic):
    lines = "".join(f"line {number}\n" for number in range(20))
    with (
        mock_cluster() as cluster,
        kveil_proxy(cluster.bootstrap, topics=[{"match": "*", "mode": "batch"}]) as proxy,
    ):
        where = ("--bootstrap-server", proxy.bootstrap, "--topic", topic)
        java_tool(CONSOLE_PRODUCER, *where, stdin=lines)
        got = ""
        for partition in range(PARTITIONS):
            begin = ("--partition", str(partition), "--offset", "earliest", "--timeout-ms", "2000")
            got += java_tool(CONSOLE_CONSUMER, *where, *begin).stdout
    assert sorted(got.splitlines()) == sorted(lines.splitlines())
