"""Points in time as people read them."""

from datetime import UTC, datetime


def moment(seconds: int) -> str:
    """Seconds since 1970, in UTC, to the second."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s after 1970"
