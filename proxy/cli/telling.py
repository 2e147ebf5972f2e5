"""How a command says what it did, and that it is still at it."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import typer

PROGRESS_SECONDS: Final = 2.0
"""Whoever waits for longer is told why."""


def tell(text: str | None, shown: Mapping[str, Any], *, as_json: bool) -> None:
    """Say it for people, who may have been told by other lines, or the same for machines."""
    said = json.dumps(shown, indent=2) if as_json else text
    if said is not None:
        typer.echo(said)


def warn(text: str, *, as_json: bool) -> None:
    """Say what only people read: it doesn't get between the JSON."""
    typer.echo(text, err=as_json)


@contextmanager
def still_at(what: str) -> Iterator[None]:
    """Say on standard error every two seconds what takes so long."""
    ended = threading.Event()

    def tell_again() -> None:
        seconds = PROGRESS_SECONDS
        while not ended.wait(PROGRESS_SECONDS):
            typer.echo(f"kveil: {what}: {seconds:.0f} s so far", err=True)
            seconds += PROGRESS_SECONDS

    teller = threading.Thread(target=tell_again, daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()
