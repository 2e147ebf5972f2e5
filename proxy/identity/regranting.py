"""What a keeper has to hand on: epoch keys that were announced before somebody joined who may read all."""

from collections.abc import Iterator
from typing import Final

from kveil.protocol.identity.chains import Announced
from kveil.protocol.identity.credential import History, Role
from kveil.protocol.identity.errors import IdentityError as ProtocolError
from kveil.protocol.identity.identity import PublicKeys
from kveil.protocol.identity.members import Listed
from kveil.protocol.identity.record import encode_record
from kveil.protocol.identity.regrant import regrant
from kveil.protocol.identity.view import Verdict
from kveil.proxy.admin.audit import audit
from kveil.proxy.identity.control import Control
from kveil.proxy.identity.control_log import KeyValue
from kveil.proxy.identity.opening import find_epoch_key
from kveil.proxy.keys.errors import KeyDenied, KeyRefused, KeyUnavailable
from kveil.proxy.log import get_logger, log_limited

# Of one regrant: with the longest wraps well below the limit of a record.
MOST_RECIPIENTS: Final = 500
# Of one write, which is one batch. A single regrant of 500 may be longer, and is below the limit too.
WRITE_BYTES: Final = 400_000
_log = get_logger(__name__)


async def regrant_missing(control: Control) -> int:
    """Make every regrant that is missing, and return how many there were.

    :raises KeyDenied: this node isn't a member now.
    :raises KeyUnavailable: the topic can't be written, or isn't as it must be.
    """
    made, waiting, size = 0, list[KeyValue](), 0
    for record in missing_regrants(control):
        length = len(record[1] or b"")
        if waiting and size + length > WRITE_BYTES:
            await control.append(waiting)
            waiting, size = [], 0
        waiting.append(record)
        size += length
        made += 1
    if waiting:
        await control.append(waiting)
    return made


def missing_regrants(control: Control) -> Iterator[KeyValue]:
    """Records for the control topic, each made when it is asked for. Raises KeyDenied or KeyUnavailable."""
    if (stop := control.opening_stop()) is not None:
        raise KeyUnavailable(f"nothing is handed on: {stop}")
    own = control.own_credential()
    if not any(grant.role is Role.KEEPER for grant in own.credential.grants):
        raise KeyDenied(f"{own.credential.name} is no keeper: have the authority grant it the role keeper")
    for kid in control.view.kids():
        for judged in control.view.announcements(kid):
            topic = judged.announced.announcement.epoch.topic
            if judged.verdict is Verdict.ACCEPTED and own.credential.may(Role.KEEPER, topic):
                yield from _regrants(control, own, judged.announced, topic)


def _regrants(control: Control, own: Listed, announced: Announced, topic: str) -> Iterator[KeyValue]:
    missing = _without_it(control, announced, topic)
    if not missing:
        return
    kid = announced.announcement.kid
    try:
        secret = find_epoch_key(control.view, control.node.identity, topic, kid).key.secret
    except (KeyRefused, KeyDenied, KeyUnavailable) as error:
        log_limited(_log.warning, "not_regranted", key=kid, topic=topic, kid=kid.hex(), reason=str(error))
        return
    for start in range(0, len(missing), MOST_RECIPIENTS):
        some = missing[start : start + MOST_RECIPIENTS]
        try:
            made = regrant(
                announced.announcement,
                announced.hash,
                secret,
                some,
                keeper=control.node.identity,
                credential=own.hash,
            )
        except ProtocolError as error:
            log_limited(_log.warning, "not_regranted", key=kid, topic=topic, kid=kid.hex(), reason=error.reason)
            return
        readers = [control.name_of(one.id) for one in some]
        audit("key.regranted", topic, kid=kid.hex(), readers=readers)
        yield encode_record(made)


def _without_it(control: Control, announced: Announced, topic: str) -> list[PublicKeys]:
    """Who may read all of the topic, and has no wrap of this key."""
    view = control.view
    have = set(announced.recipients)
    for regranted, judged in view.regrants(announced.announcement.kid):
        if judged.announced is announced:
            have.update(regranted.recipients)
    wanted = view.recipients(topic, control.now)
    return [one.keys for one in wanted if one.history is History.ALL and one.keys.id not in have]
