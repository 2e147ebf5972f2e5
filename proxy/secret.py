"""A value that never shows itself."""

from typing import Final

REDACTED: Final = "[redacted]"


class Secret:
    """Holds a password or a key. Printing, formatting or logging it shows nothing; `reveal` does."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The value itself, for the one call that needs it."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({REDACTED})"

    def __str__(self) -> str:
        return REDACTED

    def __format__(self, spec: str) -> str:
        return REDACTED

    def __reduce__(self) -> str | tuple[object, ...]:
        msg = "a secret can't be pickled or copied"
        raise TypeError(msg)
