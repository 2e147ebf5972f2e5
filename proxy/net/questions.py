"""The proxy's own questions, on a client's connection and with its rights: topic settings and topic names."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from kveil.protocol.kafka.api_table import API_TABLE, ApiKey
from kveil.protocol.kafka.errors import FrameError
from kveil.protocol.kafka.messages import decode_response
from kveil.protocol.kafka.splice import FrozenShape, Want, response_walker
from kveil.proxy.apis.metadata import Metadata, learn_names
from kveil.proxy.errors import ErrorCode, QuestionFailed, Refused
from kveil.proxy.needs import Need, TopicNameNeed, TopicSettingsNeed
from kveil.proxy.session import Parked, Session
from kveil.proxy.topics import TopicSettings

ANSWER_SECONDS = 25
"""How long an answer may take: less than the 30 s after which clients give up on a request."""

_TOPIC = 2
_METADATA_BY_ID = 12
_SETTINGS = ("cleanup.policy", "max.message.bytes")
_DENIED = frozenset({29, 31})
"""TOPIC_AUTHORIZATION_FAILED and CLUSTER_AUTHORIZATION_FAILED."""


_NAMES = FrozenShape({"throttle_time": Want.VALUE, "topics": Metadata.RESPONSE.fields["topics"]})


class Questions:
    """Asks on one session. `ready` waits for a login of the proxy's own, between whose tokens nothing may go out."""

    def __init__(
        self, session: Session, flush: Callable[[], None], ready: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self._session = session
        self._ready = ready
        self._connection = session.connection
        self._flush = flush

    async def meet(self, parked: Parked) -> None:
        """Meet the needs of a parked frame that the broker can meet; note the others as failures."""
        topics = [need.topic for need in parked.needs if isinstance(need, TopicSettingsNeed)]
        ids = [need.topic_id for need in parked.needs if isinstance(need, TopicNameNeed)]
        if topics:
            await self._note_failures(
                parked, map(TopicSettingsNeed, topics), lambda: self._read_settings(parked, topics)
            )
        if ids:
            await self._note_failures(parked, map(TopicNameNeed, ids), lambda: self._read_names(parked, ids))

    async def _note_failures(self, parked: Parked, needs: Iterable[Need], ask: Callable[[], Any]) -> None:
        try:
            await ask()
        except (QuestionFailed, FrameError) as error:
            parked.failures.update(dict.fromkeys(needs, error))

    async def _read_settings(self, parked: Parked, topics: list[str]) -> None:
        """Learn the settings of topics (DescribeConfigs, KIP-133)."""
        shared = self._connection.shared
        version = await self._version(ApiKey.DESCRIBE_CONFIGS)
        if version is None:
            unreadable = TopicSettings(unreadable="the broker doesn't offer DescribeConfigs")
            for topic in topics:
                shared.topic_settings.learn(topic, unreadable, shared.now())
            return
        resources = [
            {"resource_type": _TOPIC, "resource_name": topic, "configuration_keys": _SETTINGS} for topic in topics
        ]
        frame = await self._ask(ApiKey.DESCRIBE_CONFIGS, version, {"resources": resources})
        answer = decode_response(ApiKey.DESCRIBE_CONFIGS, version, frame)
        parked.throttle_ms += round(answer.throttle_time.total_seconds() * 1000)
        results = {result.resource_name: result for result in answer.results}
        for topic in topics:
            settings = _settings(results.get(topic))
            if isinstance(settings, TopicSettings):
                shared.topic_settings.learn(topic, settings, shared.now())
            else:
                parked.failures[TopicSettingsNeed(topic)] = settings

    async def _read_names(self, parked: Parked, ids: list[bytes]) -> None:
        """Learn the names of topic ids (Metadata by id, KIP-516)."""
        version = await self._version(ApiKey.METADATA)
        if version is None or version < _METADATA_BY_ID:
            raise QuestionFailed("the broker's Metadata doesn't take topic ids")
        values = {
            "topics": [{"topic_id": topic_id, "name": None} for topic_id in ids],
            "allow_auto_topic_creation": False,
        }
        frame = await self._ask(ApiKey.METADATA, version, values)
        (throttle_ms, topics), _ = response_walker(ApiKey.METADATA, version, _NAMES)(frame)
        parked.throttle_ms += throttle_ms
        learnt = learn_names(topics, self._connection)
        missing = QuestionFailed("the broker knows no such topic id")
        parked.failures.update({TopicNameNeed(topic_id): missing for topic_id in ids if topic_id not in learnt})

    async def _version(self, api_key: int) -> int | None:
        """Return the highest version that both this broker and the proxy can, None if there is none."""
        if self._connection.versions is None:
            frame = await self._ask(ApiKey.API_VERSIONS, 0, {})
            answer = decode_response(ApiKey.API_VERSIONS, 0, frame)
            self._connection.versions = {row.api_key: (row.min_version, row.max_version) for row in answer.api_keys}
        row = API_TABLE[api_key]
        low, high = self._connection.versions.get(api_key, (0, -1))
        version = min(high, row.max_version)
        return version if version >= max(low, row.min_version) else None

    async def _ask(self, api_key: int, version: int, values: Mapping[str, Any]) -> memoryview:
        if self._ready is not None:
            await self._ready()
        answered: asyncio.Future[memoryview] = asyncio.get_running_loop().create_future()

        def take(frame: memoryview) -> None:
            if not answered.done():
                answered.set_result(memoryview(bytes(frame)))

        self._session.ask(api_key, version, values, take)
        self._flush()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await answered
        except TimeoutError as error:
            raise QuestionFailed(f"the broker didn't answer within {ANSWER_SECONDS} s") from error


def _settings(result: Any) -> TopicSettings | Exception:
    """Return what DescribeConfigs says of a topic, or why it says nothing now."""
    if result is None:
        return QuestionFailed("the broker's answer leaves the topic out")
    code = int(result.error_code)
    if code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
        return Refused(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "the broker knows no such topic")
    if code in _DENIED:
        return TopicSettings(unreadable="DESCRIBE_CONFIGS is denied to this client")
    if code:
        return QuestionFailed(f"the broker answered {result.error_code.name}")
    values = {config.name: config.value for config in result.configs}
    policy = values.get("cleanup.policy")
    if policy is None:
        return TopicSettings(unreadable="the broker's answer has no cleanup.policy")
    limit = values.get("max.message.bytes")
    return TopicSettings(
        cleanup_policy=frozenset(part.strip() for part in policy.split(",")),
        max_message_bytes=int(limit) if limit and limit.isdigit() else None,
    )
