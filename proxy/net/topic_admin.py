"""What commands ask and change of topics, over the proxy's own client."""

from collections.abc import Sequence

from kveil.protocol.kafka.api_table import ApiKey
from kveil.proxy.errors import QuestionFailed
from kveil.proxy.net.own_client import OwnClient
from kveil.proxy.net.questions import SET, TOPIC, TOPIC_SETTINGS, read_settings
from kveil.proxy.topics import TopicSettings


async def describe_topics(client: OwnClient, topics: Sequence[str]) -> dict[str, TopicSettings | Exception]:
    """Return each topic's settings, or why they can't be had.

    :raises QuestionFailed: the cluster can't be asked.
    """
    resources = [
        {"resource_type": TOPIC, "resource_name": topic, "configuration_keys": TOPIC_SETTINGS} for topic in topics
    ]
    answer = await client.ask(ApiKey.DESCRIBE_CONFIGS, {"resources": resources})
    results = {result.resource_name: result for result in answer.results}
    return {topic: read_settings(results.get(topic)) for topic in topics}


async def set_message_limit(client: OwnClient, topic: str, max_message_bytes: int) -> None:
    """Set a topic's max.message.bytes.

    :raises QuestionFailed: the cluster doesn't do it.
    """
    change = {"name": "max.message.bytes", "config_operation": SET, "value": str(max_message_bytes)}
    resource = {"resource_type": TOPIC, "resource_name": topic, "configs": [change]}
    answer = await client.ask(ApiKey.INCREMENTAL_ALTER_CONFIGS, {"resources": [resource], "validate_only": False})
    (result,) = answer.responses
    if result.error_code:
        reason = f": {result.error_message}" if result.error_message else ""
        raise QuestionFailed(f"{topic}: the broker answered {result.error_code.name}{reason}")
