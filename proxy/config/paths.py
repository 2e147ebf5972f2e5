"""Where things lie unless told otherwise."""

import os
from collections.abc import Mapping
from pathlib import Path

SYSTEM_KEY_PATH = Path("/var/lib/kveil/keys.json")
SYSTEM_IDENTITY_PATH = Path("/var/lib/kveil/identity")


def default_key_path(environ: Mapping[str, str] = os.environ, uid: int | None = None) -> Path:
    """The key file of this user: under /var/lib for root, else in the user's XDG data directory.

    `kveil keys init` and `kveil run` ask here both, so that they agree.
    """
    if (os.geteuid() if uid is None else uid) == 0:
        return SYSTEM_KEY_PATH
    return _data_directory(environ) / "keys.json"


def default_identity_path(environ: Mapping[str, str] = os.environ, uid: int | None = None) -> Path:
    """The directory of this user's identity, beside the key file."""
    if (os.geteuid() if uid is None else uid) == 0:
        return SYSTEM_IDENTITY_PATH
    return _data_directory(environ) / "identity"


def _data_directory(environ: Mapping[str, str]) -> Path:
    data = environ.get("XDG_DATA_HOME", "")
    # The XDG specification says that a relative path is to be ignored.
    base = Path(data) if data.startswith("/") else Path(environ.get("HOME", "/")) / ".local" / "share"
    return base / "kveil"
