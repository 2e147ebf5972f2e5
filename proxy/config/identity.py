"""Where this node's own identity is, for keys of the provider `identities`."""

from pathlib import Path

from pydantic import Field

from kveil.proxy.config.fields import Reference
from kveil.proxy.config.paths import default_identity_path
from kveil.proxy.config.section import Section as _Model


class Identity(_Model):
    """A directory, which `kveil enroll` fills."""

    path: Path = Field(default_factory=default_identity_path)
    """The directory of the identity, which `kveil enroll` fills."""
    passphrase: Reference | None = None
    """What opens the private keys there, if they were made with a passphrase."""
