"""The settings as they may be seen: what `/config` answers, and the digest by which the audit tells them apart."""

import hashlib
import json
from typing import Any

from kveil.proxy.config import Settings
from kveil.proxy.secret import REDACTED


def shown(settings: Settings) -> dict[str, Any]:
    """Return them as JSON can hold them. Secrets are references there already, but for a module's options."""
    found: dict[str, Any] = settings.model_dump(mode="json")
    found["keys"]["options"] = dict.fromkeys(found["keys"]["options"], REDACTED)
    return found


def shown_text(settings: Settings) -> str:
    """Return them as JSON."""
    return json.dumps(shown(settings), indent=2)


def config_digest(settings: Settings) -> str:
    """Return the SHA-256 of what `/config` answers: it tells nothing of what may not be seen."""
    return f"sha256:{hashlib.sha256(shown_text(settings).encode()).hexdigest()}"
