"""What the answers of AWS KMS mean. Names of errors are those of the API's reference."""

from collections.abc import Mapping
from typing import Final

from botocore.exceptions import ClientError

from kveil.proxy.keys.errors import KeyDenied, KeyRefused, KeyUnavailable

_DENIED: Final[Mapping[str, str]] = {
    "NotFoundException": "it isn't there; is it in another region, or not made yet?",
    "DisabledException": "it is disabled; `aws kms enable-key` lets it be used again",
    "KMSInvalidStateException": (
        "its state doesn't allow it; if its deletion is pending, `aws kms cancel-key-deletion` keeps it"
    ),
    "InvalidKeyUsageException": "it isn't a symmetric key for encryption, as is needed",
    "AccessDeniedException": "this identity needs kms:Encrypt, kms:Decrypt and kms:DescribeKey for it, by its policy",
    "InvalidArnException": "AWS doesn't take its ARN; is it one of another region?",
    "ValidationException": "AWS doesn't take its id; aliases have letters, digits, '/', '_' and '-' only",
}
_REFUSED: Final = frozenset({"IncorrectKeyException", "InvalidCiphertextException"})
_SIGN_IN: Final = frozenset(
    {
        "ExpiredTokenException",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationTokenException",
        "UnrecognizedClientException",
    }
)
_OPERATIONS: Final = frozenset({"Encrypt", "Decrypt", "DescribeKey", "ListAliases"})


class SignInFailed(KeyUnavailable):
    """Other credentials may do."""


def code_of(error: ClientError) -> str:
    """What KMS said, or empty: another service said it, one that the sign-in asked."""
    code: str = error.response["Error"]["Code"]
    return code if error.operation_name in _OPERATIONS else ""


def meaning(place: str, error: ClientError, name: str, key: str) -> KeyRefused | KeyDenied | KeyUnavailable:
    """What to tell of an answer about `key`, one of those that `name` stands for. Without a name it is about none."""
    code = code_of(error)
    if not code or code in _SIGN_IN:
        said = f"{error.operation_name}: {error.response['Error']['Code']}"
        return SignInFailed(f"the sign-in at AWS KMS in {place} failed or has expired ({said})")
    if code in _REFUSED:
        return KeyRefused(f"AWS KMS in {place} doesn't open this wrap with key {name} ({key}): {code}")
    if code in _DENIED and name:
        return denial(place, code, name, key)
    return KeyUnavailable(f"AWS KMS in {place} failed ({code})")


def denial(place: str, code: str, name: str, key: str) -> KeyDenied:
    """The sentence for one of the answers that say no."""
    return KeyDenied(f"AWS KMS in {place} refuses the use of key {name} ({key}): {_DENIED[code]}")
