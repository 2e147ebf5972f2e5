"""Records whose signer isn't known yet: they wait, within a bound (FORMAT.md, section 3)."""

from __future__ import annotations

from kveil.protocol.identity.record import Record

MAX_BYTES = 16 * 2**20  # a cluster can invent signers without end; what doesn't fit is read again


class Waiting:
    """By signer. Nothing in here is verified."""

    def __init__(self) -> None:
        self._records: dict[bytes, dict[bytes, Record]] = {}
        self._bytes = 0
        self._dropped = False
        self.reread_wanted = False

    def add(self, record: Record) -> None:
        """Keeps it, if there is room."""
        signed = record.signed
        mine = self._records.get(signed.signer, {})
        if signed.hash in mine:
            return
        if self._bytes + len(signed.cose) > MAX_BYTES:
            self._dropped = True
            return
        self._records.setdefault(signed.signer, {})[signed.hash] = record
        self._bytes += len(signed.cose)

    def take(self, signer: bytes) -> list[Record]:
        """Those of a signer who has become known. Some may have been dropped before, so there may be more to read."""
        self.reread_wanted = self.reread_wanted or self._dropped
        found = list(self._records.pop(signer, {}).values())
        self._bytes -= sum(len(record.signed.cose) for record in found)
        return found

    def reading_again(self) -> None:
        """The topic is about to be read from its start."""
        self._dropped = self.reread_wanted = False
