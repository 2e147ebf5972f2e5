"""Identities instead of a shared key: what signatures and places of batches cost, beside a key file."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kveil.protocol.identity import CONTROL_TOPIC
from kveil.protocol.identity.crypto import KemSuite
from tests.bench.cluster import BenchCluster
from tests.bench.ways import KVEIL, LOG, Way
from tests.support.members import Members, control_writer
from tests.support.proxy import Proxy, kveil_proxy
from tests.support.realm import Node, consumes, produces

KEY_FILE, UNSIGNED = "kveil-keyfile", "kveil-unsigned"
ALL_TOPICS = "bench-*"
BY_BROKER = {"message.timestamp.type": "LogAppendTime"}
"""For topics whose records tell when the broker took them."""
_IDEMPOTENT = {"enable.idempotence": "true"}
"""As Java's producers are by default: their batches are known again when they come a second time."""
_UNSIGNED_TOPICS = ({"match": ALL_TOPICS, "sign": False},)


@contextmanager
def new_realm(bench: BenchCluster) -> Iterator[Members]:
    """A realm with a control topic of its own, and an authority that writes to it by itself."""
    with TemporaryDirectory(prefix="kveil-realm-") as folder:
        bench.cluster.create_topic(CONTROL_TOPIC, config={"cleanup.policy": "compact", **BY_BROKER})
        try:
            with control_writer(bench.direct) as write:
                yield Members(Path(folder), write, now=int(time.time()), suite=KemSuite.MLKEM768_X25519)
        finally:
            bench.cluster.delete_topic(CONTROL_TOPIC)


def proxy_of(bench: BenchCluster, members: Members, node: Node, **more: Any) -> AbstractContextManager[Proxy]:
    """The proxy of a member."""
    config = {"log": LOG, "keys": {"provider": "identities"}, "identity": {"path": str(members.path(node))}}
    return kveil_proxy(bench.direct, keys=members.folder / "none.json", config=config, **more)


@contextmanager
def identity_ways(bench: BenchCluster) -> Iterator[list[Way]]:
    """Kveil with a key file, with identities whose batches have places and no signatures, and with both."""
    with new_realm(bench) as members, ExitStack() as stack:
        both = produces(ALL_TOPICS), consumes(ALL_TOPICS)
        unsigned, signed = (members.join(name, *both) for name in ("unsigned", "signed"))
        proxies = {
            KEY_FILE: kveil_proxy(bench.direct, config={"log": LOG}),
            UNSIGNED: proxy_of(bench, members, unsigned, topics=_UNSIGNED_TOPICS),
            KVEIL: proxy_of(bench, members, signed),
        }
        ways = []
        for name, made in proxies.items():
            proxy = stack.enter_context(made)
            ways.append(Way(name=name, bootstrap=proxy.bootstrap, pid=proxy.pid, librdkafka=_IDEMPOTENT))
        yield ways
