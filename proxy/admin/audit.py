"""Decisions that somebody may have to answer for, as CloudEvents 1.0 in JSON.

    audit("plain.passed", "orders", rule="topics[0]", records=12)

Each is a log line `audit` for now, at info level whatever the subject, its event under `cloudevent`.
"""

import os
import socket
import uuid
from datetime import UTC, datetime
from typing import Final, Literal

from kveil.proxy.log import get_logger, redact

SPEC_VERSION: Final = "1.0"
TYPE_PREFIX: Final = "io.kveil."
_log = get_logger(__name__)


# What can be decided. The names are for ever: others filter by them.
AuditType = Literal[
    "access.refused",  # a rule names who may, and this client isn't named; subject: topic
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
    "key.unwrapped",  # a reader's epoch key was unwrapped; subject: topic, or the realm for its key-hiding key
    "plain.passed",  # a rule let plain records through; subject: topic
    "records.skipped",  # an operator's `skip` was applied; subject: topic/partition
    "topic.limit_raised",  # a topic's max.message.bytes was raised, as its rule says; subject: topic
    "topic.copied_plain",  # a sealed topic's records were copied into a plain one, as told; subject: the plain topic
    "key.regranted",  # a keeper handed an epoch key on; subject: topic
    "identity.alarm",  # the control topic isn't as it must be; subject: a member, or the realm
    "topic.renamed",  # the broker gave a topic id a second name, which was refused; subject: the second name
]


def audit(kind: AuditType, /, subject: str, **data: object) -> dict[str, object]:
    """Records one decision, and returns the event. `subject` is what it was about."""
    event = {
        "specversion": SPEC_VERSION,
        "id": str(uuid.uuid4()),
        "source": f"/kveil/{socket.gethostname()}/{os.getpid()}",
        "type": f"{TYPE_PREFIX}{kind}",
        "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "subject": subject,
        "datacontenttype": "application/json",
        "data": redact(data),
    }
    _log.info("audit", cloudevent=event)
    return event
