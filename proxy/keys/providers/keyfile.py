"""Provider 1: key-encryption keys in a file beside the proxy."""

from pathlib import Path

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.errors import Unopenable
from kveil.protocol.envelope.header import KeyBlock
from kveil.protocol.envelope.wrap import unwrap_epoch_key, wrap_epoch_key
from kveil.proxy.keys.errors import KeyDenied, KeyFileError, KeyRefused, KeyUnavailable
from kveil.proxy.keys.keyfile import KeyFile, NamedKey
from kveil.proxy.keys.keyfile_store import Stamp, read_key_file, stamp_of
from kveil.proxy.keys.provider import KeyContext, KeyDescription
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
    def place(self) -> str:
        """The file."""
        return str(self._path)

    async def wrap(self, name: str, secret: bytes, context: KeyContext) -> KeyBlock:
        """Wrap under the primary version of the key."""
        key = self._key(name)
        version = next(one for one in key.versions if one.version == key.primary)
        return KeyBlock(
            provider=self.id,
            name=name,
            mechanism=registry.KVEIL_WRAP,
            version=key.primary,
            wrapped=wrap_epoch_key(version.secret, *context, secret),
        )

    async def unwrap(self, block: KeyBlock, context: KeyContext) -> bytes:
        """Unwrap under the version that the block names."""
        version = self._key(block.name).version(block.version)
        if version is None:
            # It stands in an envelope that anybody may have written, so it is shown quoted.
            msg = f"the key file {self._path} has no version {block.version!r} of key {block.name}"
            raise KeyRefused(msg)
        try:
            return unwrap_epoch_key(version.secret, *context, block.wrapped)
        except Unopenable:
            msg = f"the wrap does not open under key {block.name!r}, version {block.version!r}, for {context.topic}"
            raise KeyRefused(msg) from None

    async def describe(self, name: str) -> KeyDescription:
        """The key as it was last read."""
        key = self._key(name)
        return KeyDescription(name=name, primary=key.primary, versions=tuple(one.version for one in key.versions))

    def _key(self, name: str) -> NamedKey:
        key = self._content.key(name)
        if key is None:
            msg = (
                f"the key file {self._path} has no key {name}: `kveil keys add {name}` makes it, but one that is "
                "lost must be restored from your backup"
            )
            raise KeyDenied(msg)
        return key

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
        if content.realm != self._content.realm:
            msg = f"its realm is {content.realm}, and this process runs for {self._content.realm}: a restart is needed"
            raise KeyFileError(msg)
        if content.key_hiding_key.id != self._content.key_hiding_key.id:
            # Records with equal keys would stand under two wire keys, and compaction would keep both.
            msg = "it has another key-hiding key, which must never change while there is data"
            raise KeyFileError(msg)

    async def health(self) -> None:
        """Raises KeyUnavailable if the file can't be read any more: the next start would fail."""
        try:
            read_key_file(self._path)
        except KeyFileError as error:
            raise KeyUnavailable(str(error)) from None

    async def close(self) -> None:
        """Nothing is held open."""
