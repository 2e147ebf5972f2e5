"""The key file as a key service: an administrator edits it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from kveil.proxy.keys.keyfile import KeyFile, NamedKey, add_key, new_key_file, rotate_key
from kveil.proxy.keys.keyfile_store import change_key_file, create_key_file
from kveil.proxy.keys.providers.keyfile import KeyFileProvider


class Server:
    """A key file. There is always a key `default` in it."""

    takes_context = True
    has_versions = True
    pauses_calls = False

    def __init__(self, folder: Path) -> None:
        self._path = folder / "keys.json"
        self._away = folder / "keys.json.away"
        self._disabled: dict[str, NamedKey] = {}
        create_key_file(self._path, new_key_file(realm="test"))

    def make_key(self, name: str) -> None:
        change_key_file(self._path, lambda content: add_key(content, name))

    def rotate(self, name: str) -> None:
        change_key_file(self._path, lambda content: rotate_key(content, name))

    def disable(self, name: str) -> None:
        def without(content: KeyFile) -> KeyFile:
            kept = content.key(name)
            assert kept
            self._disabled[name] = kept
            return replace(content, keys=tuple(key for key in content.keys if key.name != name))

        change_key_file(self._path, without)

    def enable(self, name: str) -> None:
        key = self._disabled.pop(name)
        change_key_file(self._path, lambda content: replace(content, keys=(*content.keys, key)))

    def destroy(self, name: str) -> None:
        self.disable(name)
        del self._disabled[name]

    def provider(self) -> KeyFileProvider:
        return KeyFileProvider(self._path)

    def keys_settings(self) -> dict[str, Any]:
        return {"provider": "keyfile", "path": str(self._path)}

    def secrets(self) -> list[str]:
        return [value for name, value in _members(json.loads(self._path.read_text())) if name == "secret"]

    def pause(self) -> None:
        self._path.rename(self._away)

    def resume(self) -> None:
        self._away.rename(self._path)

    def stop(self) -> None:
        """Nothing runs."""


def _members(document: Any) -> Iterator[tuple[str, Any]]:
    """Every member of every object, at any depth."""
    if isinstance(document, dict):
        yield from document.items()
    for inner in document.values() if isinstance(document, dict) else document if isinstance(document, list) else ():
        yield from _members(inner)
