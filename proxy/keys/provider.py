"""What the proxy asks of whoever keeps the key-encryption keys.

    provider                       id   keys are named                       module
    key file                       1    in the file                          providers/keyfile.py
    Vault or OpenBao transit       2    below the mount                      providers/vault.py
    AWS KMS                        3    by alias, or as the settings map it  providers/aws.py
    Google Cloud KMS               4    below the key ring                   providers/gcp.py
    Azure Managed HSM              5    below the HSM's address              providers/azure.py
    PKCS#11                        6    by label                             providers/pkcs11.py
    a class from another module    128  as it likes                          named in the settings

A provider only talks to its service: one call is one try. Deadlines, further tries, and what is remembered
are the same for all and stand in `calls.py` and `ring.py`. A constructor checks what it can without leaving the
machine and raises KeySetupError; connections are made by the first call, inside the event loop. Whatever a call
raises is one of three:

    KeyRefused       the service says that this wrap was not made by this key for this context
    KeyDenied        the key is missing, disabled, destroyed, of a wrong kind, or may not be used by this identity
    KeyUnavailable   everything else: no answer, a server's error, throttling, a sign-in that failed or has expired
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from kveil.protocol.envelope.header import KeyBlock


class KeyContext(NamedTuple):
    """What an epoch key is for. Goes to the services that take an encryption context or additional data.

    The envelope's own binding doesn't rely on it. `topic` is empty for what belongs to no topic.
    """

    realm: str
    topic: str
    kid: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDescription:
    """One key-encryption key, without its material. Versions are the oldest first."""

    name: str
    primary: str
    versions: tuple[str, ...]


class KeyProvider(Protocol):
    """Wraps and unwraps epoch keys. Calls may leave the machine, so they may be slow, and run side by side."""

    @property
    def id(self) -> int:
        """Its number in the envelope's key block (`registry`)."""
        ...

    @property
    def place(self) -> str:
        """Where the keys are, for people: a path, an address. No secret."""
        ...

    async def wrap(self, name: str, secret: bytes, context: KeyContext) -> KeyBlock:
        """Wrap the 32 bytes of an epoch key under the primary version of the key of that name.

        The block's name is `name`, and its version what tells people which version of the key is needed; empty if
        the service doesn't say.

        :raises KeyDenied, KeyUnavailable: it can't be done.
        """
        ...

    async def unwrap(self, block: KeyBlock, context: KeyContext) -> bytes:
        """Return what was wrapped. The name is one that the rule accepts; all else may be a broker's invention.

        :raises KeyRefused, KeyDenied, KeyUnavailable: it can't be done.
        """
        ...

    async def describe(self, name: str) -> KeyDescription:
        """Return which versions the key has.

        :raises KeyDenied, KeyUnavailable: it can't be told.
        """
        ...

    async def health(self) -> None:
        """Ask the service whether it can be used, without naming a key.

        :raises KeyUnavailable: it can't be used now, with the reason.
        """
        ...

    def refresh(self) -> bool:
        """Look, without leaving the machine, whether keys or sign-in have changed. True if they have: what was
        refused may be known now.
        """
        ...

    async def close(self) -> None:
        """Let go of connections. Nothing is called afterwards."""
        ...
