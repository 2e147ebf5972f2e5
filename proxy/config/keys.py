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
    path: Path = Field(default_factory=default_key_path)
    default: KeyReference = KeyName(provider=None, name=DEFAULT_KEY)
    vault: Vault | None = None
    aws: Aws | None = None
    gcp: Gcp | None = None
    azure: Azure | None = None
    pkcs11: Pkcs11 | None = None
    options: dict[str, str] = Field(default_factory=dict)
    lazy: bool = False
    seal_lease_seconds: Annotated[float, Field(ge=1, le=86_400)] = limits.SEAL_LEASE_SECONDS
    unwrap_cache_seconds: Annotated[float, Field(ge=0, le=86_400)] = limits.UNWRAP_CACHE_SECONDS
    call_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = limits.KEY_CALL_TIMEOUT_SECONDS

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
