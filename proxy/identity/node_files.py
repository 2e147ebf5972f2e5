"""What an enrolled node keeps: its private keys, whom it believes, and what it must not forget.

    identity.json      the private keys, made once
    membership.json    the realm, and the authority's fingerprint
    checkpoint.json    the newest checkpoint that was seen: its number only grows
    rotation.json      replaced when new epochs are asked for; it says nothing
    chain-N.json       the last announcement of one process's chain, to be written again if the cluster lost it

All are private and written as a whole. A node without its checkpoint can't tell a cluster that shows it old records
from an honest one, so it refuses to start: rolling back must not look like a first start.
"""

import base64
import binascii
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from kveil.proxy.identity.errors import IdentityError
from kveil.proxy.private_file import PrivateFile, Stamp, stamp_of

# The largest is a chain's last announcement, of at most a megabyte, in base64.
_MOST_BYTES: Final = 2 * 1024 * 1024
_VERSION: Final = 1
# Processes of one identity on one host: workers, and several sidecars.
_CHAINS: Final = 256
_ROTATION: Final = "rotation.json"
_HASH_LENGTH: Final = 32
_CHAIN_LENGTH: Final = 16


class CheckpointMark(NamedTuple):
    """A checkpoint, as far as it must be known again."""

    number: int
    hash: bytes


class Membership(NamedTuple):
    """Whom a node believes."""

    realm: str
    authority: bytes
    """The id of the authority's keys: its fingerprint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainEnd:
    """Where a chain of announcements stands."""

    chain: bytes
    sequence: int
    hash: bytes
    record: bytes
    """The last announcement itself; empty where there was none."""

    @classmethod
    def new(cls) -> "ChainEnd":
        """A chain without an announcement."""
        return cls(chain=os.urandom(_CHAIN_LENGTH), sequence=0, hash=bytes(_HASH_LENGTH), record=b"")


class NodeFiles:
    """The directory of one node. All methods raise IdentityError if a file can't be used."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def is_enrolled(self) -> bool:
        """Whether the node was told whom it belongs to."""
        return (self.directory / "membership.json").exists()

    def enrol(self, membership: Membership, mark: CheckpointMark) -> None:
        """Belong to a realm from now on. `mark` is the oldest checkpoint that may be believed."""
        content: dict[str, object] = {"realm": membership.realm, "authority": membership.authority.hex()}
        # The mark first: a node that belongs to somebody and has none would refuse to start.
        self._file("checkpoint.json").replace(_encode(_mark_as_json(mark)))
        if not self._file("membership.json").create(_encode(content)):
            raise IdentityError(
                f"{self.directory} belongs to a realm already: --identity names another directory for another identity"
            )

    def membership(self) -> Membership:
        """Whom the node belongs to."""
        content = self._read("membership.json", "`kveil enroll` makes it")
        path = self.directory / "membership.json"
        return Membership(_text(content, "realm", path), _binary(content, "authority", _HASH_LENGTH, path))

    def mark(self) -> CheckpointMark:
        """The newest checkpoint that was seen."""
        content = self._read(
            "checkpoint.json",
            f"without it old records can't be told from new ones. {_way_out(self.directory / 'checkpoint.json')}",
        )
        number = content.get("number")
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise _damaged(self.directory / "checkpoint.json", "it has no number")
        return CheckpointMark(number, _binary(content, "hash", _HASH_LENGTH, self.directory / "checkpoint.json"))

    def keep_mark(self, mark: CheckpointMark) -> None:
        """Remember a newer checkpoint. An older one than another process has kept meanwhile changes nothing."""
        file = self._file("checkpoint.json")
        with file.locked():
            if mark.number > self.mark().number:
                file.replace(_encode(_mark_as_json(mark)))

    def rotate(self) -> None:
        """Have every process that uses this directory begin new epochs, within seconds."""
        self.mark()  # so that nothing is written where no node is
        self._file(_ROTATION).replace(_encode({}))

    def rotation(self) -> Stamp | None:
        """What changes when new epochs are asked for."""
        return stamp_of(self.directory / _ROTATION)

    def take_chain(self) -> "ChainFile":
        """A chain that no other process has. It is this process's until it ends."""
        for number in range(_CHAINS):
            descriptor = self._file(f"chain-{number}.lock").take()
            if descriptor is None:
                continue
            try:
                return ChainFile(self, f"chain-{number}.json", descriptor)
            except IdentityError:
                os.close(descriptor)
                raise
        raise IdentityError(f"{self.directory} has {_CHAINS} processes already")

    def _file(self, name: str) -> PrivateFile:
        return PrivateFile(self.directory / name, "identity file", IdentityError)

    def _read(self, name: str, way_out: str) -> dict[str, Any]:
        try:
            data, _ = self._file(name).read(_MOST_BYTES)
        except FileNotFoundError:
            raise IdentityError(f"there is no {self.directory / name}: {way_out}") from None
        return _decode(data, self.directory / name)


class ChainFile:
    """One process's chain."""

    def __init__(self, files: NodeFiles, name: str, lock: int) -> None:
        self._file = files._file(name)  # noqa: SLF001 - a part of it
        self._lock = lock
        self.end = self._read()

    def advance(self, end: ChainEnd) -> None:
        """Remember an announcement, before it is sent."""
        content = {
            "chain": end.chain.hex(),
            "sequence": end.sequence,
            "hash": end.hash.hex(),
            "record": base64.b64encode(end.record).decode(),
        }
        self._file.replace(_encode(content))
        self.end = end

    @property
    def path(self) -> Path:
        """Where it is kept."""
        return self._file.path

    def close(self) -> None:
        """Leave the chain to another process."""
        os.close(self._lock)

    def _read(self) -> ChainEnd:
        try:
            data, _ = self._file.read(_MOST_BYTES)
        except FileNotFoundError:
            return ChainEnd.new()
        content = _decode(data, self._file.path)
        try:
            return ChainEnd(
                chain=_binary(content, "chain", _CHAIN_LENGTH, self.path),
                sequence=int(content["sequence"]),
                hash=_binary(content, "hash", _HASH_LENGTH, self.path),
                record=base64.b64decode(content["record"], validate=True),
            )
        except (KeyError, TypeError, ValueError, binascii.Error):
            raise _damaged(self.path, "its last announcement can't be read") from None


def _mark_as_json(mark: CheckpointMark) -> dict[str, object]:
    return {"number": mark.number, "hash": mark.hash.hex()}


def _encode(content: dict[str, object]) -> bytes:
    return json.dumps({"version": _VERSION, **content}, indent=2).encode() + b"\n"


def _decode(data: bytes, path: Path) -> dict[str, Any]:
    content: object = None
    with suppress(ValueError):
        content = json.loads(data)
    if not isinstance(content, dict):
        raise _damaged(path, "it is no JSON object")
    if content.get("version") != _VERSION:
        version = content.get("version")
        raise _damaged(path, f"it has version {version!r}, and this program knows {_VERSION} only")
    return content


def _text(content: dict[str, Any], name: str, path: Path) -> str:
    value = content.get(name)
    if not isinstance(value, str) or not value:
        raise _damaged(path, f"it has no {name}")
    return value


def _binary(content: dict[str, Any], name: str, length: int, path: Path) -> bytes:
    value = b""
    with suppress(ValueError):
        value = bytes.fromhex(_text(content, name, path))
    if len(value) != length:
        raise _damaged(path, f"its {name} is no {length} bytes in hexadecimal")
    return value


def _damaged(path: Path, why: str) -> IdentityError:
    return IdentityError(f"{path} is damaged: {why}. {_way_out(path)}")


def _way_out(path: Path) -> str:
    if path.name.startswith("chain-"):
        return "Remove it, and its chain of announcements ends here"
    return (
        f"Restore it, or enrol as a new identity: move {path.parent} away, run `kveil enroll` with a new ticket, and "
        "have the old identity revoked"
    )
