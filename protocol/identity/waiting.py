"""Records whose signer isn't known yet: they wait, within a bound (FORMAT.md, section 3)."""

from __future__ import annotations

from kveil.protocol.identity.signing import Signed

MAX_BYTES = 16 * 2**20  # a cluster can invent signers without end; what doesn't fit is read again
# What a record takes in memory besides its own bytes: a short one is mostly this.
OVERHEAD_BYTES = 1_024


class Waiting:
    """By signer, as they stood on the topic. Nothing in here is verified."""

    def __init__(self) -> None:
        self._values: dict[bytes, dict[bytes, bytes]] = {}
        self._bytes = 0
        self._dropped = False
        self.reread_wanted = False

    def add(self, signed: Signed, value: bytes) -> None:
        """Keeps a record's value, if there is room."""
        mine = self._values.get(signed.signer, {})
        if signed.hash in mine:
            return
        if self._bytes + _taken(value) > MAX_BYTES:
            self._dropped = True
            return
        self._values.setdefault(signed.signer, {})[signed.hash] = value
        self._bytes += _taken(value)

    def take(self, signer: bytes) -> list[bytes]:
        """Those of a signer who has become known. Some may have been dropped before, so there may be more to read."""
        self.reread_wanted = self.reread_wanted or self._dropped
        found = list(self._values.pop(signer, {}).values())
        self._bytes -= sum(map(_taken, found))
        return found

    def reading_again(self) -> None:
        """The topic is about to be read from its start."""
        self._dropped = self.reread_wanted = False


def _taken(value: bytes) -> int:
    return len(value) + OVERHEAD_BYTES
