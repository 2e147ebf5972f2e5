"""A PKCS#11 token that keeps the key of a file with an identity's private keys."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.header import KeyBlock
from kveil.proxy.config import IdentityToken
from kveil.proxy.config.limits import KEY_CALL_TIMEOUT_SECONDS
from kveil.proxy.identity.errors import IdentityError
from kveil.proxy.keys.errors import KeyDenied, KeyRefused, KeySetupError, KeyUnavailable
from kveil.proxy.keys.provider import KeyContext

if TYPE_CHECKING:
    from kveil.proxy.keys.providers.pkcs11 import Pkcs11Provider

SECTION: Final = "identity.pkcs11"
# Key wrap takes no context: the file's own encryption binds the wrap to the identity.
_CONTEXT: Final = KeyContext("", "", b"")

T = TypeVar("T")


class WrappedFileKey(NamedTuple):
    """What a file says of its key."""

    key: str
    """The label of the token's key."""
    version: str
    """Its CKA_ID in hex."""
    wrapped: bytes


class FileToken:
    """The token, which is asked when a file is written or read. All methods block and raise IdentityError."""

    def __init__(self, settings: IdentityToken, section: str = SECTION) -> None:
        """`section` is what errors call these settings."""
        self._settings = settings
        self._section = section

    @property
    def key(self) -> str:
        """The label of the token's key."""
        return self._settings.key

    def wrap(self, file_key: bytes) -> WrappedFileKey:
        """A new file's key, under the primary version."""
        block = self._ask(lambda token: token.wrap(self.key, file_key, _CONTEXT))
        return WrappedFileKey(block.name, block.version, block.wrapped)

    def unwrap(self, found: WrappedFileKey) -> bytes:
        """The key of a file."""
        if found.key != self.key:
            raise IdentityError(
                f"it is protected by key {found.key!r} of a token, and {self._section}.key is {self.key!r}"
            )
        block = KeyBlock(
            provider=registry.PKCS11,
            name=found.key,
            mechanism=registry.AES_KEY_WRAP_PAD,
            version=found.version,
            wrapped=found.wrapped,
        )
        return self._ask(lambda token: token.unwrap(block, _CONTEXT))

    def _ask(self, work: "Callable[[Pkcs11Provider], Coroutine[Any, Any, T]]") -> T:
        # By an event loop of its own: who opens an identity may be in one already, and must wait in any case.
        answers: list[T | BaseException] = []

        def ask() -> None:
            try:
                answers.append(asyncio.run(self._asked(work)))
            except BaseException as error:  # it is raised below, in the thread that waits
                answers.append(error)

        thread = threading.Thread(target=ask, name="identity token")
        thread.start()
        thread.join()
        (answer,) = answers
        if isinstance(answer, TimeoutError):
            raise IdentityError(
                f"token {self._settings.token} of {self._settings.module} didn't answer within "
                f"{KEY_CALL_TIMEOUT_SECONDS:g} s: see whether its HSM can be reached"
            )
        if isinstance(answer, KeySetupError | KeyDenied | KeyRefused | KeyUnavailable):
            raise IdentityError(str(answer))
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def _asked(self, work: "Callable[[Pkcs11Provider], Coroutine[Any, Any, T]]") -> T:
        try:
            from kveil.proxy.keys.providers.pkcs11 import Pkcs11Provider
        except ImportError as error:
            raise IdentityError(
                f"{self._section} needs {error.name}, which isn't installed: pip install 'kveil[pkcs11]'"
            ) from None
        token = Pkcs11Provider(self._settings, self._section)
        try:
            async with asyncio.timeout(KEY_CALL_TIMEOUT_SECONDS):
                return await work(token)
        finally:
            await token.close()
