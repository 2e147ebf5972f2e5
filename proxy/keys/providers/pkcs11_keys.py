"""What is done with the keys of a PKCS#11 token, in one session. Everything here blocks and raises PKCS11Error.

An epoch key is wrapped as RFC 5649 has it: 40 bytes. PKCS#11 has two numbers for that: CKM_AES_KEY_WRAP_KWP means it,
and CKM_AES_KEY_WRAP_PAD means it with most tokens and PKCS #7 padding with some, whose wraps are 48 bytes long (it was
deprecated for that). C_WrapKey wraps what is in the token, so the epoch key goes there for a moment.
"""

from typing import Final, Protocol, cast

from pkcs11 import Attribute, Key, KeyType, Mechanism, MechanismFlag, Object, ObjectClass, SecretKey, Session
from pkcs11.exceptions import (
    AttributeSensitive,
    AttributeValueInvalid,
    EncryptedDataInvalid,
    EncryptedDataLenRange,
    FunctionFailed,
    FunctionNotSupported,
    GeneralError,
    KeyNotWrappable,
    KeyUnextractable,
    MechanismInvalid,
    TemplateInconsistent,
    WrappedKeyInvalid,
    WrappedKeyLenRange,
)

from kveil.protocol.envelope.key_schedule import EPOCH_KEY_LENGTH

WRAPPED_LENGTH: Final = EPOCH_KEY_LENGTH + 8
KEY_LENGTH: Final = 32
UNABLE: Final = (
    AttributeSensitive,
    AttributeValueInvalid,
    FunctionNotSupported,
    KeyNotWrappable,
    KeyUnextractable,
    MechanismInvalid,
    TemplateInconsistent,
)
"""What a token says that doesn't do what is needed here, or doesn't allow it."""
_WRAP_INVALID: Final = (WrappedKeyInvalid, WrappedKeyLenRange, EncryptedDataInvalid, EncryptedDataLenRange)
_UNCLEAR: Final = (GeneralError, FunctionFailed)
"""What some tokens, SoftHSM among them, say of a wrap that was altered, and others when they are broken."""
# An epoch key in the token: gone with the session, and readable, since it is the proxy that encrypts with it.
_PASSING: Final[dict[Attribute, object]] = {
    Attribute.CLASS: ObjectClass.SECRET_KEY,
    Attribute.KEY_TYPE: KeyType.AES,
    Attribute.TOKEN: False,
    Attribute.SENSITIVE: False,
    Attribute.EXTRACTABLE: True,
}


class _Wrapping(Protocol):
    """What a key with CKA_WRAP and CKA_UNWRAP has: the library adds it to the key's class when it finds the key."""

    def wrap_key(self, key: Key, *, mechanism: Mechanism) -> bytes: ...

    def unwrap_key(
        self,
        object_class: ObjectClass,
        key_type: KeyType,
        key_data: bytes,
        *,
        mechanism: Mechanism,
        capabilities: MechanismFlag,
        template: dict[Attribute, object],
    ) -> Object: ...


def find_keys(session: Session, name: str) -> list[SecretKey]:
    """All secret keys of that label."""
    wanted = {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.LABEL: name, Attribute.TOKEN: True}
    return [key for key in session.get_objects(wanted) if isinstance(key, SecretKey)]


def in_order(keys: list[SecretKey]) -> list[SecretKey]:
    """Those that are AES-256, by growing CKA_ID."""
    usable = [key for key in keys if key[Attribute.KEY_TYPE] == KeyType.AES and key[Attribute.VALUE_LEN] == KEY_LENGTH]
    return sorted(usable, key=lambda key: (int.from_bytes(key[Attribute.ID]), version_of(key)))


def version_of(key: SecretKey) -> str:
    """Its CKA_ID in hex."""
    identifier: bytes = key[Attribute.ID]
    return identifier.hex()


def may(key: SecretKey, use: Attribute) -> bool:
    """Whether CKA_WRAP or CKA_UNWRAP is true."""
    allowed: bool = key[use]
    return allowed


def wrap(session: Session, key: SecretKey, secret: bytes) -> bytes:
    """The wrap, of another length than WRAPPED_LENGTH if the token doesn't do RFC 5649."""
    passing = session.create_object({**_PASSING, Attribute.VALUE: secret})
    try:
        return cast("_Wrapping", key).wrap_key(cast("Key", passing), mechanism=_mechanism(session))
    finally:
        passing.destroy()


def unwrap(session: Session, key: SecretKey, wrapped: bytes) -> bytes | None:
    """What was wrapped, None if this key didn't wrap it."""
    try:
        return _unwrapped(session, key, wrapped)
    except _WRAP_INVALID:
        return None
    except _UNCLEAR:
        # If it is this wrap only that is wrong, the key opens another one. Else this raises, too.
        if may(key, Attribute.WRAP):
            _unwrapped(session, key, wrap(session, key, bytes(EPOCH_KEY_LENGTH)))
        return None


def _unwrapped(session: Session, key: SecretKey, wrapped: bytes) -> bytes:
    passing = cast("_Wrapping", key).unwrap_key(
        ObjectClass.SECRET_KEY,
        KeyType.AES,
        wrapped,
        mechanism=_mechanism(session),
        capabilities=MechanismFlag(0),
        template=_PASSING,
    )
    try:
        secret: bytes = passing[Attribute.VALUE]
    finally:
        passing.destroy()
    return secret


def _mechanism(session: Session) -> Mechanism:
    offered = session.token.slot.get_mechanisms()
    for mechanism in (Mechanism.AES_KEY_WRAP_KWP, Mechanism.AES_KEY_WRAP_PAD):
        if mechanism in offered:
            return mechanism
    raise MechanismInvalid
