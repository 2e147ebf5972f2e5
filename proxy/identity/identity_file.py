"""TEMPORARY: superseded by the branch that makes identities."""

from pathlib import Path

from kveil.protocol.identity.identity import Identity
from kveil.proxy.secret import Secret


def read_identity(directory: Path, passphrase: Secret | None) -> Identity:
    return Identity.from_private_bytes((directory / "identity.json").read_bytes())
