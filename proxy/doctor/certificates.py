"""How long certificates are good: the proxy's own, and what it says of a broker's."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from kveil.proxy.admin.certificates import expiry_of
from kveil.proxy.config import Settings
from kveil.proxy.doctor.findings import Finding, failure, ok, warning

CHECK: Final = "certificates"
WARN_DAYS: Final = 30
"""Time enough to get another one where people are asked."""
_DAY: Final = 86_400


def look_at_own(settings: Settings, now: float) -> list[Finding]:
    """Judge the certificates that the proxy shows. `now` is Unix time, as in all of these."""
    return [judge_expiry(CHECK, f"{name} {path}", expiry_of(path), now) for name, path in _own(settings)]


def _own(settings: Settings) -> Iterator[tuple[str, Path]]:
    if settings.upstream.tls is not None and settings.upstream.tls.cert is not None:
        yield "upstream.tls.cert", settings.upstream.tls.cert
    for place, listener in enumerate(settings.listeners):
        if listener.tls is not None:
            yield f"listeners[{place}].tls.cert", listener.tls.cert


def judge_expiry(check: str, about: str, expires: float | None, now: float) -> Finding:
    """Say how long a certificate is good."""
    if expires is None:
        return warning(check, f"{about}: when it expires can't be read", "see whether it is a certificate in PEM")
    day = datetime.fromtimestamp(expires, UTC).date()
    days = int((expires - now) // _DAY)
    left = "1 day" if days == 1 else f"{days} days"
    if expires <= now:
        return failure(check, f"{about} expired on {day}", "renew it")
    if days < WARN_DAYS:
        return warning(check, f"{about} expires on {day}, in {left}", "renew it")
    return ok(check, f"{about} expires on {day}, in {left}")
