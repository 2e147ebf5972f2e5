"""From what the control topic says of a kid to its epoch key, or to why not."""

from typing import NamedTuple

from kveil.protocol.envelope.errors import Unopenable
from kveil.protocol.envelope.key_schedule import EpochKey
from kveil.protocol.identity.chains import Announced
from kveil.protocol.identity.credential import History
from kveil.protocol.identity.errors import Malformed, Refused
from kveil.protocol.identity.identity import Unsealer
from kveil.protocol.identity.judging import Judged, Verdict
from kveil.protocol.identity.progress import Mark
from kveil.protocol.identity.view import View
from kveil.proxy.keys.errors import KeyDenied, KeyRefused, KeyUnavailable


class Found(NamedTuple):
    """An epoch key, and what announced it."""

    key: EpochKey
    announced: Announced
    closed_at: tuple[Mark, ...] | None
    """How far its batches count, None without an end."""


def find_epoch_key(view: View, node: Unsealer, topic: str, kid: bytes) -> Found:
    """The epoch key of a kid, as `node` has it of its announcement or of a regrant.

    :raises KeyRefused: no announcement of it counts, or its wrap opens to something else.
    :raises KeyDenied: it was announced, and not to this node.
    :raises KeyUnavailable: what is needed isn't on the topic yet.
    """
    reasons: list[KeyRefused | KeyDenied | KeyUnavailable] = []
    for judged in view.announcements(kid):  # of several an insider's may be the first: its key isn't the kid's
        try:
            return _find(view, node, topic, judged)
        except (KeyRefused, KeyDenied, KeyUnavailable) as error:
            reasons.append(error)
    for kind in (KeyUnavailable, KeyDenied):  # what may work later comes first
        for reason in reasons:
            if isinstance(reason, kind):
                raise reason
    if reasons:
        raise reasons[0]
    raise KeyUnavailable(f"the control topic has no announcement of the key {kid.hex()} for {topic}")


def _find(view: View, node: Unsealer, topic: str, judged: Judged) -> Found:
    announced = judged.announced
    epoch = announced.announcement.epoch
    if epoch.topic != topic:
        raise KeyRefused(f"the key was announced for {epoch.topic!r}, not for {topic!r}")
    if judged.verdict is Verdict.REFUSED:
        raise KeyRefused(f"its announcement doesn't count: {judged.reason}")
    if judged.verdict is Verdict.NOT_YET:
        raise KeyUnavailable(f"its announcement doesn't count yet: {judged.reason}")
    secret = _secret(view, node, announced)
    if secret is None:
        raise _not_for(view, node.public.id, topic)
    try:
        return Found(announced.announcement.epoch_key(secret, announced.recipients), announced, judged.closed_at)
    except (Unopenable, Malformed) as error:
        raise KeyRefused(f"what was announced is not the key of its kid: {error}") from None


def _secret(view: View, node: Unsealer, announced: Announced) -> bytes | None:
    """The epoch key, None if nobody has wrapped it for this node. Raises KeyRefused if all wraps are of others."""
    refusal = ""
    if node.public.id in announced.recipients:
        try:
            return announced.announcement.open(node)
        except Refused as error:
            refusal = error.reason
    for regranted, judged in view.regrants(announced.announcement.kid):
        if judged.announced is announced and node.public.id in regranted.recipients:
            try:
                return regranted.regrant.open(node, announced.announcement)
            except Refused as error:
                refusal = error.reason
    if refusal:
        raise KeyRefused(f"its wrap for this node opens to nothing of use: {refusal}")
    return None


def _not_for(view: View, me: bytes, topic: str) -> KeyDenied | KeyUnavailable:
    """Why a node that may read the topic has no wrap of one of its keys."""
    listed = view.live().get(me)
    history = None if listed is None else listed.credential.history_of(topic)
    if history is History.ALL:
        return KeyUnavailable("it was sealed before this node could read it, and no keeper has handed the key on yet")
    granted = "nothing" if history is None else history.name.lower().replace("_", "-")
    return KeyDenied(f"it was sealed before this node could read it, whose grant says history {granted}")
