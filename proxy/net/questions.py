"""The proxy's own questions, on a client's connection and with its rights: topic settings and topic names."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from kveil.protocol.kafka.api_table import API_TABLE, ApiKey
from kveil.protocol.kafka.errors import FrameError
from kveil.protocol.kafka.messages import decode_response
from kveil.protocol.kafka.splice import FrozenShape, Want, response_walker
from kveil.proxy.admin.audit import audit
from kveil.proxy.apis.metadata import Metadata, learn_names, named_ids
from kveil.proxy.apis.topic_configs import limit_change, read_settings, settings_question
from kveil.proxy.config import Mode
from kveil.proxy.errors import QuestionFailed
from kveil.proxy.log import log_limited
from kveil.proxy.needs import AgreementNeed, GiftNeed, MessageLimitNeed, Need, TopicNameNeed, TopicSettingsNeed
from kveil.proxy.session import Parked, Session
from kveil.proxy.topics import TopicSettings

ANSWER_SECONDS = 25
"""How long an answer may take: less than the 30 s after which clients give up on a request."""

_METADATA_BY_ID = 12

_NAMES = FrozenShape({"throttle_time": Want.VALUE, "topics": Metadata.RESPONSE.fields["topics"]})


class Questions:
    """Asks on one session. `ready` waits for a login of the proxy's own, between whose tokens nothing may go out."""

    def __init__(
        self, session: Session, flush: Callable[[], None], ready: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self._session = session
        self._ready = ready
        self.connection = session.connection
        self._flush = flush

    async def meet(self, parked: Parked) -> None:
        """Meet the needs of a parked frame that the broker can meet; note the others as failures."""
        topics = [need.topic for need in parked.needs if isinstance(need, TopicSettingsNeed)]
        ids = [need.topic_id for need in parked.needs if isinstance(need, TopicNameNeed)]
        if topics:
            await self._note_failures(
                parked, map(TopicSettingsNeed, topics), lambda: self._read_settings(parked, topics)
            )
        for need in parked.needs:
            if isinstance(need, MessageLimitNeed):
                await self._note_failures(parked, [need], partial(self._raise_limit, parked, need))
        if ids:
            await self._note_failures(parked, map(TopicNameNeed, ids), lambda: self._find_names(parked, ids))
        await self._ask_workers(parked)

    async def _ask_workers(self, parked: Parked) -> None:
        """Meet the needs of what all workers must know alike."""
        names = self.connection.shared.topic_names
        for need in parked.needs:
            if isinstance(need, AgreementNeed):
                await names.agree(need.client, need.names)
            elif isinstance(need, GiftNeed):
                await names.look_for_gift(need.client, need.topic_id)
                if not names.was_given(need.client, need.topic_id):
                    parked.failures[need] = QuestionFailed("the client was not told this topic id")

    async def _note_failures(self, parked: Parked, needs: Iterable[Need], ask: Callable[[], Any]) -> None:
        try:
            await ask()
        except (QuestionFailed, FrameError) as error:
            parked.failures.update(dict.fromkeys(needs, error))

    async def _read_settings(self, parked: Parked, topics: list[str]) -> None:
        """Learn the settings of topics (DescribeConfigs, KIP-133)."""
        shared = self.connection.shared
        version = await self.version(ApiKey.DESCRIBE_CONFIGS)
        if version is None:
            unreadable = TopicSettings(unreadable="the broker doesn't offer DescribeConfigs")
            for topic in topics:
                self._log_unreadable(topic, str(unreadable.unreadable))
                shared.topic_settings.learn(topic, unreadable, shared.now())
            return
        frame = await self.ask(ApiKey.DESCRIBE_CONFIGS, version, settings_question(topics))
        answer = decode_response(ApiKey.DESCRIBE_CONFIGS, version, frame)
        parked.throttle_ms += round(answer.throttle_time.total_seconds() * 1000)
        for topic, settings in read_settings(answer, topics).items():
            if isinstance(settings, TopicSettings):
                if settings.unreadable:
                    self._log_unreadable(topic, settings.unreadable)
                shared.topic_settings.learn(topic, settings, shared.now())
            else:
                parked.failures[TopicSettingsNeed(topic)] = settings

    async def _raise_limit(self, parked: Parked, need: MessageLimitNeed) -> None:
        """Raise a topic's max.message.bytes (IncrementalAlterConfigs, KIP-339), or go on with the one it has."""
        cache, now = self.connection.shared.topic_settings, self.connection.shared.now
        settings = cache.find(need.topic, now())
        version = await self.version(ApiKey.INCREMENTAL_ALTER_CONFIGS)
        if settings is None or version is None:
            raise QuestionFailed("the limit can't be raised now")
        change = limit_change(need.topic, need.max_message_bytes)
        frame = await self.ask(ApiKey.INCREMENTAL_ALTER_CONFIGS, version, change)
        answer = decode_response(ApiKey.INCREMENTAL_ALTER_CONFIGS, version, frame)
        parked.throttle_ms += round(answer.throttle_time.total_seconds() * 1000)
        (result,) = answer.responses
        if result.error_code:
            log_limited(
                self.connection.log.warning,
                "message_limit_not_raised",
                key=need.topic,
                topic=need.topic,
                error=result.error_code.name,
                reason=result.error_message,
            )
            cache.learn(need.topic, replace(settings, is_limit_refused=True), now())
            raise QuestionFailed(f"the broker answered {result.error_code.name}")
        audit("topic.limit_raised", need.topic, before=settings.max_message_bytes, after=need.max_message_bytes)
        cache.learn(need.topic, replace(settings, max_message_bytes=need.max_message_bytes), now())

    def _log_unreadable(self, topic: str, reason: str) -> None:
        if self.connection.shared.policy.rule_for(topic).mode is not Mode.AUTO:
            return
        log_limited(
            self.connection.log.warning,
            "topic_settings_unreadable",
            key=topic,
            topic=topic,
            reason=f"{reason}: its records are sealed one by one, which is right for every topic. For whole batches "
            "grant DESCRIBE_CONFIGS on the topic, or set `mode: batch` in its rule if it isn't compacted",
        )

    async def _find_names(self, parked: Parked, ids: list[bytes]) -> None:
        """Learn the names of topic ids: from another worker that knows them, else from the broker."""
        names = self.connection.shared.topic_names
        await names.look_up(ids)
        unknown = [topic_id for topic_id in ids if names.find(topic_id) is None]
        if unknown:
            await self._read_names(parked, unknown)

    async def _read_names(self, parked: Parked, ids: list[bytes]) -> None:
        """Learn the names of topic ids (Metadata by id, KIP-516)."""
        version = await self.version(ApiKey.METADATA)
        if version is None or version < _METADATA_BY_ID:
            raise QuestionFailed("the broker's Metadata doesn't take topic ids")
        values = {
            "topics": [{"topic_id": topic_id, "name": None} for topic_id in ids],
            "allow_auto_topic_creation": False,
        }
        frame = await self.ask(ApiKey.METADATA, version, values)
        (throttle_ms, topics), _ = response_walker(ApiKey.METADATA, version, _NAMES)(frame)
        parked.throttle_ms += throttle_ms
        names = self.connection.shared.topic_names
        await names.agree(None, list(named_ids(topics)))
        learn_names(topics, self.connection)
        missing = QuestionFailed("the broker knows no such topic id")
        parked.failures.update({TopicNameNeed(topic_id): missing for topic_id in ids if names.find(topic_id) is None})

    async def version(self, api_key: int, limit: int = 32767) -> int | None:
        """Return the highest version up to `limit` that both this broker and the proxy can, None if there is none."""
        if self.connection.versions is None:
            frame = await self.ask(ApiKey.API_VERSIONS, 0, {})
            answer = decode_response(ApiKey.API_VERSIONS, 0, frame)
            self.connection.versions = {row.api_key: (row.min_version, row.max_version) for row in answer.api_keys}
        row = API_TABLE[api_key]
        low, high = self.connection.versions.get(api_key, (0, -1))
        version = min(high, row.max_version, limit)
        return version if version >= max(low, row.min_version) else None

    async def ask(self, api_key: int, version: int, values: Mapping[str, Any]) -> memoryview:
        """Return the frame of the answer.

        :raises QuestionFailed: there is none in time, or none may be asked for now.
        """
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
