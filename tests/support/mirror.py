"""MirrorMaker 2 as a program of its own, which copies topics from one cluster to another until it is stopped."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.connect import connect_path
from tests.support.java import start_java_tool
from tests.support.processes import Child
from tests.support.security import properties_text

SAME_NAMES = "org.apache.kafka.connect.mirror.IdentityReplicationPolicy"
PREFIXED_NAMES = "org.apache.kafka.connect.mirror.DefaultReplicationPolicy"
"""A copy is called `ALIAS.TOPIC`."""

_MAIN = "org.apache.kafka.connect.mirror.MirrorMaker"


@contextmanager
def mirror_maker(
    source: str,
    target: str,
    topics: Sequence[str],
    folder: Path,
    *,
    names: str,
    alias: str,
) -> Iterator[Child]:
    """Copy these topics between two bootstrap addresses for the length of the block.

    What was copied is remembered in the target by the alias of the source.
    """
    properties = {
        "clusters": f"{alias}, target",
        f"{alias}.bootstrap.servers": source,
        "target.bootstrap.servers": target,
        f"{alias}->target.enabled": "true",
        f"{alias}->target.topics": ",".join(topics),
        f"target->{alias}.enabled": "false",
        "replication.policy.class": names,
        "replication.factor": "1",
        "offset-syncs.topic.replication.factor": "1",
        "checkpoints.topic.replication.factor": "1",
        "config.storage.replication.factor": "1",
        "offset.storage.replication.factor": "1",
        "status.storage.replication.factor": "1",
        "offset.flush.interval.ms": "500",
        "refresh.topics.interval.seconds": "1",
        "emit.heartbeats.enabled": "false",
        "sync.topic.acls.enabled": "false",
    }
    config = folder / "mirror.properties"
    config.write_text(properties_text(properties))
    with start_java_tool(_MAIN, str(config), path=connect_path()) as child:
        yield child
        assert child.exit_code is None, "\n".join(child.errors.so_far()[-40:])
        child.stop()
