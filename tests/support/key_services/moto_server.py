"""moto's AWS in a process of its own, at a port of this host, led by lines on its standard input.

    python moto_server.py PORT
    pause | resume | fail STATUS CODE | mend | calls

It says `ready`, and after each line `done`, or for `calls` what was asked of KMS since the last time, as JSON. Where
moto does less than the reference of KMS's API says (states, key usage, whose key made a ciphertext, policies), it is
mended.
"""

import json
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.kms import models
from moto.kms.exceptions import InvalidCiphertextException, InvalidKeyUsageException
from moto.kms.policy_validator import ALTERNATIVE_ACTIONS, validate_policy
from moto.kms.utils import HEADER_LEN
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

KEY_ID_LENGTH = 36
# As KMS says it, and as the service that signs in (STS) does.
JSON_FAILURE = '{"__type": "CODE", "message": "as it was told"}'
XML_FAILURE = "<ErrorResponse><Error><Code>CODE</Code><Message>as it was told</Message></Error></ErrorResponse>"


class QuietHandler(WSGIRequestHandler):
    def log(self, *_: object) -> None:
        """Nothing: what is said is for whoever leads this process."""


def refuse(code: str) -> JsonRESTError:
    return JsonRESTError(code, f"moto was mended to say {code}")


def check(backend: models.KmsBackend, key_id: str, action: str) -> str:
    """The id of the key, if it may be used. As https://docs.aws.amazon.com/kms/latest/developerguide/key-state.html"""
    found = backend.any_id_to_key_id(key_id)
    key = backend.keys[found]
    validate_policy(key, action)
    if key.key_state == "PendingDeletion":
        raise refuse("KMSInvalidStateException")
    if not key.enabled:
        raise refuse("DisabledException")
    if key.key_usage != "ENCRYPT_DECRYPT" or key.key_spec != "SYMMETRIC_DEFAULT":
        raise InvalidKeyUsageException
    return found


def mend_moto() -> None:
    encrypt, decrypt = models.KmsBackend.encrypt, models.KmsBackend.decrypt
    for action in ("kms:Encrypt", "kms:Decrypt"):
        ALTERNATIVE_ACTIONS[action] = ["kms:*", action]

    def checked_encrypt(self: Any, key_id: str, plaintext: bytes, encryption_context: dict[str, str]) -> Any:
        if not all(encryption_context.values()):
            raise refuse("ValidationException")
        return encrypt(self, check(self, key_id, "kms:Encrypt"), plaintext, encryption_context)

    def checked_decrypt(
        self: Any, ciphertext_blob: bytes, encryption_context: dict[str, str], key_id: str | None = None
    ) -> Any:
        assert key_id, "a call that names no key"
        found = check(self, key_id, "kms:Decrypt")
        made_by = ciphertext_blob[:KEY_ID_LENGTH].decode(errors="replace")
        if len(ciphertext_blob) < HEADER_LEN or made_by not in self.keys:
            raise InvalidCiphertextException
        if made_by != found:
            raise refuse("IncorrectKeyException")
        return decrypt(self, ciphertext_blob, encryption_context, key_id)

    models.KmsBackend.encrypt = checked_encrypt  # type: ignore[method-assign]
    models.KmsBackend.decrypt = checked_decrypt  # type: ignore[method-assign]


class Application:
    """moto, in front of it what it is told to say instead, and a list of what was asked."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self.failure: tuple[str, str] | None = None
        self.calls: list[dict[str, str]] = []

    def __call__(self, environ: dict[str, Any], start: Callable[..., object]) -> Iterable[bytes]:
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        if target.startswith("TrentService."):
            signed_by = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].partition("/")[0]
            self.calls.append({"operation": target.partition(".")[2], "signed_by": signed_by})
        if self.failure:
            status, code = self.failure
            start(f"{status} failed", [("Content-Type", "application/x-amz-json-1.1" if target else "text/xml")])
            return [(JSON_FAILURE if target else XML_FAILURE).replace("CODE", code).encode()]
        answer: Iterable[bytes] = self._moto(environ, start)
        return answer


def serve(port: int, application: Application) -> BaseWSGIServer:
    server = make_server("127.0.0.1", port, application, threaded=True, request_handler=QuietHandler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


def main() -> None:
    port = int(sys.argv[1])
    mend_moto()
    application = Application()
    server: BaseWSGIServer | None = serve(port, application)
    print("ready", flush=True)
    for line in sys.stdin:
        command, *words = line.split()
        said = "done"
        if command == "pause" and server:
            server.shutdown()
            server.server_close()
            server = None
        elif command == "resume" and not server:
            server = serve(port, application)
        elif command == "fail":
            application.failure = (words[0], words[1])
        elif command == "mend":
            application.failure = None
        elif command == "calls":
            said, application.calls = json.dumps(application.calls), []
        print(said, flush=True)


if __name__ == "__main__":
    main()
