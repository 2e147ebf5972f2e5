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
    role_id: NameOrReference
    secret_id: Reference


class KubernetesLogin(_Model):
    """Sign-in by the pod's service account."""

    mount: ServicePath = "kubernetes"
    role: Name
    token: Path = KUBERNETES_TOKEN


class Vault(_Model):
    """HashiCorp Vault's or OpenBao's transit engine. Exactly one of `token`, `approle`, `kubernetes` signs in."""

    address: ServiceUrl
    mount: ServicePath = "transit"
    namespace: ServicePath | None = None
    ca: ReadableFile | None = None
    token: Reference | None = None
    approle: AppRole | None = None
    kubernetes: KubernetesLogin | None = None

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
    profile: Profile | None = None
    endpoint: ServiceUrl | None = None
    keys: dict[str, Annotated[tuple[KeyId, ...], list_or_commas, Field(min_length=1)]] = Field(default_factory=dict)


class Gcp(_Model):
    """Google Cloud KMS, signed in by application default credentials. A key's name is its name in the key ring."""

    key_ring: KeyId
    endpoint: Address | None = None


class Azure(_Model):
    """Azure Managed HSM, signed in by DefaultAzureCredential. A key's name is its name there."""

    address: ServiceUrl
    ca: ReadableFile | None = None


class Pkcs11(_Model):
    """An HSM's token. A key's name is its label."""

    module: ReadableFile
    token: str
    pin: Reference
