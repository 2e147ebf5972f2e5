"""Requests that change topics: they pass untouched, and what is known of the topics' settings is dropped.

It is dropped again with the answer, since a question in between may have read the old settings.
"""

from collections.abc import Iterable, Sequence

from kveil.protocol.kafka.primitives import Buffer
from kveil.protocol.kafka.splice import FrozenShape, Want
from kveil.proxy.apis.exchange import Exchange, Forward, Outcome
from kveil.proxy.apis.topic_configs import TOPIC


class _TopicChange(Exchange):
    """A request that names topics."""

    def request(self) -> Outcome:
        """Drop the topics' settings."""
        self._topics = list(self._named())
        self.connection.shared.topic_settings.drop(self._topics)
        return Forward()

    def response(self, frame: memoryview) -> Sequence[Buffer] | None:  # noqa: ARG002 - it passes unread
        """Drop the topics' settings once more."""
        self.connection.shared.topic_settings.drop(self._topics)
        return None

    def _named(self) -> Iterable[str]:
        raise NotImplementedError


class CreateTopics(_TopicChange):
    """A name that was used before may come back with other settings."""

    REQUEST = FrozenShape({"topics": {"name": Want.VALUE}})

    def _named(self) -> Iterable[str]:
        (topics,), _ = self.walk_request()
        return (name for (name,) in topics or ())


class DeleteTopics(_TopicChange):
    """By name, or by id from version 6 on."""

    REQUEST = FrozenShape({"topic_names": Want.VALUE, "topics": {"name": Want.VALUE, "topic_id": Want.VALUE}})

    def _named(self) -> Iterable[str]:
        (names, topics), _ = self.walk_request()
        found = self.connection.shared.topic_names.find
        return [*(names or ()), *(name or found(topic_id) or "" for name, topic_id in topics or ())]


class AlterConfigs(_TopicChange):
    """Sets all settings, also in its incremental form (KIP-339)."""

    REQUEST = FrozenShape({"resources": {"resource_type": Want.VALUE, "resource_name": Want.VALUE}})

    def _named(self) -> Iterable[str]:
        (resources,), _ = self.walk_request()
        return (name for kind, name in resources or () if kind == TOPIC)
