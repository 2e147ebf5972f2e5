"""What commands ask and change of topics, over the proxy's own client."""

from collections.abc import Sequence

from kveil.protocol.kafka.api_table import ApiKey
from kveil.proxy.apis.topic_configs import limit_change, read_settings, settings_question
from kveil.proxy.errors import QuestionFailed
from kveil.proxy.net.own_client import OwnClient
from kveil.proxy.topics import TopicSettings


async def describe_topics(client: OwnClient, topics: Sequence[str]) -> dict[str, TopicSettings | Exception]:
    """Return each topic's settings, or why they can't be had.

    :raises QuestionFailed: the cluster can't be asked.
    """
    return read_settings(await client.ask(ApiKey.DESCRIBE_CONFIGS, settings_question(topics)), topics)


async def set_message_limit(client: OwnClient, topic: str, max_message_bytes: int) -> None:
    """Set a topic's max.message.bytes.

    :raises QuestionFailed: the cluster doesn't do it.
    """
    answer = await client.ask(ApiKey.INCREMENTAL_ALTER_CONFIGS, limit_change(topic, max_message_bytes))
    (result,) = answer.responses
    if result.error_code:
        reason = f": {result.error_message}" if result.error_message else ""
        raise QuestionFailed(f"{topic}: the broker answered {result.error_code.name}{reason}")
