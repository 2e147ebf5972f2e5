"""A session between a client and a broker that are both played by the test: frames in, frames out, no sockets.

    talk = Conversation(folder, topics=[{"match": "logs", "seal": "none"}])
    number = talk.client(3, 12, {"topics": None})            # a request, numbered by itself
    assert talk.to_broker == [...]                           # taken out when looked at
    talk.broker(3, 12, number, {"brokers": [...]})
    (answer,) = talk.to_client

Needs are met from what the test put into `settings`, `names` and `records`, keys from a real key file.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kio.index import load_request_schema, load_response_schema

from kveil.protocol.kafka.headers import RequestHeader, read_request_header
from kveil.protocol.kafka.messages import encode_request, encode_response
from kveil.proxy.addresses import Brokers, Endpoint, LocalPorts
from kveil.proxy.budget import BufferBudget
from kveil.proxy.config import Direction, Settings
from kveil.proxy.context import Connection, Shared
from kveil.proxy.errors import QuestionFailed
from kveil.proxy.keys.keyfile import new_key_file
from kveil.proxy.keys.keyfile_store import create_key_file
from kveil.proxy.keys.opening import open_record_keys
from kveil.proxy.keys.providers.keyfile import KeyFileProvider
from kveil.proxy.needs import (
    AgreementNeed,
    GiftNeed,
    HidingKeyNeed,
    Need,
    OpeningKeyNeed,
    PasswordNeed,
    ReadRecords,
    RecordKeysNeed,
    RecordsNeed,
    SealingKeyNeed,
    TopicNameNeed,
    TopicSettingsNeed,
)
from kveil.proxy.policy import Policy
from kveil.proxy.session import Parked, Session
from kveil.proxy.topics import SettingsCache, TopicNames, TopicSettings
from tests.support.key_log import KeyTopic
from tests.support.key_rings import key_file_ring
from tests.support.kio_instances import header_of, kio_decode

PORT = 5000
BROKER_PORTS = 10
REALM = "test"
DELETED = TopicSettings(cleanup_policy=frozenset({"delete"}), max_message_bytes=1_048_588)
COMPACTED = TopicSettings(cleanup_policy=frozenset({"compact"}))


class Clock:
    """Seconds, moved by the test."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class CapturedLog:
    """The lines that a connection wrote."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def _write(self, level: str, event: str, values: Mapping[str, Any]) -> None:
        self.lines.append({"level": level, "event": event, **values})

    def info(self, event: str, **values: Any) -> None:
        self._write("info", event, values)

    def warning(self, event: str, **values: Any) -> None:
        self._write("warning", event, values)

    def error(self, event: str, **values: Any) -> None:
        self._write("error", event, values)

    def exception(self, event: str, **values: Any) -> None:
        self._write("exception", event, values)

    def bind(self, **values: Any) -> "CapturedLog":
        return self

    def of(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == event]


def key_file(folder: Path) -> Path:
    """The key file in a folder, made when first asked for."""
    path = folder / "keys.json"
    if not path.exists():
        create_key_file(path, new_key_file(realm=REALM, names=("default", "eu")))
    return path


def make_shared(
    folder: Path,
    *,
    upstream: str = "broker:9092",
    to_cluster: Mapping[str, Any] | None = None,
    clock: Clock | None = None,
    provider: Any = None,
    key_topic: KeyTopic | None = None,
    announced_keys: Any = None,
    **config: Any,
) -> Shared:
    """What all connections of one proxy have in common, as `server.serve` puts it together. Record keys' keys are on
    the key topic that is given, or on one of its own.
    """
    settings = Settings.model_validate(
        {
            "upstream": {"bootstrap": [upstream], **(to_cluster or {})},
            "broker_ports": {"count": BROKER_PORTS},
            "keys": {"path": str(key_file(folder))},
            **config,
        }
    )
    clock = clock or Clock()
    policy = Policy(settings)
    ring = key_file_ring(provider or KeyFileProvider(settings.keys.path), limits=settings.limits, clock=clock)
    record_keys = open_record_keys(settings, policy, ring)
    if record_keys is not None:
        (key_topic or KeyTopic()).followed_by(record_keys)
    return Shared(
        settings=settings,
        policy=policy,
        keys=ring,
        record_keys=record_keys,
        announced_keys=announced_keys,
        brokers=Brokers(),
        budget=BufferBudget(settings.limits.buffered_bytes),
        topic_names=TopicNames(),
        topic_settings=SettingsCache(settings.limits.topic_settings_seconds),
        now=clock,
        unix_time=clock,
    )


def make_connection(
    shared: Shared, *, direction: str = "both", node_id: int | None = None, **values: Any
) -> Connection:
    """One client's connection, as `Server._accept` makes it."""
    settings = shared.settings
    return Connection(
        shared=shared,
        log=CapturedLog(),
        direction=Direction(direction),
        ports=LocalPorts(PORT, settings.broker_ports.count, settings.node_ports(settings.listeners[0])),
        host="127.0.0.1",
        node_id=node_id,
        peer="127.0.0.1",
        **values,
    )


class Conversation:
    """A client, the session, a broker."""

    def __init__(
        self,
        folder: Path,
        *,
        shared: Shared | None = None,
        direction: str = "both",
        node_id: int | None = None,
        is_guest: bool = False,
        upstream: Endpoint | None = None,
        tracer: Any = None,
        **config: Any,
    ) -> None:
        self.shared = shared or make_shared(folder, **config)
        self.clock = self.shared.now
        self.connection = make_connection(
            self.shared, direction=direction, node_id=node_id, is_guest=is_guest, upstream=upstream, tracer=tracer
        )
        self.log: CapturedLog = self.connection.log
        self.session = Session(self.connection)
        self.settings: dict[str, TopicSettings | Exception] = {}
        self.names: dict[bytes, str | Exception] = {}
        self.records: Callable[[RecordsNeed], ReadRecords] = _no_records
        self.needed: list[Need] = []
        self.throttle_ms = 0
        self._numbers = 100

    # The client's part -------------------------------------------------------------------------------------------

    def client(self, api_key: int, version: int, values: Mapping[str, Any] | None = None, **options: Any) -> int:
        """Send a request and meet its needs; returns its correlation id."""
        number = self.park(api_key, version, values, **options)
        self.meet()
        return number

    def park(
        self,
        api_key: int,
        version: int,
        values: Mapping[str, Any] | None = None,
        *,
        number: int | None = None,
        client_id: str | None = "app",
    ) -> int:
        """Send a request and leave it parked if it has needs."""
        if number is None:
            number = self._numbers = self._numbers + 1
        self.client_frame(encode_request(api_key, version, number, client_id, values or {}))
        return number

    def client_frame(self, frame: bytes) -> Parked | None:
        """Send bytes that may be a request. They lie in a buffer that is used again afterwards."""
        buffer = bytearray(frame)
        parked = self.session.receive_request(memoryview(buffer))
        buffer[:] = bytes(len(buffer))
        return parked

    @property
    def to_client(self) -> list[bytes]:
        """The frames that the client got since last asked."""
        frames = split_frames(self.session.to_client)
        self.session.to_client = []
        return frames

    # The broker's part -------------------------------------------------------------------------------------------

    def broker(self, api_key: int, version: int, number: int, values: Mapping[str, Any] | None = None) -> None:
        """Answer, and meet the needs of the answer."""
        self.broker_frame(encode_response(api_key, version, number, values or {}))
        self.meet()

    def broker_frame(self, frame: bytes) -> Parked | None:
        """Answer with bytes. They lie in a buffer that is used again afterwards."""
        buffer = bytearray(frame)
        parked = self.session.receive_response(memoryview(buffer))
        self._finish_steps()
        self.session.to_client = [bytes(piece) for piece in self.session.to_client]
        buffer[:] = bytes(len(buffer))
        return parked

    @property
    def to_broker(self) -> list[bytes]:
        """The frames that the broker got since last asked."""
        frames = split_frames(self.session.to_broker)
        self.session.to_broker = []
        return frames

    # The shell's part --------------------------------------------------------------------------------------------

    def meet(self) -> None:
        """Meet the needs of whatever is parked, until nothing is, and finish large answers."""
        for _ in range(50):
            self._finish_steps()
            if parked := self.session.parked_request:
                self._meet(parked)
                self.session.resume_request()
            elif parked := self.session.parked_response:
                self._meet(parked)
                self.session.resume_response()
            else:
                return
        raise AssertionError("it is parked again and again")

    def _finish_steps(self) -> None:
        while self.session.has_begun:
            self.session.step_response()

    def _meet(self, parked: Parked) -> None:
        parked.throttle_ms += self.throttle_ms
        for need in parked.needs:
            self.needed.append(need)
            try:
                if isinstance(need, RecordsNeed):
                    parked.read[need] = self.records(need)
                else:
                    self._meet_one(need)
            except Exception as error:
                parked.failures[need] = error

    def _meet_one(self, need: Need) -> None:
        shared = self.shared
        match need:
            case TopicSettingsNeed(topic):
                found = self.settings.get(topic, DELETED)
                if isinstance(found, Exception):
                    raise found
                shared.topic_settings.learn(topic, found, shared.now())
            case TopicNameNeed(topic_id):
                self._meet_name(topic_id)
            case AgreementNeed(client, names):
                asyncio.run(shared.topic_names.agree(client, names))
            case GiftNeed(client, topic_id):
                asyncio.run(shared.topic_names.look_for_gift(client, topic_id))
                if not shared.topic_names.was_given(client, topic_id):
                    raise QuestionFailed("not given")
            case PasswordNeed():
                need.check()
            case SealingKeyNeed(topic, rule):
                asyncio.run(shared.sealing_keys(rule.key.provider).renew(topic, rule))
            case OpeningKeyNeed(topic, partition, kid, block, rule):
                asyncio.run(shared.keys_for(block.provider).unwrap(topic, partition, kid, block, rule))
            case RecordKeysNeed(topic, rule, record_ids):
                asyncio.run(shared.record_keys.prepare(topic, rule, record_ids))
            case HidingKeyNeed():
                asyncio.run(shared.keys.unwrap_hiding_key())

    def _meet_name(self, topic_id: bytes) -> None:
        """Ask the other workers, then the broker."""
        names = self.shared.topic_names
        asyncio.run(names.look_up([topic_id]))
        if names.find(topic_id) is None:
            name = self.names.get(topic_id, KeyError("no such id"))
            if isinstance(name, Exception):
                raise name
            asyncio.run(names.agree(None, [(name, topic_id)]))
            names.learn(topic_id, name)


def _no_records(need: RecordsNeed) -> ReadRecords:
    raise QuestionFailed(f"no records of {need.topic}")


def split_frames(pieces: Sequence[Any]) -> list[bytes]:
    """The frames in what was written to one side."""
    stream, frames = b"".join(pieces), []
    while stream:
        end = 4 + int.from_bytes(stream[:4], "big")
        assert end <= len(stream), "a frame is shorter than it says"
        frames.append(stream[4:end])
        stream = stream[end:]
    return frames


def read_request(frame: bytes) -> tuple[RequestHeader, Any]:
    """A request's header and kio's reading of the rest."""
    header = read_request_header(frame)
    schema = load_request_schema(header.api_key, header.api_version)
    return header, kio_decode(schema, frame, len(header_of(schema, client_id=header.client_id)))


def read_response(api_key: int, version: int, frame: bytes) -> Any:
    """Kio's reading of an answer; its correlation id under `number`."""
    schema = load_response_schema(api_key, version)
    return kio_decode(schema, frame, len(header_of(schema)))


def number_of(frame: bytes) -> int:
    """An answer's correlation id."""
    return int.from_bytes(frame[:4], "big", signed=True)
