"""Metadata: brokers' addresses, and what the client is told of topic ids (KIP-516)."""

from collections.abc import Iterable, Iterator, Sequence

from kveil.protocol.kafka.primitives import Buffer
from kveil.protocol.kafka.splice import FrozenShape, Want, splice
from kveil.proxy.admin.audit import audit
from kveil.proxy.apis.endpoints import ENDPOINT, endpoint_edits
from kveil.proxy.apis.exchange import Exchange
from kveil.proxy.context import Connection
from kveil.proxy.errors import CloseConnection
from kveil.proxy.needs import AgreementNeed, Need
from kveil.proxy.topics import TopicName

_NO_ID = bytes(16)


class Metadata(Exchange):
    """What clients ask first, and again whenever something moved."""

    RESPONSE = FrozenShape({"brokers": ENDPOINT, "topics": {"name": Want.VALUE, "topic_id": Want.VALUE}})
    CARRIES_ADDRESSES = True

    _is_agreed = False

    def response_needs(self, frame: memoryview) -> Sequence[Need]:
        """Return the topic ids' names, where other workers have a say and haven't been asked."""
        self._walked = self.response_walker(frame)
        if self._is_agreed:
            return ()
        self._is_agreed = True  # once for an answer: what can't be kept would be asked again and again
        connection = self.connection
        new = connection.shared.topic_names.unagreed(connection.client, named_ids(self._walked.values[1]))
        return [AgreementNeed(connection.client, new)] if new else ()

    def response(self, frame: memoryview) -> Sequence[Buffer] | None:
        """Return the answer with local addresses. Topic ids are learnt, and noted as given to this client."""
        walker = self.response_walker
        (brokers, topics), sections = self._walked
        for topic_id in learn_names(topics, self.connection):
            self.connection.shared.topic_names.give(self.connection.client, topic_id)
        return splice(frame, endpoint_edits(frame, brokers, self.connection, compact=walker.flexible), sections)


def named_ids(topics: Iterable[tuple[str | None, bytes | None]] | None) -> Iterator[TopicName]:
    """Yield the topics that have both a name and an id."""
    for name, topic_id in topics or ():
        if name is not None and topic_id is not None and topic_id != _NO_ID:
            yield name, topic_id


def learn_names(topics: Iterable[tuple[str | None, bytes | None]] | None, connection: Connection) -> list[bytes]:
    """Take note of the names that topic ids stand for, and return the ids.

    :raises CloseConnection: an id has another name already. Honest brokers never use an id twice.
    """
    names = connection.shared.topic_names
    learnt = []
    for name, topic_id in named_ids(topics):
        known = names.learn(topic_id, name)
        if known != name:
            audit("topic.renamed", subject=name, cause=connection.cause, topic_id=topic_id.hex(), known_as=known)
            raise CloseConnection(f"the broker gives topic {known!r} a second name, {name!r}, under one topic id")
        learnt.append(topic_id)
    return learnt
