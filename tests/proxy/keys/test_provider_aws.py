"""Provider 3: which keys are asked, how it signs in, and what the answers of AWS KMS become."""

import asyncio
import json
import logging
import secrets
import socket
import threading
from base64 import b64encode

import pytest
from structlog.testing import capture_logs

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.key_schedule import derive_kid
from kveil.proxy.admin.metrics import Metrics
from kveil.proxy.config.key_services import Aws
from kveil.proxy.keys.calls import KeyCalls
from kveil.proxy.keys.errors import KeyDenied, KeyRefused, KeySetupError, KeyUnavailable
from kveil.proxy.keys.provider import KeyContext
from kveil.proxy.keys.providers.aws import MAX_WRAPPED, READ_SECONDS, THREADS, AwsProvider
from tests.support.key_services.aws import ACCESS_KEY, REGION, SECRET_KEY, Server, aws_environment

SECRET = bytes(range(1, 33))
CONTEXT = KeyContext("test", "orders", derive_kid(SECRET, realm="test", topic="orders", provider=registry.AWS_KMS))
UNMADE = "00000000-0000-4000-8000-000000000000"
SYMMETRIC_ONLY = "it isn't a symmetric key"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    started = Server(tmp_path_factory.mktemp("moto"))
    yield started
    started.stop()


@pytest.fixture
def name(server):
    """A key of the test's own, by its alias."""
    made = f"key-{secrets.token_hex(4)}"
    server.make_key(made)
    return made


@pytest.fixture
async def open_provider(server):
    """Makes providers that are closed after the test."""
    opened = []

    def make(**settings):
        opened.append(server.provider(**settings))
        return opened[-1]

    yield make
    for provider in opened:
        await provider.close()


@pytest.fixture
def provider(open_provider):
    return open_provider()


def policy(action: str) -> str:
    """Of a key: everybody may do everything but one action."""
    everything = {"Effect": "Allow", "Principal": "*", "Action": ["kms:PutKeyPolicy"], "Resource": "*"}
    denied = {"Effect": "Deny", "Principal": "*", "Action": [action], "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [everything, denied]})


# Which keys are asked ------------------------------------------------------------------------------------------------


async def test_the_version_is_the_id_of_the_key_that_wrapped(provider, server, name):
    block = await provider.wrap(name, SECRET, CONTEXT)
    assert (block.provider, block.mechanism) == (registry.AWS_KMS, registry.SERVICE_AEAD)
    assert block.version == server.key_id(name)
    assert (await provider.describe(name)).versions == (block.version,)


async def test_after_an_alias_was_moved_the_older_key_opens_once_its_id_is_listed(open_provider, server, name):
    old, new = server.key_id(name), server.new_key()
    before = await open_provider().wrap(name, SECRET, CONTEXT)
    server.kms.update_alias(AliasName=f"alias/{name}", TargetKeyId=new)
    with pytest.raises(KeyRefused, match=rf"if another key of that name made it.*{old}.*keys\.aws\.keys\.{name}"):
        await open_provider().unwrap(before, CONTEXT)
    mapped = open_provider(keys={name: [f"alias/{name}", old]})
    after = await mapped.wrap(name, SECRET, CONTEXT)
    assert after.version == new
    for block in (before, after):
        assert await mapped.unwrap(block, CONTEXT) == SECRET
    description = await mapped.describe(name)
    assert (description.primary, description.versions) == (new, (old, new))


@pytest.mark.parametrize("form", ["id", "arn", "alias ARN"])
async def test_a_name_may_stand_for_any_form_of_id(open_provider, server, name, form):
    key = server.kms.describe_key(KeyId=f"alias/{name}")["KeyMetadata"]
    forms = {
        "id": key["KeyId"],
        "arn": key["Arn"],
        "alias ARN": key["Arn"].replace(f"key/{key['KeyId']}", f"alias/{name}"),
    }
    provider = open_provider(keys={"orders": forms[form]})
    block = await provider.wrap("orders", SECRET, CONTEXT)
    assert (block.name, block.version) == ("orders", key["KeyId"])
    assert await provider.unwrap(block, CONTEXT) == SECRET


async def test_the_key_that_the_version_names_is_asked_first_and_nothing_beyond_the_settings(open_provider, server):
    ids = [server.new_key() for _ in range(3)]
    provider = open_provider(keys={"orders": ids})
    block = await open_provider(keys={"orders": ids[2]}).wrap("orders", SECRET, CONTEXT)
    server.calls()
    assert await provider.unwrap(block, CONTEXT) == SECRET
    assert len(server.calls()) == 1
    assert await provider.unwrap(block._replace(version=""), CONTEXT) == SECRET
    assert len(server.calls()) == 3
    other = server.new_key()
    foreign = await open_provider(keys={"orders": other}).wrap("orders", SECRET, CONTEXT)
    server.calls()
    assert foreign.version == other
    with pytest.raises(KeyRefused):
        await provider.unwrap(foreign, CONTEXT)
    assert len(server.calls()) == 3


async def test_one_listed_key_that_is_gone_does_not_keep_the_others_from_opening(open_provider, server):
    gone, used = server.new_key(), server.new_key()
    sealed_before = await open_provider(keys={"orders": gone}).wrap("orders", SECRET, CONTEXT)
    server.kms.disable_key(KeyId=gone)
    provider = open_provider(keys={"orders": [used, gone, UNMADE]})
    block = await provider.wrap("orders", SECRET, CONTEXT)
    assert await provider.unwrap(block._replace(version=gone), CONTEXT) == SECRET
    assert (await provider.describe("orders")).versions == (used,)
    with pytest.raises(KeyDenied, match=rf"{gone}.*disabled"):
        await provider.unwrap(sealed_before, CONTEXT)


async def test_what_belongs_to_no_topic_is_wrapped_too(provider, name):
    nowhere = CONTEXT._replace(topic="")
    block = await provider.wrap(name, SECRET, nowhere)
    assert await provider.unwrap(block, nowhere) == SECRET
    with pytest.raises(KeyRefused):
        await provider.unwrap(block, CONTEXT)


async def test_the_encryption_context_has_the_names_that_policies_are_written_with(provider, server, name):
    block = await provider.wrap(name, SECRET, CONTEXT)
    bound = {"kveil-realm": "test", "kveil-topic": "orders"}
    found = server.kms.decrypt(KeyId=f"alias/{name}", CiphertextBlob=block.wrapped, EncryptionContext=bound)
    assert found["Plaintext"] == SECRET


@pytest.mark.parametrize("wrapped", [b"", bytes(MAX_WRAPPED + 1)], ids=["empty", "too long"])
async def test_a_wrap_that_AWS_would_never_make_is_refused_without_a_call(provider, server, name, wrapped):
    block = await provider.wrap(name, SECRET, CONTEXT)
    server.calls()
    with pytest.raises(KeyRefused, match=f"wrap of {len(wrapped)} bytes"):
        await provider.unwrap(block._replace(wrapped=wrapped), CONTEXT)
    assert server.calls() == []


# What AWS answers ----------------------------------------------------------------------------------------------------


async def test_a_key_that_is_not_there(provider):
    with pytest.raises(KeyDenied, match=rf"AWS KMS in {REGION} .*orders \(alias/orders\): it isn't there; .*region"):
        await provider.wrap("orders", SECRET, CONTEXT)


async def test_a_disabled_key_and_one_that_is_to_be_deleted(provider, server, name):
    server.disable(name)
    for call in (provider.wrap(name, SECRET, CONTEXT), provider.describe(name)):
        with pytest.raises(KeyDenied, match="disabled; `aws kms enable-key`"):
            await call
    server.destroy(name)
    for call in (provider.wrap(name, SECRET, CONTEXT), provider.describe(name)):
        with pytest.raises(KeyDenied, match="`aws kms cancel-key-deletion`"):
            await call


async def test_a_key_of_another_kind(open_provider, server):
    provider = open_provider(
        keys={
            "orders": server.new_key(KeySpec="RSA_2048"),
            "mac": server.new_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC"),
        }
    )
    for call in (provider.wrap("orders", SECRET, CONTEXT), provider.describe("orders"), provider.describe("mac")):
        with pytest.raises(KeyDenied, match=SYMMETRIC_ONLY):
            await call


async def test_an_identity_that_may_not(provider, server, name):
    block = await provider.wrap(name, SECRET, CONTEXT)
    key = server.key_id(name)
    server.kms.put_key_policy(KeyId=key, PolicyName="default", Policy=policy("kms:Encrypt"))
    with pytest.raises(KeyDenied, match=r"needs kms:Encrypt, kms:Decrypt and kms:DescribeKey"):
        await provider.wrap(name, SECRET, CONTEXT)
    assert await provider.unwrap(block, CONTEXT) == SECRET
    server.kms.put_key_policy(KeyId=key, PolicyName="default", Policy=policy("kms:Decrypt"))
    with pytest.raises(KeyDenied, match=name):
        await provider.unwrap(block, CONTEXT)


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (400, "ThrottlingException", r"failed \(ThrottlingException\)"),
        (500, "KMSInternalException", r"failed \(KMSInternalException\)"),
        (503, "DependencyTimeoutException", r"failed \(DependencyTimeoutException\)"),
        (400, "ExpiredTokenException", r"sign-in .* has expired \(Encrypt: ExpiredTokenException\)"),
        (400, "UnrecognizedClientException", "sign-in"),
        (403, "InvalidSignatureException", "sign-in"),
        (400, "NobodyKnowsThisException", "NobodyKnowsThisException"),
    ],
)
async def test_what_may_pass_is_told_to_be_tried_again_by_one_try(provider, server, name, status, code, reason):
    await provider.health()
    server.calls()
    server.fail(status, code)
    try:
        with pytest.raises(KeyUnavailable, match=reason):
            await provider.wrap(name, SECRET, CONTEXT)
        assert len(server.calls()) == 1
        with pytest.raises(KeyUnavailable):
            await provider.health()
    finally:
        server.mend()
    assert await provider.wrap(name, SECRET, CONTEXT)


async def test_health_needs_no_right(provider, server):
    server.fail(400, "AccessDeniedException")
    try:
        await provider.health()
    finally:
        server.mend()


async def test_nobody_listens(provider, server, name):
    server.pause()
    try:
        with pytest.raises(KeyUnavailable, match=rf"{REGION} .*can't be reached \(EndpointConnectionError\)"):
            await provider.wrap(name, SECRET, CONTEXT)
    finally:
        server.resume()


# Sign-in -------------------------------------------------------------------------------------------------------------


def test_no_region(tmp_path):
    with aws_environment(), pytest.raises(KeySetupError, match=r"set keys\.aws\.region, AWS_DEFAULT_REGION"):
        AwsProvider(None)


def test_a_profile_that_is_not_there():
    with aws_environment(), pytest.raises(KeySetupError, match=r"keys\.aws\.profile.*ProfileNotFound"):
        AwsProvider(Aws(profile="nope", region=REGION))


async def test_without_settings_the_environment_says_all(server, name):
    with aws_environment(
        AWS_DEFAULT_REGION=REGION,
        AWS_ENDPOINT_URL_KMS=server.endpoint,
        AWS_ACCESS_KEY_ID="AKIAOFTHEENVIRONMENT",
        AWS_SECRET_ACCESS_KEY=SECRET_KEY,
    ):
        provider = AwsProvider(None)
        assert provider.place == REGION
        server.calls()
        await provider.wrap(name, SECRET, CONTEXT)
        await provider.close()
    assert server.calls() == [{"operation": "Encrypt", "signed_by": "AKIAOFTHEENVIRONMENT"}]


async def test_a_profile_signs_in_and_names_the_region(server, name, tmp_path):
    (tmp_path / "config").write_text(f"[profile kafka]\nregion = {REGION}\n")
    (tmp_path / "credentials").write_text(
        f"[kafka]\naws_access_key_id = AKIAOFTHEPROFILE\naws_secret_access_key = {SECRET_KEY}\n"
    )
    with aws_environment(
        AWS_CONFIG_FILE=str(tmp_path / "config"),
        AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "credentials"),
        AWS_ACCESS_KEY_ID="AKIANOTTHISONE",
        AWS_SECRET_ACCESS_KEY=SECRET_KEY,
    ):
        provider = AwsProvider(Aws(profile="kafka", endpoint=server.endpoint))
        server.calls()
        await provider.wrap(name, SECRET, CONTEXT)
        await provider.close()
    assert server.calls() == [{"operation": "Encrypt", "signed_by": "AKIAOFTHEPROFILE"}]


async def test_a_web_identity_is_exchanged_for_a_role(server, name, tmp_path):
    """As EKS gives it to pods (IRSA)."""
    token = tmp_path / "token"
    with aws_environment(
        AWS_ROLE_ARN="arn:aws:iam::123456789012:role/kveil",
        AWS_WEB_IDENTITY_TOKEN_FILE=str(token),
        AWS_ENDPOINT_URL_STS=server.endpoint,
    ):
        provider = server.provider()
        with pytest.raises(KeyUnavailable, match="sign-in"):  # the kubelet is late
            await provider.wrap(name, SECRET, CONTEXT)
        token.write_text("a.pods.token")
        server.fail(403, "AccessDenied")
        with pytest.raises(KeyUnavailable, match=r"sign-in .* \(AssumeRoleWithWebIdentity: AccessDenied\)"):
            await provider.wrap(name, SECRET, CONTEXT)
        server.mend()
        server.calls()
        assert await provider.wrap(name, SECRET, CONTEXT)
        await provider.close()
    (call,) = server.calls()
    assert call["signed_by"].startswith("ASIA")


async def test_credentials_that_come_later_are_found(server, name, tmp_path):
    path = tmp_path / "credentials"
    with aws_environment(AWS_SHARED_CREDENTIALS_FILE=str(path)):
        provider = server.provider()
        for call in (provider.wrap(name, SECRET, CONTEXT), provider.health()):
            with pytest.raises(
                KeyUnavailable, match=r"sign-in .* failed \(NoCredentialsError\): credentials come from"
            ):
                await call
        path.write_text(f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n")
        assert await provider.wrap(name, SECRET, CONTEXT)
        await provider.close()


async def test_credentials_that_expired_are_read_again(server, name, tmp_path):
    path = tmp_path / "credentials"
    path.write_text(f"[default]\naws_access_key_id = AKIAOFYESTERDAY\naws_secret_access_key = {SECRET_KEY}\n")
    with aws_environment(AWS_SHARED_CREDENTIALS_FILE=str(path)):
        provider = server.provider()
        await provider.health()
        path.write_text(f"[default]\naws_access_key_id = AKIAOFTODAY\naws_secret_access_key = {SECRET_KEY}\n")
        server.fail(400, "ExpiredTokenException")
        with pytest.raises(KeyUnavailable, match="has expired"):
            await provider.wrap(name, SECRET, CONTEXT)
        server.mend()
        server.calls()
        assert await provider.wrap(name, SECRET, CONTEXT)
        await provider.close()
    assert [call["signed_by"] for call in server.calls()] == ["AKIAOFTODAY"]


# Threads, logs, imports ----------------------------------------------------------------------------------------------


async def test_calls_that_nobody_waits_for_do_not_pile_up_nor_hold_up_wraps(open_provider, name):
    """A service takes connections and says nothing. Unwraps have their threads, and wraps have others."""
    loop = asyncio.get_running_loop()
    block = await open_provider().wrap(name, SECRET, CONTEXT)
    with socket.create_server(("127.0.0.1", 0), backlog=4 * THREADS) as silent:
        silent.setblocking(False)
        provider = open_provider(endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}")
        unwraps = [loop.create_task(provider.unwrap(block, CONTEXT)) for _ in range(3 * THREADS)]
        taken = [(await loop.sock_accept(silent))[0] for _ in range(THREADS)]
        for task in unwraps:
            task.cancel()
        wrap = loop.create_task(provider.wrap(name, SECRET, CONTEXT))
        async with asyncio.timeout(READ_SECONDS / 2):
            taken.append((await loop.sock_accept(silent))[0])
        silent.close()
        for connection in taken:
            connection.close()
        with pytest.raises(KeyUnavailable, match="can't be reached"):
            await wrap
        found = await asyncio.gather(*unwraps, return_exceptions=True)
    assert all(isinstance(one, asyncio.CancelledError) for one in found)
    # Those that hadn't begun never do: the port has nobody, and a thread that tried would be told so.
    assert len([one for one in threading.enumerate() if one.name.startswith("aws-unwrap")]) <= THREADS


async def test_closing_leaves_no_thread(server, name):
    provider = server.provider()
    await provider.wrap(name, SECRET, CONTEXT)
    threads = [one for one in threading.enumerate() if one.name.startswith("aws-")]
    assert threads
    await provider.close()
    for thread in threads:
        await asyncio.to_thread(thread.join, 5)
        assert not thread.is_alive()


async def test_nothing_secret_is_logged_or_told_at_any_level(server, name, caplog):
    """The SDK's own lines too, which at debug level would show requests."""
    caplog.set_level(logging.DEBUG)
    told = []
    with capture_logs() as lines:
        provider = server.provider()
        block = await provider.wrap(name, SECRET, CONTEXT)
        assert await provider.unwrap(block, CONTEXT) == SECRET
        for code in ("AccessDeniedException", "IncorrectKeyException", "ExpiredTokenException", "ThrottlingException"):
            server.fail(400, code)
            calls = KeyCalls(provider, 5.0, Metrics())
            for call in (calls.wrap(name, SECRET, CONTEXT), calls.unwrap(block, CONTEXT)):
                with pytest.raises((KeyDenied, KeyRefused, KeyUnavailable)) as caught:
                    await call
                told.append(f"{caught.value!r} {caught.value.__cause__!r}")
        server.mend()
        await provider.close()
    shown = " ".join([*told, *map(str, lines), caplog.text, *(str(vars(record)) for record in caplog.records)])
    assert lines
    assert "ThrottlingException" in shown
    for secret in (SECRET, block.wrapped):
        for form in (secret.hex(), repr(secret)[2:-1], b64encode(secret).decode()):
            assert form not in shown
    assert SECRET_KEY not in shown
    assert "Signature=" not in shown
