"""Google Cloud KMS's gRPC service on this host, with AES-GCM for its keys, and an administrator's hands on it."""

import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from crc32c import crc32c
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.cloud import kms_v1

from kveil.proxy.config.key_services import Gcp
from kveil.proxy.keys.providers.gcp import GcpProvider
from tests.support.ports import reserved_ports

KEY_RING = "projects/kveil-test/locations/europe-west3/keyRings/kafka"
SERVICE = "google.cloud.kms.v1.KeyManagementService"
ENABLED, DISABLED, DESTROYED, SCHEDULED = (
    kms_v1.CryptoKeyVersion.CryptoKeyVersionState[name]
    for name in ("ENABLED", "DISABLED", "DESTROYED", "DESTROY_SCHEDULED")
)
PURPOSES = kms_v1.CryptoKey.CryptoKeyPurpose
PAGE = 2


class Refused(Exception):
    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Version:
    number: int
    state: Any = ENABLED
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    @property
    def material(self) -> AESGCM:
        return AESGCM(self.secret)


@dataclass
class Key:
    path: str
    purpose: Any = PURPOSES.ENCRYPT_DECRYPT
    versions: list[Version] = field(default_factory=lambda: [Version(1)])
    primary: int = 1

    def version(self, number: int) -> Version:
        return self.versions[number - 1]

    def name_of(self, version: Version) -> str:
        return f"{self.path}/cryptoKeyVersions/{version.number}"

    def told(self, version: Version) -> kms_v1.CryptoKeyVersion:
        return kms_v1.CryptoKeyVersion(name=self.name_of(version), state=version.state)


class KeyManagement:
    """The calls of the service that the proxy makes. A wrap is the version's number, the nonce and the ciphertext."""

    def __init__(self) -> None:
        self.keys: dict[str, Key] = {}
        self.failure: grpc.StatusCode | None = None
        self.damage: str | None = None
        """A field of answers that arrives changed."""
        self.calls: list[tuple[str, dict[str, str]]] = []
        """The method and the metadata of what was asked."""

    def handler(self) -> grpc.GenericRpcHandler:
        handlers = {
            method: grpc.unary_unary_rpc_method_handler(
                self._guarded(method, serve), request.deserialize, answer.serialize
            )
            for method, serve, request, answer in (
                ("Encrypt", self.encrypt, kms_v1.EncryptRequest, kms_v1.EncryptResponse),
                ("Decrypt", self.decrypt, kms_v1.DecryptRequest, kms_v1.DecryptResponse),
                ("GetCryptoKey", self.get_key, kms_v1.GetCryptoKeyRequest, kms_v1.CryptoKey),
                ("GetKeyRing", self.get_ring, kms_v1.GetKeyRingRequest, kms_v1.KeyRing),
                (
                    "ListCryptoKeyVersions",
                    self.list_versions,
                    kms_v1.ListCryptoKeyVersionsRequest,
                    kms_v1.ListCryptoKeyVersionsResponse,
                ),
            )
        }
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def _guarded(self, method: str, serve: Any) -> Any:
        def call(request: Any, context: grpc.ServicerContext) -> Any:
            self.calls.append((method, dict(context.invocation_metadata())))
            try:
                if self.failure:
                    raise Refused(self.failure)
                answer = serve(request)
            except Refused as refused:
                context.abort(refused.code, f"{method}: {request}"[:400])  # a service may repeat what it got
            if self.damage in type(answer).meta.fields:
                setattr(answer, self.damage, type(getattr(answer, self.damage))())
            return answer

        return call

    def _key(self, path: str) -> Key:
        if path not in self.keys:
            raise Refused(grpc.StatusCode.NOT_FOUND)
        return self.keys[path]

    def _usable(self, path: str) -> Key:
        key = self._key(path)
        if key.purpose != PURPOSES.ENCRYPT_DECRYPT:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT)
        return key

    def encrypt(self, request: kms_v1.EncryptRequest) -> kms_v1.EncryptResponse:
        key = self._usable(request.name)
        version = key.version(key.primary)
        if version.state != ENABLED:
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION)
        check(request.plaintext, request.plaintext_crc32c)
        check(request.additional_authenticated_data, request.additional_authenticated_data_crc32c)
        nonce = secrets.token_bytes(12)
        sealed = version.material.encrypt(nonce, request.plaintext, request.additional_authenticated_data)
        ciphertext = version.number.to_bytes(2, "big") + nonce + sealed
        return kms_v1.EncryptResponse(
            name=key.name_of(version),
            ciphertext=ciphertext,
            ciphertext_crc32c=crc32c(ciphertext),
            verified_plaintext_crc32c=True,
            verified_additional_authenticated_data_crc32c=True,
        )

    def decrypt(self, request: kms_v1.DecryptRequest) -> kms_v1.DecryptResponse:
        key = self._usable(request.name)
        check(request.ciphertext, request.ciphertext_crc32c)
        check(request.additional_authenticated_data, request.additional_authenticated_data_crc32c)
        number, nonce, sealed = request.ciphertext[:2], request.ciphertext[2:14], request.ciphertext[14:]
        version = next((one for one in key.versions if one.number == int.from_bytes(number, "big")), None)
        if version is None or len(sealed) < 16:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT)
        if version.state != ENABLED:
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION)
        try:
            plaintext = version.material.decrypt(nonce, sealed, request.additional_authenticated_data)
        except InvalidTag:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT) from None
        return kms_v1.DecryptResponse(plaintext=plaintext, plaintext_crc32c=crc32c(plaintext))

    def get_key(self, request: kms_v1.GetCryptoKeyRequest) -> kms_v1.CryptoKey:
        key = self._key(request.name)
        return kms_v1.CryptoKey(name=key.path, purpose=key.purpose, primary=key.told(key.version(key.primary)))

    def get_ring(self, request: kms_v1.GetKeyRingRequest) -> kms_v1.KeyRing:
        if request.name != KEY_RING:
            raise Refused(grpc.StatusCode.NOT_FOUND)
        return kms_v1.KeyRing(name=KEY_RING)

    def list_versions(self, request: kms_v1.ListCryptoKeyVersionsRequest) -> kms_v1.ListCryptoKeyVersionsResponse:
        """The newest first, and a few at a time."""
        key = self._key(request.parent)
        begin = int(request.page_token or 0)
        newest_first = key.versions[::-1]
        return kms_v1.ListCryptoKeyVersionsResponse(
            crypto_key_versions=[key.told(one) for one in newest_first[begin : begin + PAGE]],
            next_page_token=str(begin + PAGE) if begin + PAGE < len(newest_first) else "",
        )


def check(data: bytes, checksum: Any) -> None:
    if checksum != crc32c(data):
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT)


class Server:
    """The service in threads of this process."""

    takes_context = True
    pauses_calls = True
    has_versions = True

    def __init__(self, folder: Path, certificate: grpc.ServerCredentials | None = None) -> None:
        self._stack = ExitStack()
        (self.port,) = self._stack.enter_context(reserved_ports(1))
        self._certificate = certificate
        self.service = KeyManagement()
        self._server: grpc.Server | None = None
        self.resume()

    def key(self, name: str) -> Key:
        return self.service.keys[f"{KEY_RING}/cryptoKeys/{name}"]

    def make_key(self, name: str) -> None:
        path = f"{KEY_RING}/cryptoKeys/{name}"
        self.service.keys[path] = Key(path)

    def rotate(self, name: str) -> None:
        key = self.key(name)
        key.versions.append(Version(len(key.versions) + 1))
        key.primary = len(key.versions)

    def disable(self, name: str) -> None:
        self._change(name, DISABLED)

    def enable(self, name: str) -> None:
        self._change(name, ENABLED)

    def destroy(self, name: str) -> None:
        self._change(name, DESTROYED)

    def _change(self, name: str, state: Any) -> None:
        for version in self.key(name).versions:
            version.state = state

    def provider(self, **settings: Any) -> GcpProvider:
        return GcpProvider(Gcp.model_validate({**self.keys_settings()["gcp"], **settings}))

    def keys_settings(self) -> dict[str, Any]:
        return {"provider": "gcp", "gcp": {"key_ring": KEY_RING, "endpoint": f"127.0.0.1:{self.port}"}}

    def secrets(self) -> list[str]:
        """Key material. Who asks on this host doesn't sign in."""
        return [version.secret.hex() for key in self.service.keys.values() for version in key.versions]

    def pause(self) -> None:
        if self._server:
            self._server.stop(None).wait()
            self._threads.shutdown()
            self._server = None

    def resume(self) -> None:
        if self._server:
            return
        self._threads = ThreadPoolExecutor(8)
        self._server = grpc.server(self._threads, handlers=[self.service.handler()])
        address = f"127.0.0.1:{self.port}"
        if self._certificate:
            self._server.add_secure_port(address, self._certificate)
        else:
            self._server.add_insecure_port(address)
        self._server.start()

    def stop(self) -> None:
        self.pause()
        self._stack.close()
