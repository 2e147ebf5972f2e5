"""Whether this client may use a topic: the one place where rules that name principals are applied to requests."""

from functools import partial
from typing import Final

from kveil.proxy.admin.audit import audit
from kveil.proxy.context import Connection
from kveil.proxy.errors import ErrorCode, Refused
from kveil.proxy.log import RepeatLimit, log_limited
from kveil.proxy.policy import OWN_PRINCIPAL, Rule, Use

REMEMBERED: Final = 10_000
"""Topics of one connection whose use was audited. Names come from clients."""

_grants = RepeatLimit()
"""Apart from the log's: a client that connects again and again must not hide what else is told."""


def check_access(connection: Connection, topic: str, rule: Rule, use: Use) -> None:
    """Let the client's principal pass if the rule names it, or names nobody. Audited once for a connection.

    :raises Refused: it doesn't. Logged and audited, not more often than every few seconds.
    """
    principal = connection.principal
    if rule.admits(use, principal):
        if topic not in connection.granted[use]:
            _note_granted(connection, topic, rule, use)
        return
    log_limited(
        partial(_tell, connection),
        "access_refused",
        key=(topic, use, principal),
        topic=topic,
        use=use.value,
        principal=principal,
        client=connection.peer,
        rule=connection.shared.policy.matched_by(topic),
    )
    who = "a client that has not logged in here" if principal is None else principal
    raise Refused(ErrorCode.TOPIC_AUTHORIZATION_FAILED, f"{who} is not among the topic's {use.value}rs")


def may(connection: Connection, topic: str, use: Use) -> bool:
    """Whether `check_access` lets the client pass."""
    try:
        check_access(connection, topic, connection.shared.policy.rule_for(topic), use)
    except Refused:
        return False
    return True


def _tell(connection: Connection, event: str, **values: object) -> None:
    connection.log.warning(event, **values)
    rest = {name: value for name, value in values.items() if name not in {"topic", "principal", "client"}}
    audit("access.refused", str(values["topic"]), connection.cause, **rest)


def _note_granted(connection: Connection, topic: str, rule: Rule, use: Use) -> None:
    granted, principal = connection.granted[use], connection.principal
    if len(granted) >= REMEMBERED:
        granted.clear()
    granted.add(topic)
    if principal == OWN_PRINCIPAL:
        return
    log_limited(
        partial(_tell_granted, connection, topic),
        "access.granted",
        key=(topic, use, principal, connection.client),
        limit=_grants,
        use=use.value,
        sealed=rule.seal,
        rule=connection.shared.policy.matched_by(topic),
    )


def _tell_granted(connection: Connection, topic: str, _: str, **values: object) -> None:
    audit("access.granted", topic, connection.cause, **values)
