"""The settings in force, as they may be seen, and a digest that tells one configuration from another."""

import hashlib
import json
from typing import Any

from kveil.proxy.config import Settings
from kveil.proxy.secret import REDACTED


def shown(settings: Settings) -> dict[str, Any]:
    """Return the settings as they may be seen. Secrets are references there already, but for a module's options."""
    found: dict[str, Any] = settings.model_dump(mode="json")
    found["keys"]["options"] = dict.fromkeys(found["keys"]["options"], REDACTED)
    return found


def config_digest(settings: Settings) -> str:
    """Return the SHA-256 of what may be seen, so that it tells nothing of what may not."""
    text = json.dumps(shown(settings), sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
