"""What all workers must know alike: held by the parent, asked for and told by messages.

A broker that isn't trusted must gain nothing by telling two workers different things. So a topic id has one name for
all of them, the first that any was told, and who was told an id by one worker was told by all.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from kveil.proxy.addresses import Brokers, Endpoint
from kveil.proxy.topics import TopicName, TopicNames

NAMES_AT_ONCE = 1000
"""In one message."""

MAX_HOST_LENGTH = 255
"""A host name has 253 characters at most (RFC 1035, 2.3.4). A longer one is nobody's, and isn't told."""

Ask = Callable[..., Awaitable[Any]]
_T = TypeVar("_T")


class SharedState:
    """The parent's part: the answers to what workers ask, none of which ever waits."""

    def __init__(self) -> None:
        self._names = TopicNames()
        self.brokers = Brokers()

    def answer(self, kind: str, values: Mapping[str, Any]) -> Any:
        """Return the answer to a worker's question."""
        match kind:
            case "agree":
                return self._agree([(name, bytes.fromhex(topic_id)) for name, topic_id in values["names"]])
            case "give":
                client = tuple(values["client"])
                for topic_id in values["ids"]:
                    self._names.give(client, bytes.fromhex(topic_id))
                return None
            case "names":
                found = {topic_id: self._names.find(bytes.fromhex(topic_id)) for topic_id in values["ids"]}
                return {topic_id: name for topic_id, name in found.items() if name is not None}
            case "given":
                return self._names.was_given(tuple(values["client"]), bytes.fromhex(values["id"]))
        raise ValueError(f"a question of the unknown kind {kind}")

    def _agree(self, names: Sequence[TopicName]) -> dict[str, str | None]:
        """Return the names that differ from those asked for, None for ids that can't be kept: mostly nothing."""
        differing: dict[str, str | None] = {}
        for name, topic_id in names:
            self._names.learn(topic_id, name)
            known = self._names.find(topic_id)
            if known != name:
                differing[topic_id.hex()] = known
        return differing


class SharedNames:
    """A worker's part: asks the parent. `ask(kind, **values)` returns an awaitable answer."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def agree(self, names: Sequence[TopicName]) -> Mapping[bytes, str]:
        """Return the name that each id has from now on; without those that can't be kept."""
        agreed: dict[bytes, str | None] = {}
        for some in _portions(names):
            for name, topic_id in some:
                agreed.setdefault(topic_id, name)
            differing = await self._ask("agree", names=[(name, topic_id.hex()) for name, topic_id in some])
            agreed.update((bytes.fromhex(topic_id), name) for topic_id, name in differing.items())
        return {topic_id: name for topic_id, name in agreed.items() if name is not None}

    async def give(self, client: object, topic_ids: Sequence[bytes]) -> None:
        """Note that the client is told the ids' names."""
        for some in _portions(topic_ids):
            await self._ask("give", client=client, ids=[topic_id.hex() for topic_id in some])

    async def names_of(self, topic_ids: Sequence[bytes]) -> Mapping[bytes, str]:
        """Return the names that are known."""
        found: dict[bytes, str] = {}
        for some in _portions(topic_ids):
            answer = await self._ask("names", ids=[topic_id.hex() for topic_id in some])
            found.update((bytes.fromhex(topic_id), name) for topic_id, name in answer.items())
        return found

    async def was_given(self, client: object, topic_id: bytes) -> bool:
        """Whether the client was told the id's name."""
        return bool(await self._ask("given", client=client, id=topic_id.hex()))


def endpoint_of(values: Mapping[str, Any]) -> tuple[int, Endpoint]:
    """Return what a `broker` message says."""
    return values["node_id"], Endpoint(values["host"], values["port"])


def _portions(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for start in range(0, len(values), NAMES_AT_ONCE):
        yield values[start : start + NAMES_AT_ONCE]
