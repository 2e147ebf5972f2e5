"""What is known of topics: which name an id stands for, and the settings that decide how they are sealed.

Both come from the broker, which isn't trusted: an id keeps its first name, and leads to a plain topic only for
the client that was given it.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

MAX_NAMES = 1_000_000
"""Topic ids, and pairs of client and topic id, that are remembered: a bound on what a broker that invents topics can
take of memory, far over what clusters have."""

MAX_SETTINGS = 100_000
"""Topics whose settings are remembered: a client may name any number that it may not describe."""

DEFAULT_MAX_MESSAGE_BYTES = 1_048_588
"""Kafka's own. Presumed of topics whose limit isn't known, to compress and to read by, never to refuse by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSettings:
    """The settings of a topic by their names in Kafka, or why they can't be read. None: not told."""

    cleanup_policy: frozenset[str] = frozenset()
    compression_type: str | None = None
    max_message_bytes: int | None = None
    message_timestamp_type: str | None = None
    message_timestamp_before_max_ms: int | None = None
    message_timestamp_after_max_ms: int | None = None
    unreadable: str | None = None
    is_limit_refused: bool = False
    """Raising max_message_bytes was refused, and isn't tried again while these settings are believed."""

    @property
    def is_compacted(self) -> bool:
        """Whether the log cleaner drops records by key."""
        return "compact" in self.cleanup_policy


TopicName = tuple[str, bytes]
"""A name, and the topic id that it goes with."""


class TopicNames:
    """Topic ids and their names (KIP-516), shared by all connections of a process.

    One process answers for itself. A worker's names (`agreed_names`) are a copy of what its parent holds for all: there
    the methods below that wait, wait for the parent.
    """

    is_copy: ClassVar[bool] = False
    """Whether somebody else may know what isn't known here."""

    def __init__(self) -> None:
        self._names: dict[bytes, str] = {}
        self._given: OrderedDict[tuple[object, bytes], None] = OrderedDict()
        self._ids: dict[str, bytes] = {}
        self._former: set[bytes] = set()  # ids of topics that were made again: they never come back

    def find(self, topic_id: bytes) -> str | None:
        """Return the topic's name, None if it isn't known."""
        return self._names.get(topic_id)

    def learn(self, topic_id: bytes, name: str) -> str:
        """Take note of an id's name unless it has one, and return the name that it has.

        An id is never given to another topic by an honest broker, so the first name stays. Once there are too many
        ids, new ones stay unknown: to forget one would let it have a second name.
        """
        if len(self._names) >= MAX_NAMES and topic_id not in self._names:
            return name
        known = self._names.setdefault(topic_id, name)
        if known == name:
            self._note_id(topic_id, name)
        return known

    def id_of(self, name: str) -> bytes | None:
        """Return the id of the topic that has this name now, as far as the broker has said."""
        return self._ids.get(name)

    def _note_id(self, topic_id: bytes, name: str) -> None:
        """The broker says that the topic exists. A broker that lags behind may say it of one that was deleted."""
        before = self._ids.get(name)
        if topic_id != before and topic_id not in self._former:
            self._ids[name] = topic_id
            if before is not None:
                self._former.add(before)

    def give(self, client: object, topic_id: bytes) -> None:
        """Take note that this client was told the id's name."""
        key = (client, topic_id)
        if key not in self._given:
            self._given[key] = None
            if len(self._given) > MAX_NAMES:
                self._given.popitem(last=False)

    def was_given(self, client: object, topic_id: bytes) -> bool:
        """Whether this client was told the id's name."""
        return (client, topic_id) in self._given

    def unagreed(self, client: object, names: Iterable[TopicName]) -> Sequence[TopicName]:  # noqa: ARG002
        """Return the names that must be agreed before this client is told them."""
        return ()

    async def agree(self, client: object | None, names: Sequence[TopicName]) -> None:
        """Agree on the names with the other workers, and note them as given to the client, if one is named."""

    async def look_up(self, topic_ids: Sequence[bytes]) -> None:
        """Learn the names that the other workers know of these ids."""

    async def look_for_gift(self, client: object, topic_id: bytes) -> None:
        """Learn whether the client was told the id by way of another worker."""


class SettingsCache:
    """Topic settings, each for a limited time: admins and brokers change them where the proxy can't see it."""

    def __init__(self, lifetime_seconds: float, tell: Callable[[Sequence[str]], None] | None = None) -> None:
        """`tell` hears of the topics that somebody changes: other workers have settings of them too."""
        self._lifetime = lifetime_seconds
        self._tell = tell
        self._entries: dict[str, tuple[float, TopicSettings]] = {}
        self._doubts: dict[str, float] = {}

    def live(self, lifetime_seconds: float) -> None:
        """Believe what is learnt from now on for so long."""
        self._lifetime = lifetime_seconds

    def __len__(self) -> int:
        """How many topics' settings are held, those included that are to be read again."""
        return len(self._entries)

    def find(self, topic: str, now: float) -> TopicSettings | None:
        """Return the settings, None if they must be read (again). `now` is monotonic, in seconds."""
        entry = self._entries.get(topic)
        if entry is None or entry[0] <= now:
            return None
        return entry[1]

    def last(self, topic: str) -> TopicSettings | None:
        """Return the settings however old they are, None if they were never read, or are known to have changed."""
        entry = self._entries.get(topic)
        return None if entry is None else entry[1]

    def learn(self, topic: str, settings: TopicSettings, now: float) -> None:
        """Keep the settings for their lifetime, unless there is no room: then all are read again."""
        if len(self._entries) >= MAX_SETTINGS and topic not in self._entries:
            self._entries.clear()
            self._doubts.clear()
        self._entries[topic] = (now + self._lifetime, settings)

    def drop(self, topics: Sequence[str]) -> None:
        """Forget the settings: somebody changes them."""
        self.forget(topics)
        if self._tell is not None and topics:
            self._tell(topics)

    def forget(self, topics: Iterable[str]) -> None:
        """Forget the settings, and tell nobody."""
        for topic in topics:
            self._entries.pop(topic, None)

    def doubt(self, topic: str, now: float, *, sealed_at: float) -> bool:
        """Forget settings that the broker's answer to a batch speaks against.

        False if they were read again before the batch was sealed, and a moment ago: then they are right. Several
        batches may be under way that were sealed by the same doubtful settings.
        """
        doubted_at = self._doubts.get(topic)
        if doubted_at is not None and sealed_at < doubted_at:
            return True
        self.forget([topic])
        if doubted_at is not None and now < doubted_at + self._lifetime:
            return False
        self._doubts[topic] = now
        return True
