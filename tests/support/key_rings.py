"""A key ring over one provider, as `keys.opening` puts it together."""

import time
from collections.abc import Callable
from typing import Any

from kveil.proxy.admin.metrics import Metrics
from kveil.proxy.config import Keys, Limits
from kveil.proxy.keys.keyfile import HidingKey
from kveil.proxy.keys.keyfile_store import read_key_file
from kveil.proxy.keys.realm import Realm
from kveil.proxy.keys.ring import KeyRing


def make_ring(
    provider: Any,
    *,
    limits: Limits | None = None,
    clock: Callable[[], float] = time.monotonic,
    realm: str = "test",
    hiding_key: HidingKey | None = None,
    metrics: Metrics | None = None,
    **keys: Any,
) -> KeyRing:
    """A ring. Further names are settings below `keys`."""
    return KeyRing(
        {provider.id: provider},
        Realm(name=realm, hiding_key=hiding_key),
        Keys(**keys),
        limits or Limits(),
        metrics=metrics or Metrics(),
        clock=clock,
    )


def key_file_ring(provider: Any, **more: Any) -> KeyRing:
    """A ring over a key file's provider, in the realm and with the key-hiding key of the file."""
    content, _ = read_key_file(provider._path)
    return make_ring(provider, realm=content.realm, hiding_key=content.key_hiding_key, **more)
