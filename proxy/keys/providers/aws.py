"""Provider 3: AWS KMS, by the SDK of AWS, an extra.

The SDK blocks, so its calls run in threads of their own: some for wraps, others for unwraps, so that a broker which
makes up keys to be unwrapped doesn't take those that sealing needs. A call whose caller has gone ends by the SDK's own
timeouts, which are short, and one that hasn't begun never begins: threads don't pile up.

AWS finds in a wrap which key made it, and would use any that this identity may use. So every call names a key of the
configuration, and never one that an envelope names.
"""

import asyncio
import logging
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NoConnection

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.header import KeyBlock
from kveil.proxy.config.key_services import Aws
from kveil.proxy.keys.errors import KeyDenied, KeyRefused, KeySetupError, KeyUnavailable
from kveil.proxy.keys.provider import KeyContext, KeyDescription
from kveil.proxy.keys.providers.aws_answers import SignInFailed, code_of, denial, meaning

THREADS: Final = 16
"""Of each kind: as many as there can be calls of one kind (`calls.SLOTS`)."""

# One try within `keys.call_timeout_seconds`, at its default: further tries are for `calls.py` to make.
CONNECT_SECONDS: Final = 2.0
READ_SECONDS: Final = 3.0

MAX_WRAPPED: Final = 6144
"""Bytes of a ciphertext, as the API's reference says for Decrypt."""

# The SDK's debug lines show requests, and so what is wrapped.
for _name in ("boto3", "botocore"):
    logging.getLogger(_name).setLevel(logging.INFO)


class AwsProvider:
    """Keys of one account and region, or of those that the ARNs in the settings name."""

    id = registry.AWS_KMS

    def __init__(self, settings: Aws | None) -> None:
        """Reads the SDK's own configuration. Raises KeySetupError."""
        self._settings = settings or Aws()
        self._region = _region(self._settings)
        self._client: Any = None
        self._signing_in = threading.Lock()
        self._wraps = ThreadPoolExecutor(THREADS, "aws-wrap")
        self._unwraps = ThreadPoolExecutor(THREADS, "aws-unwrap")

    @property
    def place(self) -> str:
        """The region, and the address where it isn't the usual one."""
        endpoint = self._settings.endpoint
        return f"{self._region} ({endpoint})" if endpoint else self._region

    async def wrap(self, name: str, secret: bytes, context: KeyContext) -> KeyBlock:
        """Encrypt under the first key of that name. The version is the id of the key that an alias led to."""
        key = self._ids(name)[0]
        bound = _encryption_context(context)
        try:
            found = await self._ask(self._wraps, "encrypt", KeyId=key, Plaintext=secret, EncryptionContext=bound)
        except ClientError as error:
            raise self._meant(error, name, key) from None
        return KeyBlock(
            provider=self.id,
            name=name,
            mechanism=registry.SERVICE_AEAD,
            version=_key_id(found["KeyId"]),
            wrapped=found["CiphertextBlob"],
        )

    async def unwrap(self, block: KeyBlock, context: KeyContext) -> bytes:
        """Decrypt under one key of that name after the other, beginning with the one that the block's version names,
        if it is one of them.
        """
        if not 0 < len(block.wrapped) <= MAX_WRAPPED:
            msg = f"a wrap of {len(block.wrapped)} bytes, said to be by key {block.name!r}, is not one of AWS KMS"
            raise KeyRefused(msg)
        denied: KeyDenied | None = None
        for key in sorted(self._ids(block.name), key=lambda one: _key_id(one) != block.version):
            try:
                return await self._unwrap(block, key, context)
            except KeyRefused:
                continue
            except KeyDenied as error:  # another one may have made the wrap
                denied = denied or error
        if denied:
            raise denied
        msg = (
            f"AWS KMS in {self.place} doesn't open this wrap with key {block.name!r} for topic {context.topic!r}: if "
            f"another key of that name made it, maybe {block.version!r}, add its id to keys.aws.keys.{block.name}"
        )
        raise KeyRefused(msg)

    async def _unwrap(self, block: KeyBlock, key: str, context: KeyContext) -> bytes:
        bound = _encryption_context(context)
        try:
            found = await self._ask(
                self._unwraps, "decrypt", KeyId=key, CiphertextBlob=block.wrapped, EncryptionContext=bound
            )
        except ClientError as error:
            raise self._meant(error, block.name, key) from None
        secret: bytes = found["Plaintext"]
        return secret

    async def describe(self, name: str) -> KeyDescription:
        """The ids of its keys. Those after the first are told of as long as they are there."""
        first, *older = self._ids(name)
        primary = await self._describe(name, first)
        versions = [primary]
        for key in older:
            try:
                version = await self._describe(name, key)
            except KeyDenied:
                continue
            if version not in versions:
                versions.append(version)
        return KeyDescription(name=name, primary=primary, versions=tuple(reversed(versions)))

    async def _describe(self, name: str, key: str) -> str:
        """The id of a key that can be used."""
        try:
            found = (await self._ask(self._wraps, "describe_key", KeyId=key))["KeyMetadata"]
        except ClientError as error:
            raise self._meant(error, name, key) from None
        reason = None
        if found["KeySpec"] != "SYMMETRIC_DEFAULT":
            reason = "InvalidKeyUsageException"
        elif found["KeyState"] != "Enabled":
            reason = "DisabledException" if found["KeyState"] == "Disabled" else "KMSInvalidStateException"
        if reason:
            raise denial(self.place, reason, name, key)
        version: str = found["KeyId"]
        return version

    async def health(self) -> None:
        """Sign in and ask for anything. Being told that this is forbidden is an answer too."""
        try:
            await self._ask(self._wraps, "list_aliases", Limit=1)
        except ClientError as error:
            if code_of(error) != "AccessDeniedException":
                raise self._meant(error, "", "") from None

    def refresh(self) -> bool:
        """False: AWS is asked each time, and a sign-in that failed is made anew by the next call."""
        return False

    async def close(self) -> None:
        """Ends the threads that wait for work. Those in a call end with it."""
        for threads in (self._wraps, self._unwraps):
            threads.shutdown(wait=False, cancel_futures=True)
        self._forget_sign_in()

    # Calls -------------------------------------------------------------------------------------------------------

    async def _ask(self, threads: ThreadPoolExecutor, operation: str, **parameters: object) -> Mapping[str, Any]:
        """One call in a thread. Raises ClientError as AWS answered it, and KeyUnavailable if it didn't."""
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, self._asked, operation, parameters)
        except (NoConnection, HTTPClientError) as error:  # all of the SDK's texts may hold anything
            msg = f"AWS KMS in {self.place} can't be reached ({type(error).__name__})"
            raise KeyUnavailable(msg) from None
        except (BotoCoreError, OSError) as error:
            # What holds the credentials may be right by the next try, and the SDK doesn't look again by itself.
            self._forget_sign_in()
            msg = (
                f"the sign-in at AWS KMS in {self.place} failed ({type(error).__name__}): credentials come from the "
                "SDK's variables, a profile, a web identity or the role of this host"
            )
            raise KeyUnavailable(msg) from None

    def _asked(self, operation: str, parameters: Mapping[str, object]) -> Mapping[str, Any]:
        found: Mapping[str, Any] = getattr(self._signed_in(), operation)(**parameters)
        return found

    def _signed_in(self) -> Any:
        # Making a client looks for credentials, which may ask other services: not in the event loop, and once.
        with self._signing_in:
            if self._client is None:
                session = boto3.Session(botocore_session=_session(self._settings), region_name=self._region)
                self._client = session.client("kms", endpoint_url=self._settings.endpoint)
            return self._client

    def _forget_sign_in(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _meant(self, error: ClientError, name: str, key: str) -> Exception:
        meant = meaning(self.place, error, name, key)
        if isinstance(meant, SignInFailed):
            self._forget_sign_in()
        return meant

    def _ids(self, name: str) -> tuple[str, ...]:
        return self._settings.keys.get(name) or (f"alias/{name}",)


def _region(settings: Aws) -> str:
    """The region by the settings, else by the SDK's own configuration. Raises KeySetupError."""
    session = _session(settings)
    try:
        session.get_scoped_config()
        region = settings.region or session.get_config_variable("region")
    except BotoCoreError as error:
        msg = f"the configuration of AWS's SDK can't be used (keys.aws.profile, AWS_PROFILE): {type(error).__name__}"
        raise KeySetupError(msg) from None
    if not region:
        msg = "no AWS region is named: set keys.aws.region, AWS_DEFAULT_REGION, or region in the profile"
        raise KeySetupError(msg)
    named: str = region
    return named


def _session(settings: Aws) -> botocore.session.Session:
    """Nothing is asked yet. The sign-in's own calls have the same timeouts."""
    session = botocore.session.Session(profile=settings.profile)
    session.set_default_client_config(
        Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=2 * THREADS,
        )
    )
    return session


def _encryption_context(context: KeyContext) -> dict[str, str]:
    """AWS shows it in its audit log, and takes no empty values."""
    named = {"kveil-realm": context.realm, "kveil-topic": context.topic}
    return {name: value for name, value in named.items() if value}


def _key_id(arn: str) -> str:
    """The last part of a key's ARN; an id is one already."""
    return arn.rpartition("/")[2]
