"""Provider 5 against a local Managed HSM: what goes over the wire, what is believed, and how it signs in."""

import json
import logging
import subprocess
import sys

import pytest
from azure.identity.aio import DefaultAzureCredential
from azure.keyvault.keys.crypto import KeyWrapAlgorithm
from azure.keyvault.keys.crypto.aio import CryptographyClient
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap, aes_key_wrap
from structlog.testing import capture_logs

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.header import KeyBlock
from kveil.proxy.config import KeyService
from kveil.proxy.config.key_services import Azure
from kveil.proxy.config.keys import Keys
from kveil.proxy.keys.errors import KeyDenied, KeyRefused, KeySetupError, KeyUnavailable
from kveil.proxy.keys.opening import open_provider
from kveil.proxy.keys.provider import KeyContext, KeyProvider
from kveil.proxy.keys.providers.azure import AzureProvider
from kveil.proxy.policy import PROVIDER_IDS
from tests.support.key_services.azure import Server

SECRET = bytes(range(1, 33))
CONTEXT = KeyContext("test", "orders", bytes(16))


@pytest.fixture
def server(tmp_path):
    started = Server(tmp_path)
    started.make_key("orders")
    yield started
    started.stop()


@pytest.fixture
async def provider(server):
    made = server.provider()
    yield made
    await made.close()


@pytest.fixture
async def block(provider) -> KeyBlock:
    return await provider.wrap("orders", SECRET, CONTEXT)


def error(code: str, inner: str | None = None) -> bytes:
    return json.dumps(
        {"error": {"code": code, "message": "secret-of-the-service", "innererror": {"code": inner}}}
    ).encode()


async def unavailable(call) -> KeyUnavailable:
    with pytest.raises(KeyUnavailable) as caught:
        await call
    return caught.value


def test_it_is_a_provider(server):
    checked: KeyProvider = open_provider(KeyService.AZURE, Keys.model_validate(server.keys_settings()))
    assert isinstance(checked, AzureProvider)
    assert checked.id == PROVIDER_IDS["azure"] == registry.AZURE_KEY_VAULT
    assert checked.place == server.url
    assert checked.refresh() is False


@pytest.mark.parametrize("address", ["http://127.0.0.1:8200", "https://kveil.managedhsm.azure.net/keys/orders"])
def test_an_address_that_is_none_of_an_hsm(address):
    with pytest.raises(
        KeySetupError, match=r"keys\.azure\.address .* must be as in https://NAME\.managedhsm\.azure\.net"
    ):
        AzureProvider(Azure(address=address))


# Keys ----------------------------------------------------------------------------------------------------------------


async def test_a_wrap_is_that_of_rfc_3394_and_names_its_version(server, block):
    (version,) = server.keys["orders"]
    assert (block.mechanism, block.version) == (registry.AES_KEY_WRAP, version.name)
    assert aes_key_unwrap(version.material, block.wrapped) == SECRET


async def test_the_official_client_unwraps_it_too(server, block):
    """So the local service speaks what that client understands."""
    async with (
        DefaultAzureCredential() as credential,
        CryptographyClient(
            f"{server.url}/keys/orders/{block.version}", credential, connection_verify=str(server.ca)
        ) as client,
    ):
        assert (await client.unwrap_key(KeyWrapAlgorithm.aes_256, block.wrapped)).key == SECRET


async def test_the_versions_are_listed_over_pages_and_the_latest_is_the_last(server, provider):
    for _ in range(4):
        server.rotate("orders")
    found = await provider.describe("orders")
    assert found.versions == tuple(version.name for version in server.keys["orders"])
    assert found.primary == found.versions[-1]


async def test_an_rsa_key_is_refused_with_what_to_do(server, provider):
    server.make_key("rsa", "RSA-HSM")
    for call in (provider.wrap("rsa", SECRET, CONTEXT), provider.describe("rsa")):
        with pytest.raises(KeyDenied, match=r"Anyone could make a wrap .* --kty oct-HSM --size 256"):
            await call
    assert not [request for request in server.requests if request.method == "POST"]


async def test_a_disabled_latest_version_is_not_replaced_by_an_older_one(server, provider, block):
    server.rotate("orders")
    server.keys["orders"][-1].enabled = False
    with pytest.raises(KeyDenied, match="the latest version of key 'orders' is disabled"):
        await provider.wrap("orders", SECRET, CONTEXT)
    assert await provider.unwrap(block, CONTEXT) == SECRET


async def test_a_disabled_version_is_told_of_by_the_services_own_code(server, provider, block):
    server.disable("orders")
    with pytest.raises(
        KeyDenied, match=r"it is disabled, or this identity may not use it .*: 403 Forbidden KeyDisabled"
    ):
        await provider.unwrap(block, CONTEXT)


@pytest.mark.parametrize("name", ["eu.orders", "eu_orders", "o" * 128])
async def test_a_name_that_azure_has_not_is_not_asked_for(server, provider, name):
    with pytest.raises(KeyDenied, match="names there have letters, digits and hyphens"):
        await provider.wrap(name, SECRET, CONTEXT)
    assert not server.requests


@pytest.mark.parametrize(
    "version",
    [
        "",
        "1",
        "A" * 32,
        "0" * 31,
        "0" * 33,
        "0" * 32 + "\n",
        "../../other/" + "0" * 20,
        "https://evil.example/keys/o/1",
    ],
)
async def test_a_version_of_another_form_is_refused_without_asking(server, provider, block, version):
    asked = len(server.requests)
    with pytest.raises(KeyRefused, match="no version of an Azure key"):
        await provider.unwrap(block._replace(version=version), CONTEXT)
    assert len(server.requests) == asked


@pytest.mark.parametrize("length", [0, 32, 39, 41, 256])
async def test_a_wrap_of_another_length_is_refused_without_asking(server, provider, block, length):
    asked = len(server.requests)
    with pytest.raises(KeyRefused, match="'orders'"):
        await provider.unwrap(block._replace(wrapped=bytes(length)), CONTEXT)
    assert len(server.requests) == asked


async def test_a_version_of_another_key_is_refused(server, provider, block):
    server.make_key("other")
    with pytest.raises(KeyRefused, match="key 'other' has no version"):
        await provider.unwrap(block._replace(name="other"), CONTEXT)
    server.destroy("other")
    with pytest.raises(KeyDenied, match=r"key 'other' can't be used, it isn't there.*404 KeyNotFound"):
        await provider.unwrap(block._replace(name="other"), CONTEXT)


async def test_one_call_is_one_try_at_the_configured_address(server, provider, block):
    server.requests.clear()
    assert await provider.unwrap(block, CONTEXT) == SECRET
    (request,) = server.requests
    assert request.path.startswith(f"/keys/orders/{block.version}/unwrapkey?api-version=")


# What the service answers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "expected"),
    [(400, KeyRefused), (403, KeyDenied), (401, KeyUnavailable), (409, KeyUnavailable), (429, KeyUnavailable)]
    + [(status, KeyUnavailable) for status in (302, 500, 502, 503)],
)
async def test_each_status_of_an_unwrap(server, provider, block, status, expected):
    server.requests.clear()
    server.answer = (status, error("SomeCode"))
    with pytest.raises(expected) as caught:
        await provider.unwrap(block, CONTEXT)
    assert len(server.requests) == 1
    assert "secret-of-the-service" not in str(caught.value)
    if status != 400:
        assert f"{status} SomeCode" in str(caught.value)


@pytest.mark.parametrize("status", [400, 403, 404])
async def test_each_status_that_denies_a_key(server, provider, status):
    server.answer = (status, error("SomeCode"))
    for call in (provider.wrap("orders", SECRET, CONTEXT), provider.describe("orders")):
        with pytest.raises(KeyDenied, match=f"'orders' can't be used.*{status} SomeCode"):
            await call


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"kid": "https://x/keys/orders/1", "value": "!"}',
        b'{"value": "AAAA"}',
        b'{"value": 7}',
        '{"value": "éééé"}'.encode(),
        b'{"value": "' + b"A" * 200 + b'"}',
    ],
)
async def test_an_answer_that_is_none(server, provider, block, body):
    server.answer = (200, body)
    with pytest.raises(KeyUnavailable):
        await provider.unwrap(block, CONTEXT)
    with pytest.raises((KeyUnavailable, KeyDenied)):
        await provider.wrap("orders", SECRET, CONTEXT)


async def test_a_link_to_elsewhere_is_not_followed(server, provider, monkeypatch):
    listed = server._versions
    monkeypatch.setattr(server, "_versions", lambda *asked: {**listed(*asked), "nextLink": "https://evil.example/keys"})
    with pytest.raises(KeyUnavailable, match="a link to somewhere else"):
        await provider.describe("orders")


async def test_a_redirection_is_not_followed(server, provider, block):
    server.answer = (302, error("Moved"), {"Location": f"{server.url}/elsewhere"})
    with pytest.raises(KeyUnavailable, match="answered 302 Moved"):
        await provider.health()
    assert not [request for request in server.requests if "elsewhere" in request.path]


async def test_health_needs_an_answer_and_a_sign_in_but_no_right(server, provider):
    server.answer = (403, error("Forbidden"))
    await provider.health()
    server.answer = (503, error("Unavailable"))
    with pytest.raises(KeyUnavailable, match="answered 503 Unavailable"):
        await provider.health()


async def test_a_service_with_an_unknown_certificate_is_not_trusted(server):
    provider = AzureProvider(Azure(address=server.url))
    with pytest.raises(KeyUnavailable, match="can't be reached: ClientConnectorCertificateError"):
        await provider.health()
    await provider.close()
    assert not server.requests


# The sign-in ---------------------------------------------------------------------------------------------------------


async def test_it_signs_in_once_as_the_managed_identity_of_the_machine(server, provider, block):
    assert await provider.unwrap(block, CONTEXT) == SECRET
    assert server.tokens_given == 1


async def test_a_token_that_has_ended_is_renewed(server, provider):
    server.life_seconds = -1
    await provider.health()
    server.tokens.clear()
    await provider.health()


async def test_a_token_that_was_revoked_is_unavailable(server, provider, block):
    server.tokens.clear()
    with pytest.raises(KeyUnavailable, match="401 Unauthorized: it doesn't accept this sign-in"):
        await provider.unwrap(block, CONTEXT)  # azure.identity remembers the token until its end


async def test_without_an_identity(server, provider):
    server.gives_tokens = False
    with pytest.raises(KeyUnavailable, match="DefaultAzureCredential found no sign-in that works"):
        await provider.health()
    server.gives_tokens = True
    await provider.health()


@pytest.mark.parametrize(
    "variables",
    [
        {"AZURE_TOKEN_CREDENTIALS": "nonsense"},
        {
            "AZURE_TENANT_ID": "t",
            "AZURE_CLIENT_ID": "c",
            "AZURE_CLIENT_CERTIFICATE_PATH": "/nowhere/certificate.pem",
        },
    ],
    ids=["unknown", "no file"],
)
async def test_an_environment_that_can_not_be_used(provider, monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(KeyUnavailable, match="look at the variables that begin with AZURE_"):
        await provider.health()


async def test_no_token_goes_to_a_service_that_asks_for_one_of_another_domain(server, provider):
    server.challenge_resource = "https://vault.evil.example"
    with pytest.raises(KeyUnavailable, match="asks for a sign-in of another domain"):
        await provider.health()
    assert server.tokens_given == 0


async def test_the_secret_is_not_sent_before_the_service_is_known(server, provider):
    await provider.wrap("orders", SECRET, CONTEXT)
    assert [request.body for request in server.requests if not request.token] == [b""]


# What is told --------------------------------------------------------------------------------------------------------


async def test_nothing_that_is_told_has_a_secret_in_it(server, caplog):
    caplog.set_level(logging.DEBUG)
    told = []
    provider = server.provider()
    with capture_logs() as lines:
        block = await provider.wrap("orders", SECRET, CONTEXT)
        assert await provider.unwrap(block, CONTEXT) == SECRET
        bad = block._replace(wrapped=block.wrapped[::-1])
        for answer in (None, (403, error("Forbidden")), (500, error("x")), (200, b"{}"), (200, b"<html>")):
            server.answer = answer
            with pytest.raises((KeyRefused, KeyDenied, KeyUnavailable)) as caught:
                await provider.unwrap(bad, CONTEXT)
            told.append(f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}")
        server.gives_tokens = False
        other = server.provider()
        told.append(str(await unavailable(other.health())))
        await other.close()
    await provider.close()
    assert "DefaultAzureCredential failed to retrieve a token" in caplog.text
    text = "\n".join([*told, repr(lines), caplog.text, repr(provider)])
    sent = [request.body.decode() for request in server.requests if request.body]
    values = [json.loads(body)["value"] for body in sent]
    assert len(values) >= 7
    for hidden in (server.secret, *server.tokens, *values, SECRET.hex(), block.wrapped.hex(), "secret-of-the-service"):
        assert hidden not in text
    assert aes_key_wrap(server.keys["orders"][0].material, SECRET) == block.wrapped


def test_the_client_is_loaded_only_where_it_is_used():
    script = "import kveil.proxy.cli, kveil.proxy.keys.opening, sys; sys.exit('azure' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize("missing", ["azure.identity.aio", "azure.keyvault.keys.aio"])
def test_without_the_extra_it_says_which(server, monkeypatch, missing):
    keys = Keys.model_validate(server.keys_settings())
    monkeypatch.delitem(sys.modules, "kveil.proxy.keys.providers.azure")
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(KeySetupError, match=r"pip install 'kveil\[azure\]'"):
        open_provider(KeyService.AZURE, keys)
