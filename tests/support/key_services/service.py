"""What tests ask of a key service, beside what the proxy does."""

from collections.abc import Sequence
from typing import Any, Protocol

from kveil.proxy.keys.provider import KeyProvider


class KeyServer(Protocol):
    """A real key service and an administrator's hands on it. All methods block until the service has done it."""

    takes_context: bool
    """Whether a wrap is bound to realm and topic by the service itself."""
    pauses_calls: bool
    """Whether `pause` stops wraps and unwraps. A key file that is away is still in memory."""
    has_versions: bool
    """Whether wraps name the version of the key that made them."""

    def make_key(self, name: str) -> None: ...

    def rotate(self, name: str) -> None:
        """Give the key a new primary version. The older ones still open."""
        ...

    def disable(self, name: str) -> None:
        """Let the key neither wrap nor unwrap, until `enable`."""
        ...

    def enable(self, name: str) -> None: ...

    def destroy(self, name: str) -> None:
        """Make all that was wrapped with the key unreadable for ever."""
        ...

    def provider(self) -> KeyProvider:
        """A fresh provider that may use all keys."""
        ...

    def keys_settings(self) -> dict[str, Any]:
        """The section `keys` of a proxy's configuration, as YAML would give it."""
        ...

    def secrets(self) -> Sequence[str]:
        """What must never be shown anywhere, in the form in which it would be: tokens, PINs, key material."""
        ...

    def pause(self) -> None:
        """Be unreachable, until `resume`."""
        ...

    def resume(self) -> None: ...

    def stop(self) -> None: ...
