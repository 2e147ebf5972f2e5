"""Asking a running proxy at its admin socket."""

import http.client
import json
import socket
from pathlib import Path
from typing import Any, Final

ANSWER_SECONDS: Final = 120.0
"""A reload may ask key services, each of them several times."""


class NobodyThere(Exception):
    """No proxy answers at the socket, or it isn't for this user."""


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=ANSWER_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's file."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(ANSWER_SECONDS)
        self.sock.connect(str(self._path))


def ask_admin(path: Path, method: str, what: str, body: str = "") -> dict[str, Any]:
    """Return what came of it: `{"changed": [path], "problems": [{"path": ..., "text": ...}]}`.

    :raises NobodyThere: nobody answers.
    """
    connection = _Connection(path)
    try:
        connection.request(method, what, body)
        outcome: dict[str, Any] = json.loads(connection.getresponse().read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        raise NobodyThere(f"no proxy answers at {path}: {reason}") from None
    finally:
        connection.close()
    return outcome
