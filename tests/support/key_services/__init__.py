"""Real key services for tests, one module each, all with the same few names (`service.KeyServer`).

with start_key_server("vault", folder) as server:
    server.make_key("orders")
    provider = server.provider()
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.key_services.service import KeyServer

KEY_SERVERS = ("keyfile", "vault", "aws", "gcp", "azure", "pkcs11")
"""Each is a module here with a class `Server`."""


@contextmanager
def start_key_server(name: str, folder: Path) -> Iterator[KeyServer]:
    """A service that is ready and has no keys yet. `folder` is for its files."""
    server: KeyServer = importlib.import_module(f"tests.support.key_services.{name}").Server(folder)
    try:
        yield server
    finally:
        server.stop()
