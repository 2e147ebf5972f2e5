"""Whether this client may use a topic: the one place where rules that name principals are applied to requests."""

from functools import partial

from kveil.proxy.admin.audit import audit
from kveil.proxy.context import Connection
from kveil.proxy.errors import ErrorCode, Refused
from kveil.proxy.log import log_limited
from kveil.proxy.policy import Rule, Use


def check_access(connection: Connection, topic: str, rule: Rule, use: Use) -> None:
    """Let the client's principal pass if the rule names it, or names nobody.

    :raises Refused: it doesn't. Logged and audited, not more often than every few seconds.
    """
    principal = connection.principal
    if rule.admits(use, principal):
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
    topic = str(values.pop("topic"))
    audit("access.refused", topic, **values)
