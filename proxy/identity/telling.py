"""What is wrong with the control topic, or with this node's place in the realm, told when it begins and not again."""

from collections.abc import Callable
from typing import Final

from kveil.protocol.identity.alarms import Alarm, AlarmKind
from kveil.proxy.admin.audit import audit
from kveil.proxy.log import get_logger

# Of those that stop a node.
_WAYS_OUT: Final = {
    AlarmKind.ROLLBACK: "The cluster shows older records than those that this host, or its ticket, knows, or it is "
    "another cluster; or the topic was lost, and the authority must write it again: `kveil authority checkpoint --all`",
    AlarmKind.FORK: "Two copies of the authority were in use, or its keys were stolen, or the producer that is named "
    "lies: ask whoever runs the authority",
    AlarmKind.FREEZE: "Set the clock if it is wrong; else the authority must run, which signs the next one, or the "
    "cluster holds it back",
}
_log = get_logger(__name__)


def in_words(alarm: Alarm) -> str:
    """What is wrong and what to do, for people."""
    way_out = _WAYS_OUT.get(alarm.kind)
    return f"{alarm.kind}: {alarm.detail}" + (f". {way_out}" if way_out else "")


class Telling:
    """What is wrong now, as far as it was told."""

    def __init__(self) -> None:
        self.alarms: tuple[Alarm, ...] = ()
        self._refusal: str | None = None

    def tell(self, alarms: tuple[Alarm, ...], name_of: Callable[[bytes], str]) -> None:
        """Log and audit those alarms that weren't there at the last call."""
        told = {(alarm.kind, alarm.about) for alarm in self.alarms}
        self.alarms = alarms
        for kind, about, detail in alarms:
            if (kind, about) not in told:
                told.add((kind, about))
                _log.error("identity_alarm", kind=kind, about=about.hex(), reason=detail)
                audit("identity.alarm", name_of(about), kind=kind, about=about.hex(), reason=detail)

    def tell_refusal(self, standing: str | None, reason: str) -> None:
        """Log why this node may do nothing, once for each `standing` that isn't None."""
        if standing is not None and standing != self._refusal:
            _log.error("identity_unusable", reason=reason)
        self._refusal = standing
