"""Where the keys of each key service are, and how the proxy signs in there."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from kveil.proxy.config.fields import (
    Address,
    Name,
    NameOrReference,
    ReadableFile,
    Reference,
    Region,
    ServiceUrl,
    list_or_commas,
)
from kveil.proxy.config.section import Section as _Model

ServicePath = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$", max_length=512)]
Profile = Annotated[str, Field(pattern=r"^[A-Za-z0-9._@ -]+$", max_length=128)]
KeyId = Annotated[str, Field(pattern=r"^[A-Za-z0-9:/._-]+$", max_length=2048)]

KUBERNETES_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class AppRole(_Model):
    """Sign-in of a machine, by a role's id and a secret."""

    mount: ServicePath = "approle"
    """Path of the AppRole method."""
    role_id: NameOrReference
    """The role's id, or a reference to it."""
    secret_id: Reference
    """Reference to the secret id."""


class KubernetesLogin(_Model):
    """Sign-in by the pod's service account."""

    mount: ServicePath = "kubernetes"
    """Path of the Kubernetes method."""
    role: Name
    """The role of the method that the service account belongs to."""
    token: Path = KUBERNETES_TOKEN
    """File of the service account's token, read at each sign-in."""


class Vault(_Model):
    """HashiCorp Vault's or OpenBao's transit engine. Exactly one of `token`, `approle`, `kubernetes` signs in."""

    address: ServiceUrl
    """The server, as in `https://vault.example.net:8200`."""
    mount: ServicePath = "transit"
    """Path of the transit engine."""
    namespace: ServicePath | None = None
    """Namespace of the engine and of the sign-in."""
    ca: ReadableFile | None = None
    """PEM file of the roots that the server's certificate must come from. Without it, the system's."""
    token: Reference | None = None
    """Reference to a token, `file:PATH` or `env:NAME`. It is renewed; a file is read again when it changes."""
    approle: AppRole | None = None
    """Sign-in by AppRole."""
    kubernetes: KubernetesLogin | None = None
    """Sign-in by the pod's service account."""

    @model_validator(mode="after")
    def _signs_in_by_one_way(self) -> Self:
        given = [way for way in ("token", "approle", "kubernetes") if getattr(self, way) is not None]
        if len(given) != 1:
            found = f"has {' and '.join(given)}" if given else "doesn't say how the proxy signs in"
            msg = f"{found}: exactly one of token, approle, kubernetes is needed"
            raise ValueError(msg)
        return self


class Aws(_Model):
    """AWS KMS, signed in by the SDK's default chain.

    A key's name is its alias, unless `keys` says which ids or ARNs it stands for: the first wraps, all unwrap.
    """

    region: Region | None = None
    """Region of the keys. Without it, what the profile or `AWS_DEFAULT_REGION` says."""
    profile: Profile | None = None
    """Profile of the SDK's configuration files."""
    endpoint: ServiceUrl | None = None
    """Another address of the service, for a VPC endpoint as an example."""
    keys: dict[str, Annotated[tuple[KeyId, ...], list_or_commas, Field(min_length=1)]] = Field(default_factory=dict)
    """Which key ids, ARNs or aliases a name stands for, the newest first: that one wraps, all unwrap. Without it the
    name is an alias."""


class Gcp(_Model):
    """Google Cloud KMS, signed in by application default credentials. A key's name is its name in the key ring."""

    key_ring: KeyId
    """The key ring, as in `projects/P/locations/L/keyRings/R`. A key's name is its name there."""
    endpoint: Address | None = None
    """Another address of the service, as `host:port`, with TLS and sign-in. One of this host is an emulator: it gets
    neither."""


class Azure(_Model):
    """Azure Managed HSM, signed in by DefaultAzureCredential. A key's name is its name there."""

    address: ServiceUrl
    """The HSM, as in `https://NAME.managedhsm.azure.net`."""
    ca: ReadableFile | None = None
    """PEM file of the roots that the HSM's certificate must come from. Without it, the system's."""


class Pkcs11(_Model):
    """An HSM's token. A key's name is its label."""

    module: ReadableFile
    """The module's shared library, as in `/usr/lib/softhsm/libsofthsm2.so`."""
    token: str
    """Label of the token. A key's name is its label there."""
    pin: Reference
    """Reference to the user's PIN, `file:PATH` or `env:NAME`. One that the token refused isn't tried again before it
    changes."""
