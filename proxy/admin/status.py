"""What one process tells people of itself: topics and how they are sealed, clients, refusals. Nothing secret."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from kveil.proxy.admin.metrics import OTHER_TOPICS, TopicCounts
from kveil.proxy.admin.survey import Survey
from kveil.proxy.apis.sealing import sealing_mode

MOST: Final = 50
"""Topics, and clients, that are told of: those with the most bytes, or connections."""


def status_of(survey: Survey) -> dict[str, Any]:
    """Return it as JSON can hold it."""
    return {
        "topics": list(_topics(survey)),
        "clients": list(_clients(survey)),
        "refusals": [refusal._asdict() for refusal in survey.shared.metrics.recent_refusals],
    }


def _topics(survey: Survey) -> Iterator[dict[str, Any]]:
    """Yield the topics that had traffic, and with what they are sealed now."""
    shared = survey.shared
    now, epochs = shared.now(), shared.survey_keys().epochs
    for topic, _ in sorted(shared.metrics.topics.items(), key=lambda item: -_nbytes(item[1]))[:MOST]:
        if topic == OTHER_TOPICS:
            continue
        rule = shared.policy.rule_for(topic)
        epoch = epochs.get(topic)
        settings = shared.topic_settings.find(topic, now)
        yield {
            "topic": topic,
            "decided_by": shared.policy.matched_by(topic),
            "mode": sealing_mode(rule.mode, settings).value if epoch else None,
            "key": str(rule.key),
            "version": epoch.version if epoch else None,
            "age_seconds": epoch.age_seconds if epoch else None,
        }


def _nbytes(counts: TopicCounts) -> int:
    return counts.sealed_bytes + counts.opened_bytes


def _clients(survey: Survey) -> Iterator[dict[str, Any]]:
    """Yield the applications that are connected, with how many connections each has."""
    found = Counter(
        (one.connection.client_id, one.connection.peer, one.connection.principal) for one in list(survey.served)
    )
    for (client_id, address, principal), connections in found.most_common(MOST):
        yield {"client_id": client_id, "address": address, "principal": principal, "connections": connections}
