"""Who keeps the key-encryption keys, which key a topic gets, and how long the proxy goes on with what it was given."""

import re
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, model_validator

from kveil.proxy.config import limits
from kveil.proxy.config.choices import KeyService
from kveil.proxy.config.fields import KeyReference
from kveil.proxy.config.key_services import Aws, Azure, Gcp, Pkcs11, Vault
from kveil.proxy.config.paths import default_key_path
from kveil.proxy.config.section import Section as _Model
from kveil.proxy.config.values import TOPIC_PLACE, KeyName

DEFAULT_KEY: Final = "default"
_CLASS: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


def _provider(value: str) -> str:
    named = [one.value for one in KeyService if one is not KeyService.MODULE]
    if value not in named and not _CLASS.fullmatch(value):
        msg = f"must be one of {', '.join(named)}, or module:Class for a provider of your own"
        raise ValueError(msg)
    return value


class Keys(_Model):
    """Who wraps the epoch keys."""

    provider: Annotated[str, AfterValidator(_provider)] = KeyService.KEYFILE.value
    """Who keeps the keys of rules that name no provider: `keyfile`, `vault`, `aws`, `gcp`, `azure`, `pkcs11`, or
    `module:Class` for one of your own. See Keys."""
    path: Path = Field(default_factory=default_key_path)
    """The key file. For other users than root: `$XDG_DATA_HOME/kveil/keys.json`, or
    `~/.local/share/kveil/keys.json`."""
    default: KeyReference = KeyName(provider=None, name=DEFAULT_KEY)
    """Key of the rules that name none, and of topics without a rule. Written as `topics[].key`."""
    vault: Vault | None = None
    """HashiCorp Vault or OpenBao, its transit engine. Signed in by exactly one of `token`, `approle`, `kubernetes`."""
    aws: Aws | None = None
    """AWS KMS, signed in by the SDK's default chain. Needs `kveil[aws]`."""
    gcp: Gcp | None = None
    """Google Cloud KMS, signed in by application default credentials. Needs `kveil[gcp]`."""
    azure: Azure | None = None
    """Azure Managed HSM, signed in by DefaultAzureCredential. Needs `kveil[azure]`."""
    pkcs11: Pkcs11 | None = None
    """An HSM by its PKCS#11 module. Needs `kveil[pkcs11]`."""
    options: dict[str, str] = Field(default_factory=dict)
    """What a `module:Class` is made with: its keyword arguments, as text."""
    lazy: bool = False
    """Starts without asking whether the keys that rules name can be used."""
    seal_lease_seconds: Annotated[float, Field(ge=1, le=86_400)] = limits.SEAL_LEASE_SECONDS
    """How long sealing goes on before it is asked again whether a key may be used: the worst case from a key's being
    disabled to the last batch sealed under it."""
    unwrap_cache_seconds: Annotated[float, Field(ge=0, le=86_400)] = limits.UNWRAP_CACHE_SECONDS
    """How long an unwrapped key opens: the worst case from a key's being disabled to the last batch opened. 0 asks
    again at each use."""
    call_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = limits.KEY_CALL_TIMEOUT_SECONDS
    """Deadline of one try of a call to a key service. There are three."""

    @model_validator(mode="before")
    @classmethod
    def _identities_name_topics(cls, value: Any) -> Any:
        """With identities there is one key a topic, and no other."""
        if isinstance(value, dict) and value.get("provider") == KeyService.IDENTITIES and value.get("default") is None:
            return {**value, "default": TOPIC_PLACE}
        return value

    @property
    def service(self) -> KeyService:
        """Whose keys are meant where no provider is named."""
        return KeyService.MODULE if ":" in self.provider else KeyService(self.provider)
