"""Provider 6: AES keys in the token of an HSM, by PKCS#11.

A key is every AES-256 secret key whose CKA_LABEL is the name. Each of them is a version, and CKA_ID says which: the
greatest one, read as a number, is primary. A version with CKA_WRAP or CKA_UNWRAP false doesn't do that.
"""

import re
from collections.abc import Callable
from typing import Final, TypeVar

from pkcs11 import Attribute, PKCS11Error, SecretKey, Session, Token, TokenFlag
from pkcs11.exceptions import PinExpired, PinIncorrect, PinInvalid, PinLenRange

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.header import KeyBlock
from kveil.protocol.envelope.key_schedule import EPOCH_KEY_LENGTH
from kveil.proxy.config.key_services import Pkcs11
from kveil.proxy.keys.errors import KeyDenied, KeyRefused, KeySetupError, KeyUnavailable
from kveil.proxy.keys.provider import KeyContext, KeyDescription
from kveil.proxy.keys.providers import pkcs11_keys as keys
from kveil.proxy.keys.providers.pkcs11_module import Module
from kveil.proxy.secret import Secret

_VERSION: Final = re.compile(r"(?:[0-9a-f]{2})*")
_PIN_REFUSED: Final = (PinIncorrect, PinInvalid, PinLenRange, PinExpired)

T = TypeVar("T")


class Pkcs11Provider:
    """The keys of one token."""

    id = registry.PKCS11

    def __init__(self, settings: Pkcs11, section: str = "keys.pkcs11") -> None:
        """Touches neither library nor token. `section` is what errors call the settings. Raises KeySetupError."""
        self._settings = settings
        self._section = section
        self._module: Module | None = None
        self._refused: Secret | None = None
        """The PIN that the token refused. It locks after a few tries, so this one isn't tried again."""
        try:
            self._read_pin()
        except ValueError as error:
            msg = f"{self._section}.pin: {error}"
            raise KeySetupError(msg) from None

    @property
    def place(self) -> str:
        """The token and its library."""
        return f"token {self._settings.token} of {self._settings.module}"

    # Key wrap takes no further data, so the context goes unused: the kid tells.
    async def wrap(self, name: str, secret: bytes, context: KeyContext) -> KeyBlock:  # noqa: ARG002
        """Wrap under the version with the greatest CKA_ID."""
        return await self._do(lambda session: self._wrap(session, name, secret))

    async def unwrap(self, block: KeyBlock, context: KeyContext) -> bytes:  # noqa: ARG002
        """Unwrap under the version that the block names."""
        # Made-up blocks are refused without asking: a library's own reading of them is C.
        if block.mechanism != registry.AES_KEY_WRAP_PAD or len(block.wrapped) != keys.WRAPPED_LENGTH:
            msg = f"the wrap of key {block.name!r} isn't one that a PKCS#11 token makes of an epoch key"
            raise KeyRefused(msg)
        if not _VERSION.fullmatch(block.version):
            msg = f"the wrap of key {block.name!r} names {block.version!r}, which is no CKA_ID in hex"
            raise KeyRefused(msg)
        return await self._do(lambda session: self._unwrap(session, block))

    async def describe(self, name: str) -> KeyDescription:
        """The CKA_IDs of the key, in hex."""
        found = await self._do(lambda session: [keys.version_of(key) for key in self._versions(session, name)])
        return KeyDescription(name=name, primary=found[-1], versions=tuple(found))

    async def health(self) -> None:
        """Raises KeyUnavailable if the token isn't there or doesn't let the proxy in."""
        await self._do(lambda _: self._token_again())

    def refresh(self) -> bool:
        """Looks for another PIN if the token has refused the last one."""
        if self._refused is None:
            return False
        try:
            changed = self._read_pin().reveal() != self._refused.reveal()
        except ValueError:
            return False
        if changed:
            self._refused = None
        return changed

    async def close(self) -> None:
        """Ends the library's use in this process, if it is the last."""
        module, self._module = self._module, None
        if module is not None:
            await module.leave()

    # In the library's thread -------------------------------------------------------------------------------------

    async def _do(self, work: Callable[[Session], T]) -> T:
        if self._module is None:
            self._module = Module.use(self._settings.module)
        module = self._module
        return await module.run(lambda: self._with_session(module, work))

    def _with_session(self, module: Module, work: Callable[[Session], T]) -> T:
        try:
            return work(module.session(self._settings.token, self._login))
        except keys.UNABLE as error:
            msg = (
                f"{self.place} doesn't allow what is needed of it ({type(error).__name__}): to wrap an epoch "
                "key that is given to it, and to give back what it unwrapped"
            )
            raise KeyDenied(msg) from None
        except PKCS11Error as error:
            # A session that is lost, a token that was removed, an HSM that was restarted: all begins anew.
            module.end()
            msg = f"{self.place} failed with {type(error).__name__}; it is opened anew at the next call"
            raise KeyUnavailable(msg) from None

    def _login(self, token: Token) -> Session:
        """One try. Raises KeyUnavailable."""
        try:
            pin = self._read_pin()
        except ValueError as error:
            msg = f"{self.place}: its PIN can't be read: {error}"
            raise KeyUnavailable(msg) from None
        if self._refused is not None and pin.reveal() == self._refused.reveal():
            raise KeyUnavailable(self._why_refused())
        self._check_tries(token)
        try:
            return token.open(user_pin=pin.reveal().decode())
        except _PIN_REFUSED:
            self._refused = pin
            raise KeyUnavailable(self._why_refused()) from None

    def _check_tries(self, token: Token) -> None:
        if TokenFlag.USER_PIN_LOCKED in token.flags:
            msg = f"{self.place} is locked after too many wrong PINs: its security officer must set a new one"
            raise KeyUnavailable(msg)
        if TokenFlag.USER_PIN_FINAL_TRY in token.flags:
            msg = f"{self.place} locks at the next wrong PIN, so this one isn't tried: log in once with another tool"
            raise KeyUnavailable(msg)

    def _why_refused(self) -> str:
        return (
            f"{self.place} refused the PIN of {self._section}.pin ({self._settings.pin}): it isn't tried again "
            "before it changes, since a token locks after a few wrong ones"
        )

    def _read_pin(self) -> Secret:
        """The PIN. Raises ValueError."""
        pin = self._settings.pin.read()
        try:
            found = pin.reveal().decode()
        except UnicodeDecodeError:
            found = ""
        if not found:
            msg = f"{self._settings.pin} holds no PIN: it is empty or not UTF-8"
            raise ValueError(msg)
        return pin

    def _token_again(self) -> Token:
        assert self._module is not None
        return self._module.token(self._settings.token)

    def _versions(self, session: Session, name: str) -> list[SecretKey]:
        """All versions, the primary one last. Raises KeyDenied."""
        found = keys.find_keys(session, name)
        versions = keys.in_order(found)
        if not versions:
            self._token_again()  # a token that is gone shows no keys either
            why = "has no AES key of 256 bits" if found else "has no key"
            msg = f"{self.place} {why} labelled {name!r}: make it there, but one that is lost must be restored"
            raise KeyDenied(msg)
        return versions

    def _wrap(self, session: Session, name: str, secret: bytes) -> KeyBlock:
        versions = self._versions(session, name)
        key, version = versions[-1], keys.version_of(versions[-1])
        if len(versions) > 1 and keys.version_of(versions[-2]) == version:
            msg = f"{self.place} has two keys {name!r} with CKA_ID {version!r}: give each version another one"
            raise KeyDenied(msg)
        if not keys.may(key, Attribute.WRAP):
            msg = f"{self.place}: key {name!r}, CKA_ID {version!r}, is disabled: its CKA_WRAP is false"
            raise KeyDenied(msg)
        wrapped = keys.wrap(session, key, secret)
        if len(wrapped) != keys.WRAPPED_LENGTH:
            msg = f"{self.place}: CKM_AES_KEY_WRAP_PAD isn't RFC 5649 there, and it has no CKM_AES_KEY_WRAP_KWP"
            raise KeyDenied(msg)
        return KeyBlock(
            provider=self.id, name=name, mechanism=registry.AES_KEY_WRAP_PAD, version=version, wrapped=wrapped
        )

    def _unwrap(self, session: Session, block: KeyBlock) -> bytes:
        versions = [key for key in self._versions(session, block.name) if keys.version_of(key) == block.version]
        if not versions:
            msg = f"{self.place} has no key {block.name!r} with CKA_ID {block.version!r}"
            raise KeyRefused(msg)
        if not keys.may(versions[0], Attribute.UNWRAP):
            msg = f"{self.place}: key {block.name!r}, CKA_ID {block.version!r}, is disabled: its CKA_UNWRAP is false"
            raise KeyDenied(msg)
        secret = keys.unwrap(session, versions[0], block.wrapped)
        if secret is None or len(secret) != EPOCH_KEY_LENGTH:
            msg = f"{self.place}: the wrap does not open under key {block.name!r}, CKA_ID {block.version!r}"
            raise KeyRefused(msg)
        return secret
