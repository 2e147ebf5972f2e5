"""What the answers of Google Cloud KMS mean, by the codes of gRPC."""

from collections.abc import Mapping
from typing import Final

import grpc
from google.api_core.exceptions import GoogleAPICallError
from google.auth.exceptions import GoogleAuthError

from kveil.proxy.keys.errors import KeyDenied, KeyRefused, KeyUnavailable

NOT_SYMMETRIC: Final = "it isn't a key of purpose ENCRYPT_DECRYPT with such a name, as is needed"
DENIED: Final[Mapping[grpc.StatusCode, str]] = {
    grpc.StatusCode.NOT_FOUND: "it isn't in this key ring; is it in another location, or not made yet?",
    grpc.StatusCode.PERMISSION_DENIED: (
        "this identity may not, or it isn't there; roles/cloudkms.cryptoKeyEncrypterDecrypter and "
        "roles/cloudkms.viewer are needed for it"
    ),
    grpc.StatusCode.FAILED_PRECONDITION: (
        "the version that is needed is disabled or destroyed; `gcloud kms keys versions enable`, or `restore` before, "
        "gives it back if it isn't gone"
    ),
}
# How gRPC begins the text of what the sign-in's own library failed with.
_PLUGIN_FAILED: Final = "metadata from plugin failed"


class SignInFailed(KeyUnavailable):
    """Other credentials may do."""


def meaning(
    place: str, error: GoogleAPICallError | GoogleAuthError, name: str, opens_for: str | None
) -> KeyRefused | KeyDenied | KeyUnavailable:
    """What to tell of an answer about the key. `opens_for` is the topic that a wrap was to be opened for.

    The libraries' own texts may hold anything, so none is told.
    """
    if isinstance(error, GoogleAuthError):
        return _sign_in_failed(place, type(error).__name__)
    code = error.grpc_status_code
    said = code.name if code else type(error).__name__
    if code is grpc.StatusCode.UNAUTHENTICATED or _PLUGIN_FAILED in str(error.message):
        return _sign_in_failed(place, said)
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        if opens_for is None:
            return denial(place, name, NOT_SYMMETRIC)
        msg = f"Google Cloud KMS, {place}, doesn't open this wrap with key {name!r} for topic {opens_for!r}"
        return KeyRefused(msg)
    if code in DENIED:
        return denial(place, name, DENIED[code])
    return KeyUnavailable(f"Google Cloud KMS, {place}, failed ({said})")


def denial(place: str, name: str, reason: str) -> KeyDenied:
    """The sentence for an answer that says no."""
    return KeyDenied(f"Google Cloud KMS, {place}, refuses the use of key {name}: {reason}")


def _sign_in_failed(place: str, what: str) -> SignInFailed:
    return SignInFailed(
        f"the sign-in at Google Cloud KMS, {place}, failed ({what}): application default credentials come from "
        "GOOGLE_APPLICATION_CREDENTIALS, from gcloud, or from the service account of this host"
    )
