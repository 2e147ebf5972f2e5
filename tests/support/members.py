"""Members of a realm with directories, as `kveil enroll` leaves them, and an authority that writes where it is told."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import Producer

from kveil.protocol.identity import CONTROL_TOPIC
from kveil.protocol.identity.checkpoint import Ended
from kveil.protocol.identity.credential import Grant
from kveil.protocol.identity.record import encode_record
from kveil.protocol.identity.signing import Signed
from kveil.proxy.identity.identity_file import create_identity
from kveil.proxy.identity.node_files import CheckpointMark, Membership, NodeFiles
from tests.support.kafka import Cluster
from tests.support.realm import DAY, NOW, Node, Realm

Write = Callable[[Sequence[tuple[bytes, bytes | None]]], None]
_SECONDS = 60.0


@contextmanager
def control_writer(bootstrap: str) -> Iterator[Write]:
    """Writes records to the control topic as they are, as anybody may whom the cluster lets."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})

    def write(records: Sequence[tuple[bytes, bytes | None]]) -> None:
        for key, value in records:
            producer.produce(CONTROL_TOPIC, value, key)
        assert producer.flush(_SECONDS) == 0

    yield write
    producer.close()


@contextmanager
def members_on(cluster: Cluster, folder: Path, **realm: object) -> Iterator["Members"]:
    """A realm whose authority writes to a cluster by itself, on a control topic that is gone afterwards."""
    cluster.create_topic(CONTROL_TOPIC, config={"cleanup.policy": "compact"})
    with control_writer(cluster.bootstrap) as write:
        yield Members(folder, write, now=int(time.time()), **realm)
    cluster.delete_topic(CONTROL_TOPIC)


class Members:
    """A realm, and the directories of its members below `folder`. Every change is one checkpoint."""

    def __init__(self, folder: Path, write: Write, *, now: int = NOW, **realm: object) -> None:
        self.folder = folder
        self.realm = Realm(**realm)
        self.now = now
        self.lease = DAY
        self._write = write
        self.publish(self.realm.identity)

    def publish(self, *records: Signed) -> None:
        """Have records stand on the control topic."""
        self._write([encode_record(record) for record in records])

    def path(self, node: Node) -> Path:
        """The directory of a member."""
        return self.folder / node.body.name

    def join(self, name: str, *grants: Grant, checkpoint: bool = True) -> Node:
        """A new member, with its directory."""
        node = self.realm.node(name, *grants, not_before=self.now - 300, expires=self.now + 7 * DAY - 300)
        path = self.path(node)
        path.mkdir(mode=0o700)
        assert create_identity(path, node.keys, None)
        last = self.realm.kept if self.realm.checkpoints else (0, bytes(32))
        NodeFiles(path).enrol(Membership(self.realm.name, self.realm.authority.id), CheckpointMark(*last))
        self.publish(node.credential)
        if checkpoint:
            self.checkpoint()
        return node

    def grant(self, node: Node, *grants: Grant) -> None:
        """Give a member a new credential in place of its last one."""
        del self.realm.live[node.body.serial]
        times = {"not_before": self.now - 300, "expires": self.now + 7 * DAY - 300}
        node.body, node.credential = self.realm.issue(node.keys, node.body.name, *grants, **times)
        self.publish(node.credential)
        self.checkpoint()

    def hand(self, *nodes: Node, secret: bytes = bytes(range(32)), key_id: bytes | None = None) -> None:
        """Hand members the key-hiding key."""
        self.publish(*(self.realm.hand(node, secret, key_id) for node in nodes))

    def revoke(self, node: Node, ended: Ended | None = None) -> None:
        """A member isn't one any more; of a producer `ended` says what it did while it was."""
        del self.realm.live[node.body.serial]
        self.checkpoint(*([] if ended is None else [ended]))

    def checkpoint(self, *ended: Ended, **changes: object) -> Signed:
        """The next one, with the whole lease."""
        changes = {"created": self.now, "expires": self.now + self.lease, **changes}
        made = self.realm.checkpoint(*ended, **changes)
        self.publish(made)
        return made
