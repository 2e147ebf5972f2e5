"""Provider 2: the transit engine of HashiCorp Vault or OpenBao.

Transit gives `vault:vN:BASE64`: N is the block's version, the bytes are the block's wrap. Realm and topic are its
additional data, so the key must be an AEAD's.
"""

import base64
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.header import KeyBlock, lp
from kveil.proxy.config.key_services import Vault
from kveil.proxy.keys.errors import KeyDenied, KeyRefused, KeyUnavailable
from kveil.proxy.keys.provider import KeyContext, KeyDescription
from kveil.proxy.keys.providers.vault_http import BAD_REQUEST, FORBIDDEN, NOT_FOUND, Answer, VaultHttp
from kveil.proxy.keys.providers.vault_sign_in import SignIn

_CIPHERTEXT: Final = re.compile(r"vault:v([1-9][0-9]{0,8}):([A-Za-z0-9+/]+={0,2})")
# Transit takes version 0 for 1, and more: the same wrap would go by several names.
_VERSION: Final = re.compile(r"[1-9][0-9]{0,8}")
# What transit takes for a key's name (`framework.GenericNameRegex`). Nothing in it changes a path.
_NAME: Final = re.compile(r"\w(([\w.-]+)?\w)?", re.ASCII)
MOST_WRAPPED: Final = 1024
"""An AEAD's wrap of an epoch key is 60 to 72 bytes."""
_CONTEXT: Final = b"kveil/v1/transit\x00"
_MAKE_NONE: Final = "none"
"""Transit makes a key that it doesn't have when it is asked to encrypt. It knows no type of this name, so it can't."""

_DISABLED: Final = "it is disabled (soft-deleted): `bao write -f {mount}/keys/{name}/soft-delete-restore` enables it"
_MISSING: Final = (
    "there is no such key: `vault write -f {mount}/keys/{name}` makes it, but one that is lost must be restored from "
    "your backup"
)
_WRONG_KIND: Final = "it is of a wrong kind: it must be an AEAD's, aes256-gcm96 for example, and not derived"
_MEANINGS: Final[Mapping[str, str]] = {
    "encryption key not found": _MISSING,
    f"unknown key type {_MAKE_NONE}": _MISSING,
    "soft-deleted": _DISABLED,
    "non-AEAD": _WRONG_KIND,
    "not supported for key type": _WRONG_KIND,
    "key derivation": _WRONG_KIND,
    "disallowed by policy (too old)": "this version is below the key's min_decryption_version, which can be lowered",
}
"""Transit's words, and what they mean. They are the same in Vault and in OpenBao."""


class VaultProvider:
    """Wraps and unwraps by HTTP, one request each."""

    id = registry.VAULT_TRANSIT

    def __init__(self, settings: Vault) -> None:
        """Raises KeySetupError."""
        self._mount = settings.mount.rstrip("/")
        self._http = VaultHttp(settings)
        self._sign_in = SignIn(self._http, settings)

    @property
    def place(self) -> str:
        """The server, and the engine's mount there."""
        return f"{self._http.place} ({self._mount})"

    async def wrap(self, name: str, secret: bytes, context: KeyContext) -> KeyBlock:
        """Wrap under the newest version, or what `min_encryption_version` leaves of them."""
        body = {"plaintext": _encoded(secret), "associated_data": _additional(context), "type": _MAKE_NONE}
        answer = await self._ask("POST", "encrypt", name, body)
        if not answer.is_ok:
            raise self._denied(name, answer)
        found = _CIPHERTEXT.fullmatch(_text(answer, "ciphertext"))
        wrapped = _decoded(found[2]) if found else None
        if found is None or wrapped is None or len(wrapped) > MOST_WRAPPED:
            raise self._nonsense(name)
        return KeyBlock(provider=self.id, name=name, mechanism=registry.SERVICE_AEAD, version=found[1], wrapped=wrapped)

    async def unwrap(self, block: KeyBlock, context: KeyContext) -> bytes:
        """Unwrap under the version that the block names: it is part of what transit is given."""
        shown = f"{block.name!r} in version {block.version!r}"
        if not _VERSION.fullmatch(block.version):
            msg = f"no version of a transit key is written like that: {shown}"
            raise KeyRefused(msg)
        ciphertext = f"vault:v{block.version}:{_encoded(block.wrapped)}"
        body = {"ciphertext": ciphertext, "associated_data": _additional(context)}
        answer = await self._ask("POST", "decrypt", block.name, body)
        if answer.status == BAD_REQUEST and not _meaning(answer):
            msg = f"Vault at {self.place} doesn't unwrap this by key {shown} for {context.topic}: {answer.words}"
            raise KeyRefused(msg)
        if not answer.is_ok:
            raise self._denied(block.name, answer)
        secret = _decoded(_text(answer, "plaintext"))
        if secret is None:
            raise self._nonsense(block.name)
        return secret

    async def describe(self, name: str) -> KeyDescription:
        """Ask for the versions, which takes the right to read the key's description."""
        answer = await self._ask("GET", "keys", name)
        if not answer.is_ok:
            raise self._denied(name, answer)
        data = answer.part("data")
        if data.get("soft_deleted"):
            raise self._unusable(name, _DISABLED)
        # Of all types only the AEADs do both.
        if not (data.get("supports_encryption") and data.get("supports_derivation")) or data.get("derived"):
            raise self._unusable(name, _WRONG_KIND)
        versions, primary = data.get("keys"), str(data.get("latest_version"))
        if not isinstance(versions, dict) or primary not in versions or not all(map(_VERSION.fullmatch, versions)):
            raise self._nonsense(name)
        return KeyDescription(name=name, primary=primary, versions=tuple(sorted(versions, key=int)))

    async def health(self) -> None:
        """Ask who we are there: it is up, unsealed, and has signed us in."""
        if not await self._sign_in.holds(await self._sign_in.token()):
            await self._sign_in.token()

    def refresh(self) -> bool:
        """Whether there is another token in the file."""
        return self._sign_in.refresh()

    async def close(self) -> None:
        """Let go of the session and the connections."""
        await self._sign_in.close()
        await self._http.close()

    async def _ask(self, method: str, action: str, name: str, body: Mapping[str, str] | None = None) -> Answer:
        """Ask with a token that Vault knows. A 403 is then a matter of policies."""
        if not _NAME.fullmatch(name):
            msg = f"no transit key can have the name {name!r}"
            raise KeyDenied(msg)
        path = f"{self._mount}/{action}/{quote(name, safe='')}"
        token = await self._sign_in.token()
        answer = await self._http.ask(method, path, token, body)
        if answer.status != FORBIDDEN or await self._sign_in.holds(token):
            return answer
        return await self._http.ask(method, path, await self._sign_in.token(), body)

    # What transit's refusals mean --------------------------------------------------------------------------------

    def _denied(self, name: str, answer: Answer) -> KeyDenied:
        if answer.status == FORBIDDEN:
            return self._unusable(
                name, "the key isn't there, or the policies of this identity don't let it do that: see docs/keys.md"
            )
        if answer.status == NOT_FOUND:
            # A missing key has no words, a missing mount or namespace has.
            where = f"{answer.words}; look at keys.vault.mount and keys.vault.namespace"
            return self._unusable(name, where if answer.words else _MISSING)
        return self._unusable(name, _meaning(answer) or answer.words)

    def _unusable(self, name: str, reason: str) -> KeyDenied:
        said = reason.replace("{mount}", self._mount).replace("{name}", name)
        return KeyDenied(f"Vault at {self._http.place} doesn't let the key {self._mount}/keys/{name} be used: {said}")

    def _nonsense(self, name: str) -> KeyUnavailable:
        return KeyUnavailable(f"Vault at {self.place} answered for key {name} with something that isn't transit's")


def _additional(context: KeyContext) -> str:
    return _encoded(_CONTEXT + lp(context.realm.encode()) + lp(context.topic.encode()))


def _meaning(answer: Answer) -> str | None:
    """What is wrong with the key, None if nothing is."""
    return next((meaning for words, meaning in _MEANINGS.items() if words in answer.words), None)


def _text(answer: Answer, name: str) -> str:
    found: Any = answer.part("data").get(name)
    return found if isinstance(found, str) else ""


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True) or None
    except ValueError:
        return None
