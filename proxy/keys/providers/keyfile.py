"""Provider 1: key-encryption keys in a file beside the proxy."""

from pathlib import Path

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.errors import Unopenable
from kveil.protocol.envelope.header import KeyBlock
from kveil.protocol.envelope.wrap import unwrap_epoch_key, wrap_epoch_key
from kveil.proxy.keys.errors import KeyFileError, KeyRefused, KeyUnavailable
from kveil.proxy.keys.keyfile import HidingKey, KeyFile
from kveil.proxy.keys.keyfile_store import Stamp, read_key_file, stamp_of
from kveil.proxy.keys.provider import KeyDescription, ProviderDescription
from kveil.proxy.log import get_logger

_log = get_logger(__name__)


class KeyFileProvider:
    """Holds what the key file held when it was last read well, and reads it again when it has changed."""

    id = registry.KEY_FILE

    def __init__(self, path: Path) -> None:
        """Reads the file. Raises KeyFileError."""
        self._path = path
        self._content, stamp = read_key_file(path)
        # What stood there when it was last looked at, so that one bad file is told of once.
        self._seen: Stamp | None = stamp

    @property
    def realm(self) -> str:
        """The deployment that the keys belong to. It can't change while running."""
        return self._content.realm

    async def wrap(self, topic: str, kid: bytes, secret: bytes, key_name: str) -> KeyBlock:
        """Wraps an epoch key under the primary version of `key_name`."""
        key = self._content.key(key_name)
        if key is None:
            msg = f"the key file {self._path} has no key {key_name}: `kveil keys add {key_name}` makes it"
            raise KeyUnavailable(msg)
        version = next(one for one in key.versions if one.version == key.primary)
        return KeyBlock(
            provider=self.id,
            name=key_name,
            mechanism=registry.KVEIL_WRAP,
            version=key.primary,
            wrapped=wrap_epoch_key(version.secret, self.realm, topic, kid, secret),
        )

    async def unwrap(self, topic: str, kid: bytes, block: KeyBlock) -> bytes:
        """The epoch key in `block`."""
        if block.provider != self.id or block.mechanism != registry.KVEIL_WRAP:
            msg = f"provider {block.provider} with mechanism {block.mechanism} is not the key file's"
            raise KeyRefused(msg)
        key = self._content.key(block.name)
        version = key.version(block.version) if key else None
        if version is None:
            # Both stand in an envelope that anybody may have written, so they are shown quoted.
            msg = f"the key file {self._path} has no key {block.name!r} in version {block.version!r}"
            raise KeyRefused(msg)
        try:
            return unwrap_epoch_key(version.secret, self.realm, topic, kid, block.wrapped)
        except Unopenable:
            msg = f"the wrap does not open under key {block.name!r}, version {block.version!r}, for {topic}"
            raise KeyRefused(msg) from None

    def primary_version(self, key_name: str) -> str | None:
        """The version that seals now."""
        return self._content.primaries.get(key_name)

    def hiding_key(self) -> HidingKey:
        """The file's key-hiding key. It has always one."""
        return self._content.key_hiding_key

    def refresh(self) -> bool:
        """Reads the file again if it has changed. One that can't be used leaves the old content in place."""
        stamp = stamp_of(self._path)
        if stamp == self._seen:
            return False
        self._seen = stamp
        try:
            content, self._seen = read_key_file(self._path)
            self._check_successor(content)
        except KeyFileError as error:
            _log.error("keys_reload_refused", path=str(self._path), reason=str(error))
            return False
        self._content = content
        _log.info("keys_reloaded", path=str(self._path), keys=[key.name for key in content.keys])
        return True

    def _check_successor(self, content: KeyFile) -> None:
        if content.realm != self.realm:
            msg = f"its realm is {content.realm}, and this process runs for {self.realm}: a restart is needed"
            raise KeyFileError(msg)
        if content.key_hiding_key.id != self._content.key_hiding_key.id:
            # Records with equal keys would stand under two wire keys, and compaction would keep both.
            msg = "it has another key-hiding key, which must never change while there is data"
            raise KeyFileError(msg)

    def describe(self) -> ProviderDescription:
        """What the file held when last read."""
        keys = tuple(
            KeyDescription(name=key.name, primary=key.primary, versions=tuple(one.version for one in key.versions))
            for key in self._content.keys
        )
        return ProviderDescription(provider="keyfile", place=str(self._path), realm=self.realm, keys=keys)

    async def health(self) -> None:
        """Raises KeyUnavailable if the file can't be read any more: the next start would fail."""
        try:
            read_key_file(self._path)
        except KeyFileError as error:
            raise KeyUnavailable(str(error)) from None
