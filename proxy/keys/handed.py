"""The key-hiding key of a realm of identities: its authority hands it to each member over the control topic."""

from typing import Final

from kveil.protocol.identity.errors import Refused
from kveil.proxy.identity.control import Control
from kveil.proxy.keys.errors import KeyDenied, KeyUnavailable
from kveil.proxy.keys.keyfile import HidingKey, today

NOT_HANDED: Final = (
    "the authority has handed this node no key-hiding key, and record mode hides records' keys: `kveil authority run`, "
    "or `kveil authority checkpoint --all`, hands it to all who may produce or consume; or the topic's rule says "
    "`keys: clear`"
)
_TWO_OF_AUTHORITY: Final = (
    "two copies of its directory were in use. End the other one, have `kveil authority checkpoint --all` hand out the "
    "right one's again, and restart when the log cleaner has removed the rest"
)
_Key = tuple[int, bytes | None]


class HandedKey:
    """The key as this node was handed it, and whether all members were handed the same."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._judged: tuple[_Key, KeyDenied | KeyUnavailable | None] | None = None

    @property
    def key_id(self) -> bytes | None:
        """The id of the key that this node was handed, None if it wasn't yet."""
        handed = self._control.view.handed
        return None if handed is None else handed.key.id

    def agrees(self, kept: bytes | None) -> bool:
        """Whether records' keys may be hidden. `kept` is the id of a key that is there beside, from a key file."""
        return self._control.is_read and self._trouble(kept) is None

    async def check(self, kept: bytes | None) -> None:
        """Raises KeyDenied or KeyUnavailable unless records' keys may be hidden."""
        if not self._control.is_read:
            await self._control.catch_up()
        if (trouble := self._trouble(kept)) is not None:
            raise trouble.with_traceback(None)

    async def open(self) -> HidingKey:
        """The key itself. Raises KeyDenied, or KeyUnavailable if it isn't there yet."""
        if self._control.view.handed is None:
            await self._control.catch_up()
        handed = self._control.view.handed
        if handed is None:
            raise KeyUnavailable(NOT_HANDED)
        try:
            secret = handed.open(self._control.node.identity)
        except Refused as error:
            raise KeyDenied(f"the key-hiding key that the authority handed to this node is none: {error}") from None
        return HidingKey(id=handed.key.id, created=today(), secret=secret)

    def _trouble(self, kept: bytes | None) -> KeyDenied | KeyUnavailable | None:
        now = self._control.changes, kept
        if self._judged is None or self._judged[0] != now:
            self._judged = now, self._judge(kept)
        return self._judged[1]

    def _judge(self, kept: bytes | None) -> KeyDenied | KeyUnavailable | None:
        alarm = self._control.view.hiding_stop()
        if alarm is not None:
            return KeyUnavailable(f"{alarm.kind}: {alarm.detail}: {_TWO_OF_AUTHORITY}")
        handed = self.key_id
        if kept is None or handed is None or kept == handed:
            return None
        return KeyDenied(
            f"the key file has the key-hiding key {kept.hex()}, and the authority hands out {handed.hex()}: the same "
            "record keys would be hidden in two ways. Where there is no data yet, remove the key file; where there is, "
            "`kveil authority init --hiding-key FILE` makes an authority that hands out the file's"
        )
