"""Where this node's own identity is, for keys of the provider `identities`."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from kveil.proxy.config.fields import Name, Reference
from kveil.proxy.config.key_services import Pkcs11
from kveil.proxy.config.paths import default_identity_path
from kveil.proxy.config.section import Section as _Model


class IdentityToken(Pkcs11):
    """The token that keeps the key of the identity's file."""

    key: Name
    """Label of the AES-256 key in the token that wraps the file's."""


class Identity(_Model):
    """A directory, which `kveil enroll` fills."""

    path: Path = Field(default_factory=default_identity_path)
    """The directory of the identity, which `kveil enroll` fills."""
    passphrase: Reference | None = None
    """What opens the private keys there, if they were made with a passphrase."""
    pkcs11: IdentityToken | None = None
    """The token that opens the private keys there, if they were made with one. Needs `kveil[pkcs11]`."""

    @model_validator(mode="after")
    def _one_protection(self) -> Self:
        if self.passphrase is not None and self.pkcs11 is not None:
            msg = "has passphrase and pkcs11: private keys are protected by one of them, so remove the other"
            raise ValueError(msg)
        return self
