"""What commands that read a topic's envelopes say while they do, and how they name what they found."""

from datetime import UTC, datetime

import typer

from kveil.proxy.cli.telling import PROGRESS_SECONDS


class ScanProgress:
    """Lines for whoever waits, on standard error."""

    def __init__(self, topic: str, partitions: int) -> None:
        from time import monotonic

        self._topic, self._partitions, self._now = topic, partitions, monotonic
        self._due = monotonic() + PROGRESS_SECONDS
        self._batches = 0
        self._seen: set[int] = set()

    def tell(self, partition: int) -> None:
        """One more batch was read."""
        self._batches += 1
        self._seen.add(partition)
        if self._now() >= self._due:
            self._due = self._now() + PROGRESS_SECONDS
            where = f"partition {len(self._seen)} of {self._partitions}"
            typer.echo(f"{self._topic}: {self._batches} batches read, {where}", err=True)


def provider_name(number: int) -> str:
    """Who wraps keys, as the configuration names it."""
    from kveil.proxy.policy import SERVICES

    return SERVICES[number].value if number in SERVICES else f"provider {number}"


def when(stamp: int) -> str:
    """A timestamp of Kafka's; the number itself where no clock shows it."""
    try:
        return datetime.fromtimestamp(stamp / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return str(stamp)


def plainly(name: str) -> str:
    """A name that a broker may have made up, quoted where it isn't plain."""
    return name if name.isascii() and name.isprintable() else repr(name)
