"""Decisions that somebody may have to answer for, as CloudEvents 1.0 in JSON.

    audit("plain.passed", "orders", connection.cause, rule="topics[0]", records=12)

`subject` is the resource. Who asked for it, and by which request, stands in `data`: as the caller says, else as
`caused_by` has it, which tasks inherit that work for a connection.

Events go to who `recorded_by` names, a `Trail` as a rule; else each is a log line `audit`, whatever the log's level.
"""

import os
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

from kveil.proxy.log import get_logger_at_every_level, redact

SPEC_VERSION: Final = "1.0"
TYPE_PREFIX: Final = "io.kveil."
MAX_TEXT: Final = 1024
"""Characters of a text that a client has chosen: its id may be 32 kB long."""
_log = get_logger_at_every_level(__name__)

Event = dict[str, Any]


# What can be decided. The names are for ever: others filter by them.
AuditType = Literal[
    "access.granted",  # a client begins to use a topic, and the rule lets it; subject: topic
    "access.refused",  # a rule names who may, and this client isn't named; subject: topic
    "batch.refused",  # a stored batch was changed, forged, or isn't for this reader; subject: topic/partition
    "config.changed",  # a reload has put other settings in force; subject: settings, or log.level
    "key.added",  # a key was made in the key file; subject: key
    "authority.created",  # a realm began; subject: realm
    "authority.restored",  # an authority took over from the topic what its backup hadn't; subject: realm
    "identity.enrolled",  # this node became a member of a realm; subject: its name
    "identity.granted",  # a member came to be, or may do more; subject: its name
    "identity.renewed",  # a member's credential got a later end; subject: its name
    "identity.revoked",  # a member isn't one any more; subject: its name
    "ticket.issued",  # whoever has it first becomes a member; subject: ticket
    "ticket.redeemed",  # a node became a member by it; subject: ticket
    "ticket.refused",  # a node came with it and got nothing; subject: ticket
    "key.created",  # an epoch key was made and wrapped; subject: topic
    "key.destroyed",  # a key or one of its versions was taken out of the key file for ever; subject: key
    "key.erased",  # the epoch keys of a record key are not to be used again; subject: topic
    "key.refused",  # an envelope's key is not to be had; subject: topic, or the realm for its key-hiding key
    "key.rotated",  # a key of the key file has a new version, which seals; subject: key
    "key.unwrapped",  # a reader's epoch key was unwrapped; subject: topic, or the realm for its key-hiding key
    "login.granted",  # a client has proved at the listener who it is; subject: principal
    "login.refused",  # it has not; subject: the user, `unknown` if there is none of that name
    "plain.passed",  # a rule let plain records through; subject: topic
    "proxy.started",  # a process begins to serve; subject: the digest of its configuration
    "proxy.stopped",  # it has served its last request; subject: the same
    "records.skipped",  # an operator's `skip` was applied; subject: topic/partition
    "topic.limit_raised",  # a topic's max.message.bytes was raised, as its rule says; subject: topic
    "topic.copied_plain",  # a sealed topic's records were copied into a plain one, as told; subject: the plain topic
    "key.regranted",  # a keeper handed an epoch key on; subject: topic
    "stream.alarm",  # batches of a producer are missing, or where they mustn't be; subject: topic/partition
    "identity.alarm",  # the control topic isn't as it must be; subject: a member, or the realm
    "topic.renamed",  # the broker gave a topic id a second name, which was refused; subject: the second name
    "user.added",  # the users file has another user; subject: user
    "user.changed",  # a user has another password; subject: user
    "user.removed",  # a user was taken out of the users file; subject: user
    "stream.restarted",  # a log was cut back, or its topic made again, says the cluster; subject: topic/partition
]


class Cause(NamedTuple):
    """Who asked for what was decided, and by which request."""

    principal: str | None
    """Who it is, proved to the proxy or to this host; None if nobody has asked."""
    client_id: str | None
    address: str | None
    operation: str | None
    """The name of the Kafka API, or of a command."""
    correlation_id: int | None


caused_by: ContextVar[Cause | None] = ContextVar("caused_by", default=None)


def audit(kind: AuditType, /, subject: str, cause: Cause | None = None, **data: object) -> Event:
    """Records one decision, and returns the event. `subject` is what it was about."""
    cause = cause or caused_by.get()
    event: Event = {
        "specversion": SPEC_VERSION,
        "id": str(uuid.uuid4()),
        "source": f"/kveil/{socket.gethostname()}/{os.getpid()}",
        "type": f"{TYPE_PREFIX}{kind}",
        "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "subject": subject,
        "datacontenttype": "application/json",
        "data": redact({**_told(cause), **data}),
    }
    _record(event)
    return event


def _told(cause: Cause | None) -> dict[str, object]:
    if cause is None:
        return {}
    found = {name: value[:MAX_TEXT] if isinstance(value, str) else value for name, value in cause._asdict().items()}
    return {name: value for name, value in found.items() if value is not None or name == "principal"}


def log_event(event: Event) -> None:
    """Write the log line of an event."""
    _log.info("audit", cloudevent=event)


_record: Callable[[Event], None] = log_event


@contextmanager
def recorded_by(record: Callable[[Event], None]) -> Iterator[Callable[[Event], None]]:
    """Have every event of this process recorded by somebody else, for the length of a block; gives who did before."""
    global _record
    before, _record = _record, record
    try:
        yield before
    finally:
        _record = before
