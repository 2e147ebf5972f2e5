"""A worker's topic names: a copy of what its parent holds for all workers.

A broker that isn't trusted must gain nothing by giving two workers different names for one id. So nothing is believed
here that the parent hasn't agreed to, and there the first name stays.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Protocol

from kveil.proxy.topics import TopicName, TopicNames

NAME_LENGTH = 249
"""The longest that Kafka allows (common.internals.Topic). Longer ones stay unknown: they are nobody's."""


class Holder(Protocol):
    """Who holds the names for all workers."""

    async def agree(self, names: Sequence[TopicName]) -> Mapping[bytes, str]:
        """Return the name that each id has from now on; without those that can't be kept."""

    async def give(self, client: object, topic_ids: Sequence[bytes]) -> None:
        """Note that the client is told the ids' names."""

    async def names_of(self, topic_ids: Sequence[bytes]) -> Mapping[bytes, str]:
        """Return the names that are known."""

    async def was_given(self, client: object, topic_id: bytes) -> bool:
        """Whether the client was told the id's name."""


class AgreedNames(TopicNames):
    """What the holder has agreed to."""

    is_copy: ClassVar[bool] = True

    def __init__(self, holder: Holder) -> None:
        super().__init__()
        self._holder = holder

    def learn(self, topic_id: bytes, name: str) -> str:
        """Return the name that the id has. What is not agreed stays unknown."""
        known = self.find(topic_id)
        if known == name:
            self._note_id(topic_id, name)
        return known or name

    def give(self, client: object, topic_id: bytes) -> None:
        """Do nothing: `agree` has done it."""

    def unagreed(self, client: object, names: Iterable[TopicName]) -> Sequence[TopicName]:
        """Return the names that must be agreed before this client is told them."""
        return [
            (name, topic_id)
            for name, topic_id in names
            if (self.find(topic_id) is None or not self.was_given(client, topic_id)) and len(name) <= NAME_LENGTH
        ]

    async def agree(self, client: object | None, names: Sequence[TopicName]) -> None:
        """Agree on the names. Given to the client is only what of them nobody contradicts: one contradiction, and the
        client isn't told any of it.
        """
        new = [(name, topic_id) for name, topic_id in names if self.find(topic_id) is None and len(name) <= NAME_LENGTH]
        if new:
            self._keep(await self._holder.agree(new))
        given = [topic_id for name, topic_id in names if self.find(topic_id) == name]
        is_contradicted = any(self.find(topic_id) not in (None, name) for name, topic_id in names)
        if client is not None and given and not is_contradicted:
            await self._holder.give(client, given)
            for topic_id in given:
                super().give(client, topic_id)

    async def look_up(self, topic_ids: Sequence[bytes]) -> None:
        """Learn the names that the holder knows of these ids."""
        for topic_id, name in (await self._holder.names_of(topic_ids)).items():
            self._names.setdefault(topic_id, name)  # known of old: that it still exists isn't said

    async def look_for_gift(self, client: object, topic_id: bytes) -> None:
        """Learn whether the client was told the id by way of another worker."""
        if await self._holder.was_given(client, topic_id):
            super().give(client, topic_id)

    def _keep(self, agreed: Mapping[bytes, str]) -> None:
        for topic_id, name in agreed.items():
            super().learn(topic_id, name)
