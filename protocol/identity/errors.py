"""What can be wrong with a record, a ticket or a wrapped key.

    IdentityError         root; `reason` is for the log and holds nothing secret
    |-- Malformed         not of this format: whoever wrote it speaks another version, or writes garbage
    `-- Refused           of this format, and it must not count: signature, realm, signer, time, grant, recipient

No client is told of either: a batch whose key can't be had is refused as any other.
"""

from __future__ import annotations


class IdentityError(Exception):
    """Root of the tree."""

    reason: str

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Malformed(IdentityError):
    """Not of this format."""


class Refused(IdentityError):
    """Of this format, but it doesn't count."""
