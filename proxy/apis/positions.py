"""What fetched batches say of their place in their streams, and what a client's fetches say of the log between them."""

from collections.abc import Iterable, Mapping, Sequence

from kveil.protocol.envelope.errors import EnvelopeError
from kveil.protocol.envelope.sealed_batch import SealedBatch
from kveil.protocol.envelope.sealed_records import RecordSealedBatch
from kveil.protocol.envelope.seen import Seen, seen_in
from kveil.protocol.envelope.stream import GRACE_SECONDS, Finding, Kind, Leader, Stream
from kveil.protocol.kafka.aborted import Entry, Outcome, outcomes_in
from kveil.protocol.kafka.headers import RequestHeader
from kveil.protocol.kafka.record_batch import BatchHeader
from kveil.protocol.kafka.splice import FrozenShape, Want, request_walker, response_walker
from kveil.proxy.asking import Asked, Place
from kveil.proxy.config import Mode
from kveil.proxy.context import Connection
from kveil.proxy.keys.streams import End, Partition, Streams
from kveil.proxy.needs import Need, TopicSettingsNeed
from kveil.proxy.policy import Rule

_ASKED = FrozenShape(
    {
        "isolation_level": Want.VALUE,
        "session_epoch": Want.VALUE,
        "topics": {
            "topic": Want.VALUE,
            "topic_id": Want.VALUE,
            "partitions": {"partition": Want.VALUE, "fetch_offset": Want.VALUE},
        },
    }
)
_ENDS = FrozenShape(
    {
        "responses": {
            "topic": Want.VALUE,
            "topic_id": Want.VALUE,
            "partitions": {
                "partition_index": Want.VALUE,
                "error_code": Want.VALUE,
                "high_watermark": Want.VALUE,
                "last_stable_offset": Want.VALUE,
            },
        }
    }
)
_ABORTED = FrozenShape(
    {
        "responses": {
            "topic": Want.VALUE,
            "topic_id": Want.VALUE,
            "partitions": {
                "partition_index": Want.VALUE,
                "aborted_transactions": {"producer_id": Want.VALUE, "first_offset": Want.VALUE},
            },
        }
    }
)
_FULL = frozenset({None, 0, -1})
"""Epochs of sessions whose requests name all partitions."""


class OutOfPlace(EnvelopeError):
    """A whole batch that doesn't belong where it stands, or behind which others are missing."""


class AfterTheEnd(EnvelopeError):
    """A whole batch that came after its producer was revoked."""


def check_end(
    sealed: SealedBatch | RecordSealedBatch, ends: Mapping[bytes, End], partition: int, *, any_partition: bool
) -> None:
    """Look whether an opened batch lies within what its producer's end says, by kid.

    :raises AfterTheEnd: it, or one of its records, doesn't.
    """
    for origin in [sealed] if isinstance(sealed, SealedBatch) else sealed.origins:
        end, position = ends.get(origin.kid), origin.says.position
        if end is None or position is None:
            continue
        place = origin.says.partition_for(partition, any_partition=any_partition), position.lane
        if position.batch > end.batches.get(place, 0):
            raise AfterTheEnd(
                f"its producer {end.producer} was revoked, and this batch came after: it is number {position.batch} of "
                f"lane {position.lane}, of which the revocation lists {end.batches.get(place, 0)}"
            )


class Reading:
    """One partition, while an answer's batches are opened in their order."""

    def __init__(
        self,
        partition: Partition,
        rule: Rule,
        connection: Connection,
        streams: Streams,
        *,
        start: int | None,
        aborted: Sequence[Entry] | None = None,
    ) -> None:
        """`start` is the offset that the client asked for, None where only some batches are given out.

        `aborted` are the aborted transactions that the answer names, None where the client doesn't ask for committed
        records only.
        """
        self._partition = partition
        self._connection = connection
        self._streams = streams
        self._stream: Stream = streams.of(partition, connection.shared.now())
        self._start = start
        self._is_whole = start is not None
        self._rule = rule
        self._aborted = aborted

    @property
    def _growth_only(self) -> bool:
        """Whether the log cleaner may have made holes.

        Not where the rule pins batch mode: such a topic is never compacted, whatever a broker says of it.
        """
        settings = self._connection.shared.topic_settings.last(self._partition.topic)  # as of the request, or later
        return self._rule.mode is not Mode.BATCH and (
            settings is None or bool(settings.unreadable) or settings.is_compacted
        )

    def outcomes(self, batches: Sequence[tuple[BatchHeader | None, bool | None]]) -> list[Outcome | None]:
        """What the answer says of the transactions of its batches, as `outcomes_in` has them."""
        if self._aborted is None:
            return [None] * len(batches)
        found = iter(outcomes_in(self._aborted, [(header, end) for header, end in batches if header is not None]))
        return [None if header is None else next(found) for header, _ in batches]

    def read(
        self, header: BatchHeader, sealed: SealedBatch | RecordSealedBatch | None, outcome: Outcome | None = None
    ) -> None:
        """Judge a batch that has opened.

        :raises OutOfPlace: it must not be delivered.
        """
        base, end = header.base_offset, max(header.next_offset, header.base_offset)
        start = base if self._start is None else min(self._start, base)
        seen = [] if sealed is None else seen_in(sealed)
        if outcome is not None:
            self._refuse(outcome, seen)
        now = self._connection.shared.now()
        leader = Leader(base, header.partition_leader_epoch)
        findings = self._stream.read(start, end, seen, now, growth_only=self._growth_only, leader=leader)
        self._tell(findings)
        for found in findings:
            if found.kind.is_refusal or (self._partition.refuses_gaps and not found.kind.is_notice):
                raise OutOfPlace(found.kind.value)
        self._start = end if self._is_whole else None
        if outcome is not None:
            known = self._streams.outcomes(self._partition)
            for place in _batches_of(seen):
                self._tell(known.show(*place, base, committed=outcome.committed))

    def _refuse(self, outcome: Outcome, seen: Sequence[Seen]) -> None:
        """Compare what is shown of a transaction's batch with what its producer says, else with the answer's markers.

        Those of a topic that is or was compacted aren't asked: the log cleaner takes some away.

        :raises OutOfPlace: its transaction ended otherwise.
        """
        known, by_markers = self._streams.outcomes(self._partition), outcome.is_contradicted and not self._growth_only
        for kid, lane, batch in _batches_of(seen):
            said = known.is_known(kid, lane, batch)
            if by_markers if said is None else said is not outcome.committed:
                self._tell([Finding(Kind.OUTCOME, kid, lane, batch, batch, seen[0].offset)])
                raise OutOfPlace(Kind.OUTCOME.value)

    def reached(self, end: int) -> None:
        """The log ends here, says the broker."""
        now = self._connection.shared.now()
        if self._start == end:
            self._stream.read(end, end, [], now, growth_only=self._growth_only)
        self._tell(self._stream.at_end(end, now, growth_only=self._growth_only))

    def _tell(self, findings: list[Finding]) -> None:
        if findings:
            keys = self._connection.shared.announced_keys
            for found in findings:
                producer = "" if keys is None or found.kind.is_notice else keys.producer_of(found.kid)
                self._streams.tell(self._partition, [found], producer, self._connection.cause)


def _batches_of(seen: Iterable[Seen]) -> dict[tuple[bytes, int, int], None]:
    """Kids, lanes and numbers: of a batch that is sealed record by record, each once."""
    return dict.fromkeys((one.kid, one.position.lane, one.position.batch) for one in seen)


def find_reading(
    topic: str,
    place: str | bytes,
    index: int,
    rule: Rule,
    connection: Connection,
    *,
    start: int | None,
    aborted: Sequence[Entry] | None = None,
) -> Reading | None:
    """Return what judges a partition's batches, None where their places say nothing: not announced, or copies."""
    keys = connection.shared.announced_keys
    if keys is None or not rule.announced or rule.sealed_as is not None:
        return None
    # By whatever a client names it, it is the topic of this id.
    place = connection.shared.topic_names.id_of(topic) or place if isinstance(place, str) else place
    partition = Partition(topic, place, index, rule.refuse_gaps)
    return Reading(partition, rule, connection, keys.streams, start=start, aborted=aborted)


class Watch:
    """One fetch of a connection, and the log as its answer shows it."""

    def __init__(self, request: RequestHeader, frame: memoryview, connection: Connection) -> None:
        """From the request, where any keys are announced."""
        self._request = request
        self._connection = connection
        self._asking = asking = connection.asking
        walker = request_walker(request.api_key, request.api_version, _ASKED)
        (isolation, session_epoch, topics), _ = walker(frame)
        self._is_committed = bool(isolation)
        if session_epoch in _FULL:
            asking.asked.clear()
            asking.ends.clear()
            asking.topics.clear()
        asking.topics.update(topic_id or name for name, topic_id, _ in topics or ())
        asking.requests += 1
        self._number = asking.requests
        for name, topic_id, partitions in topics or ():
            for index, offset in partitions or ():
                asking.asked[topic_id or name, index] = Asked(offset, self._number)

    def start(self, place: str | bytes, index: int) -> int | None:
        """Where the client reads on in a partition; None if that can't be said, since a later fetch has moved."""
        found = self._asking.asked.get((place, index))
        return None if found is None or found.request > self._number else found.offset

    def aborted(self, frame: memoryview) -> dict[Place, list[Entry]] | None:
        """The aborted transactions that an answer names, None where the client takes all records as committed."""
        if not self._is_committed:
            return None
        walker = response_walker(self._request.api_key, self._request.api_version, _ABORTED)
        (topics,), _ = walker(frame)
        return {
            (topic_id or name, index): [Entry(*entry) for entry in entries or ()]
            for name, topic_id, partitions in topics or ()
            for index, entries in partitions or ()
        }

    def answered(self, frame: memoryview, read: Mapping[Place, Reading]) -> None:
        """Look where the answer says that the log ends, once its batches are opened.

        In a session an answer leaves out partitions in which nothing has changed.
        """
        walker = response_walker(self._request.api_key, self._request.api_version, _ENDS)
        (topics,), _ = walker(frame)
        told = set()
        for name, topic_id, partitions in topics or ():
            for index, error, end, stable_end in partitions or ():
                place = topic_id or name, index
                told.add(place)
                self._asking.ends.pop(place, None)
                if not error and (not self._is_committed or stable_end == end):
                    self._asking.ends[place] = end
                    self._reached(place, end, read.get(place))
        now = self._connection.shared.now()
        if now - self._asking.looked >= GRACE_SECONDS:
            self._asking.looked = now
            for place, end in list(self._asking.ends.items()):
                if place not in told:
                    self._reached(place, end, None)

    def _reached(self, place: Place, end: int, reading: Reading | None) -> None:
        if reading is None:
            shared, (topic, index) = self._connection.shared, place
            name = topic if isinstance(topic, str) else shared.topic_names.find(topic)
            if name is None:
                return
            rule = shared.policy.rule_for(name)
            reading = find_reading(name, topic, index, rule, self._connection, start=self.start(topic, index))
        if reading is not None:
            reading.reached(end)


def settings_needs(
    connection: Connection, topics: Iterable[str | bytes], failures: Mapping[Need, Exception]
) -> list[Need]:
    """Return the settings that it takes to say whether batches may be missing, of topics that a fetch names, and those
    that its session has named before.

    They are asked for before the fetch: behind it, the answer could stand behind one that waits for it.
    """
    shared = connection.shared
    if shared.announced_keys is None:
        return []
    needs: dict[Need, None] = {}
    for topic in {*topics, *connection.asking.topics}:
        name = topic if isinstance(topic, str) else shared.topic_names.find(topic)
        if name is None:
            continue
        rule, need = shared.policy.rule_for(name), TopicSettingsNeed(name)
        if rule.announced and rule.sealed_as is None and rule.mode is Mode.AUTO and need not in failures:
            needs |= {} if shared.topic_settings.find(name, shared.now()) else {need: None}
    return list(needs)


def watch_of(request: RequestHeader, frame: memoryview, connection: Connection) -> Watch | None:
    """Return who watches a fetch, None where no keys are announced."""
    return None if connection.shared.announced_keys is None else Watch(request, frame, connection)
