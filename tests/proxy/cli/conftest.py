"""Runs `kveil` inside of the test, with nothing of the machine's environment."""

import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner, Result

from kveil.proxy.cli import app
from kveil.proxy.config import Settings

Kveil = Callable[..., Result]


@pytest.fixture(autouse=True)
def own_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A home of the test's own, and no `KVEIL_` variable of the developer's."""
    import os

    for name in list(os.environ):
        if name.startswith("KVEIL_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    yield
    structlog.reset_defaults()


@pytest.fixture
def kveil() -> Kveil:
    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="kveil")

    return run


@pytest.fixture
def key_path(kveil: Kveil, tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    assert kveil("keys", "init", "--keys", path, "--realm", "test").exit_code == 0
    return path


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """What the server was started with. It ends at once, with code 0."""
    seen: list[Settings] = []
    server = types.ModuleType("kveil.proxy.server")

    def serve(settings: Settings, _read: object) -> int:
        seen.append(settings)
        return 0

    server.serve = serve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kveil.proxy.server", server)
    return seen
