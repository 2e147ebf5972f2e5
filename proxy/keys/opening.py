"""From the settings to a key ring, or to every reason why not."""

from kveil.proxy.config import Settings
from kveil.proxy.keys.errors import KeyFileError
from kveil.proxy.keys.provider import KeyProvider
from kveil.proxy.keys.providers.keyfile import KeyFileProvider
from kveil.proxy.keys.ring import KeyRing
from kveil.proxy.policy import Policy


def open_provider(settings: Settings, policy: Policy) -> KeyProvider:
    """The provider that the settings name, its realm and every named key checked. Raises KeyFileError."""
    provider = KeyFileProvider(settings.keys.path)
    if settings.realm is not None and settings.realm != provider.realm:
        msg = (
            f"realm: the configuration says {settings.realm}, and the key file {settings.keys.path} belongs "
            f"to {provider.realm}: leave realm out, or name the right key file"
        )
        raise KeyFileError(msg)
    missing = sorted(name for name in policy.key_names if provider.primary_version(name) is None)
    if missing:
        msg = (
            f"the key file {settings.keys.path} lacks what the rules name: {', '.join(missing)}; "
            "`kveil keys add NAME` makes a key, but one that is lost must be restored from your backup"
        )
        raise KeyFileError(msg)
    return provider


def open_key_ring(settings: Settings, policy: Policy) -> KeyRing:
    """The key ring of this process. Call it after the last fork. Raises KeyFileError."""
    return KeyRing(open_provider(settings, policy), settings.limits)
