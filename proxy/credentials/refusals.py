"""Credentials that the cluster has refused: not tried again at once, since accounts are locked for that."""

from typing import Final

FIRST_SECONDS: Final = 1.0
"""A user that was made a moment ago isn't known to every broker yet."""
MOST_SECONDS: Final = 60.0
"""So an operator who mends it at the cluster need not wait for long."""


class Refusals:
    """How long to leave the cluster alone. Times are monotonic, in seconds.

    Only the last refused credentials are remembered: others, after a secret was rotated, are tried at once.
    """

    def __init__(self) -> None:
        self._credentials = b""
        self._reason = ""
        self._delay = 0.0
        self._until = 0.0

    def refused(self, credentials: bytes, reason: str, now: float) -> None:
        """Take note of a refusal. Each one doubles the time, those of logins that ran at the same time don't."""
        if credentials == self._credentials and now < self._until:
            return
        doubled = 2 * self._delay if credentials == self._credentials else 0.0
        self._delay = min(max(doubled, FIRST_SECONDS), MOST_SECONDS)
        self._credentials, self._reason, self._until = credentials, reason, now + self._delay

    def accepted(self) -> None:
        """The cluster has taken a login."""
        self._credentials, self._delay, self._until = b"", 0.0, 0.0

    def why_not(self, credentials: bytes, now: float) -> str | None:
        """Why these credentials aren't to be tried now; None if they are."""
        if credentials != self._credentials or now >= self._until:
            return None
        return f"{self._reason} (tried again in {self._until - now:.0f} s, or when the secret changes)"
