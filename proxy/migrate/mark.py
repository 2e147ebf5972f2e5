"""`plain_before` for a topic that is sealed from now on: its end offsets, and what stands there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kveil.protocol.envelope.batch import peek
from kveil.protocol.envelope.errors import EnvelopeError, NotSealed
from kveil.protocol.kafka.api_table import ApiKey
from kveil.protocol.kafka.record_batch import read_header, split_batches
from kveil.proxy.config import Seal, Settings, TopicRule
from kveil.proxy.migrate.cluster import EARLIEST, LATEST, Cluster, Topic, by_leader, check
from kveil.proxy.migrate.errors import MigrateRefused
from kveil.proxy.policy import Policy

_BY_NAME = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What is to be written into the topic's rule."""

    topic: str
    ends: Mapping[int, int]
    plain: frozenset[int]
    """The partitions whose first batch is plain."""

    @property
    def text(self) -> str:
        """The rule, as YAML."""
        offsets = ", ".join(f"{partition}: {end}" for partition, end in self.ends.items())
        return f"topics:\n  - match: {self.topic}\n    plain_before: {{{offsets}}}"


def check_mark(policy: Policy, topic: str) -> None:
    """Pass if the topic's rule has no mark yet.

    :raises MigrateRefused: it has: a second one would let in what was written plain meanwhile.
    """
    if policy.rule_for(topic).plain_before:
        raise MigrateRefused(
            f"{topic} has plain_before already ({policy.matched_by(topic)}): it is fixed once, since a later one would "
            "let in what anybody has written there meanwhile"
        )


def as_stored(settings: Settings, topic: str) -> Settings:
    """Return settings by which the topic is read as it is stored."""
    return settings.model_copy(update={"topics": (TopicRule(match=topic, seal=Seal.NONE), *settings.topics)})


async def find_mark(cluster: Cluster, name: str) -> Mark:
    """Return the mark, with settings `as_stored`.

    :raises MigrateRefused: it would be of no use.
    """
    topic = await cluster.find_topic(name)
    if topic is None:
        raise MigrateRefused(f"there is no topic {name}")
    # All that is stored, also of transactions that are open: their records are committed by a marker that comes later.
    ends = await cluster.offsets(topic, LATEST, committed=False)
    starts = await cluster.offsets(topic, EARLIEST)
    plain = frozenset(
        {each for each in ends if starts[each] < ends[each] and await _is_plain(cluster, topic, each, starts[each])}
    )
    if not plain and any(starts[each] < ends[each] for each in ends):
        raise MigrateRefused(f"no partition of {name} begins with a plain record: it needs no plain_before")
    return Mark(topic=name, ends=ends, plain=plain)


async def _is_plain(cluster: Cluster, topic: Topic, partition: int, start: int) -> bool:
    """Whether the first batch with records is plain."""
    (node,) = by_leader(topic, [partition])
    row: dict[str, Any] = {"partition": partition, "fetch_offset": start, "partition_max_bytes": 64 * 1024}
    row |= {"current_leader_epoch": -1, "last_fetched_epoch": -1, "log_start_offset": -1}
    values = {
        "replica_id": -1,
        "max_wait": 0,
        "min_bytes": 1,
        "max_bytes": 64 * 1024,
        "isolation_level": 0,
        "session_id": 0,
        "session_epoch": -1,
        "topics": [{"topic": topic.name, "partitions": [row]}],
        "rack_id": "",
    }
    answer = await cluster.ask(ApiKey.FETCH, values, most=_BY_NAME, node=node)
    found = answer.responses[0].partitions[0]
    check(found.error_code, f"{topic.name}/{partition}")
    for view in split_batches(found.records or b""):
        header = read_header(view)
        if header.is_control or not header.record_count:
            continue
        try:
            peek(view, header)
        except NotSealed:
            return True
        except EnvelopeError:
            return False
        return False
    return False
