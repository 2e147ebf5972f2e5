"""What the contract doesn't ask of Vault's transit: kinds of keys, its refusals, and answers that aren't its own."""

import asyncio
import base64
import gzip
import json
import secrets
import threading

import pytest

from kveil.protocol.envelope.header import KeyBlock
from kveil.proxy.admin.metrics import Metrics
from kveil.proxy.keys.calls import KeyCalls
from kveil.proxy.keys.errors import KeyDenied, KeyRefused, KeySetupError, KeyUnavailable
from kveil.proxy.keys.provider import KeyContext
from kveil.proxy.keys.providers import vault_http
from kveil.proxy.keys.providers.vault_http import ANSWER_BYTES
from tests.support.certificates import CertificateAuthority
from tests.support.key_services.http_front import HttpFront, Scripted
from tests.support.key_services.vault import RIGHTS, ROOT, Refused, Server

SECRET = bytes(range(1, 33))
CONTEXT = KeyContext("test", "orders", bytes(16))
# FORMAT.md, section 8
ADDITIONAL = b"kveil/v1/transit\x00" + b"\x00\x04test" + b"\x00\x06orders"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    started = Server(tmp_path_factory.mktemp("vault"))
    yield started
    started.stop()


@pytest.fixture(autouse=True)
def as_before(server):
    """Each test may script the answers and change the rights."""
    yield
    server.front.script = lambda _: None
    server.allow(RIGHTS)


@pytest.fixture
async def provider(server):
    made = server.provider()
    yield made
    await made.close()


@pytest.fixture
def key(server) -> str:
    name = f"key-{secrets.token_hex(4)}"
    server.make_key(name)
    return name


@pytest.fixture
async def block(provider, key) -> KeyBlock:
    return await provider.wrap(key, SECRET, CONTEXT)


# What is stored ------------------------------------------------------------------------------------------------------


async def test_transit_itself_opens_a_wrap_as_the_format_describes_it(server, block):
    ciphertext = f"vault:v{block.version}:{base64.b64encode(block.wrapped).decode()}"
    assert server.decrypt(block.name, ciphertext, ADDITIONAL) == SECRET
    with pytest.raises(Refused):
        server.decrypt(block.name, ciphertext, ADDITIONAL + b"x")
    assert len(block.wrapped) == 12 + 32 + 16


@pytest.mark.parametrize("kind", ["aes128-gcm96", "aes256-gcm96", "chacha20-poly1305", "xchacha20-poly1305"])
async def test_every_aead_will_do(server, provider, kind):
    server.make_key(kind, type=kind)
    block = await provider.wrap(kind, SECRET, CONTEXT)
    assert await provider.unwrap(block, CONTEXT) == SECRET
    assert (await provider.describe(kind)).versions == ("1",)


@pytest.mark.parametrize("version", ["", "0", "01", "+1", "1 ", "-1", "1:x", "10000000000", "\u0661"])
async def test_a_version_is_written_in_one_way(server, provider, block, version):
    asked = len(server.front.requests)
    with pytest.raises(KeyRefused, match=block.name):
        await provider.unwrap(block._replace(version=version), CONTEXT)
    assert len(server.front.requests) == asked


@pytest.mark.parametrize("name", ["../keys/x", "a/b", "..", ".", "", "a?b=c", "a#b", "a%2fb", "\u00e9", "-a", "a\n"])
async def test_a_name_changes_no_path(server, provider, block, name):
    asked = len(server.front.requests)
    for call in (provider.unwrap(block._replace(name=name), CONTEXT), provider.describe(name)):
        with pytest.raises(KeyDenied, match="no transit key can have the name"):
            await call
    assert len(server.front.requests) == asked


async def test_a_version_that_the_key_has_not_is_refused(provider, block):
    with pytest.raises(KeyRefused, match="too new"):
        await provider.unwrap(block._replace(version="7"), CONTEXT)


async def test_versions_below_the_least_are_denied_until_it_is_lowered(server, provider, block):
    server.rotate(block.name)
    server.admin("POST", f"transit/keys/{block.name}/config", {"min_decryption_version": 2})
    with pytest.raises(KeyDenied, match="min_decryption_version"):
        await provider.unwrap(block, CONTEXT)
    assert (await provider.describe(block.name)).versions == ("2",)
    server.admin("POST", f"transit/keys/{block.name}/config", {"min_decryption_version": 1})
    assert await provider.unwrap(block, CONTEXT) == SECRET


# What the service denies ---------------------------------------------------------------------------------------------


async def test_wrapping_makes_no_key_even_for_those_who_may(server, monkeypatch):
    monkeypatch.setenv("VAULT_OF_ROOT", ROOT)
    provider = server.provider(token="env:VAULT_OF_ROOT")
    with pytest.raises(KeyDenied, match=r"there is no such key.*transit/keys/nobody-made-it"):
        await provider.wrap("nobody-made-it", SECRET, CONTEXT)
    with pytest.raises(Refused, match="404"):
        server.admin("GET", "transit/keys/nobody-made-it")
    await provider.close()


@pytest.mark.parametrize("kind", [{"type": "rsa-2048"}, {"type": "ed25519"}, {"derived": True}], ids=str)
async def test_a_key_of_a_wrong_kind(server, provider, kind, block):
    name = f"wrong-{secrets.token_hex(4)}"
    server.make_key(name, **kind)
    calls = (
        provider.wrap(name, SECRET, CONTEXT),
        provider.unwrap(block._replace(name=name), CONTEXT),
        provider.describe(name),
    )
    for call in calls:
        with pytest.raises(KeyDenied, match=f"{name}.*wrong kind"):
            await call


async def test_a_policy_that_is_taken_away_denies_and_given_back_allows(server, provider, block):
    server.allow('path "transit/encrypt/another" { capabilities = ["update"] }')
    calls = (
        provider.wrap(block.name, SECRET, CONTEXT),
        provider.unwrap(block, CONTEXT),
        provider.describe(block.name),
    )
    for call in calls:
        with pytest.raises(KeyDenied, match=f"transit/keys/{block.name}.*policies"):
            await call
    server.allow(RIGHTS)
    assert await provider.unwrap(block, CONTEXT) == SECRET


async def test_a_disabled_key_says_how_to_enable_it(server, provider, block):
    server.disable(block.name)
    for call in (provider.unwrap(block, CONTEXT), provider.describe(block.name)):
        with pytest.raises(KeyDenied, match=f"disabled.*transit/keys/{block.name}/soft-delete-restore"):
            await call


async def test_a_wrong_mount(server, key, monkeypatch):
    monkeypatch.setenv("VAULT_OF_ROOT", ROOT)
    for way, told in (({}, "policies"), ({"token": "env:VAULT_OF_ROOT"}, "keys.vault.mount")):
        provider = server.provider(mount="elsewhere", **way)
        with pytest.raises(KeyDenied, match=f"elsewhere/keys/{key}.*{told}"):
            await provider.wrap(key, SECRET, CONTEXT)
        await provider.close()


async def test_a_sealed_server_is_unavailable(tmp_path):
    server = Server(tmp_path)
    provider = server.provider()
    try:
        server.make_key("orders")
        block = await provider.wrap("orders", SECRET, CONTEXT)
        server.admin("PUT", "sys/seal")
        for call in (provider.wrap("orders", SECRET, CONTEXT), provider.unwrap(block, CONTEXT), provider.health()):
            with pytest.raises(KeyUnavailable, match="503: Vault is sealed"):
                await call
    finally:
        await provider.close()
        server.stop()


# What isn't Vault's answer -------------------------------------------------------------------------------------------


def transit(**data: object) -> bytes:
    return json.dumps({"data": data}).encode()


GOOD = transit(ciphertext="vault:v1:" + "A" * 80, plaintext=base64.b64encode(SECRET).decode())
NONSENSE = {
    "no JSON": Scripted(200, b"<html>hello</html>"),
    "no map": Scripted(200, b"[1, 2]"),
    "too deep": Scripted(200, b"[" * 100_000),
    "nothing": Scripted(200, b""),
    "no data": Scripted(200, b"{}"),
    "data of another type": Scripted(200, b'{"data": 5}'),
    "values of another type": Scripted(200, transit(ciphertext=5, plaintext=5, keys=5, latest_version=[])),
    "another's ciphertext": Scripted(200, transit(ciphertext="kms:v1:AAAA", plaintext="%%%", keys={"x": 1})),
    "version 0": Scripted(200, transit(ciphertext="vault:v0:AAAA", plaintext="", keys={"0": 1}, latest_version=0)),
    "no base64": Scripted(200, transit(ciphertext="vault:v1:A", plaintext="A")),
    "a wrap for no envelope": Scripted(200, transit(ciphertext="vault:v1:" + "A" * 4096)),
    "a gateway's 400": Scripted(400, b"<html>Bad Request</html>"),
    "a gateway's 403": Scripted(403, b"<html>Forbidden</html>"),
    "a gateway's 404": Scripted(404, b'{"message": "no route"}'),
    "standby": Scripted(429, b'{"errors": []}'),
    "not yet replicated": Scripted(412, b'{"errors": ["required index state not present"]}'),
    "an error": Scripted(500, b'{"errors": ["internal error"]}'),
    "a gateway's error": Scripted(502, b"<html>Bad Gateway</html>"),
    "good but too long": Scripted(200, GOOD + b" " * ANSWER_BYTES),
    "good but packed": Scripted(200, gzip.compress(GOOD), (("Content-Encoding", "gzip"),)),
}


@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE)
async def test_what_is_no_answer_of_transit_denies_nothing(server, provider, block, answer):
    server.front.script = lambda request: answer if "/transit/" in request.path else None
    calls = [provider.wrap(block.name, SECRET, CONTEXT), provider.unwrap(block, CONTEXT)]
    for call in calls:
        with pytest.raises(KeyUnavailable) as caught:
            await call
        assert server.front.url in str(caught.value)
    if answer.status != 200:
        with pytest.raises(KeyUnavailable):
            await provider.describe(block.name)
    server.front.script = lambda _: None
    assert await provider.unwrap(block, CONTEXT) == SECRET


@pytest.mark.parametrize("data", [{}, {"keys": {"1": 1}}, {"keys": {"a": 1}, "latest_version": "a"}, {"keys": []}])
async def test_a_description_that_is_none(server, provider, key, data):
    kind = {"supports_encryption": True, "supports_derivation": True}
    server.front.script = lambda request: Scripted(200, transit(**kind, **data)) if "/keys/" in request.path else None
    with pytest.raises(KeyUnavailable):
        await provider.describe(key)


async def test_the_token_follows_no_redirect(server, provider, block):
    with HttpFront(("127.0.0.1", 1)) as elsewhere:
        leads_there = Scripted(307, b"", (("Location", f"{elsewhere.url}/v1/transit/encrypt/x"),))
        server.front.script = lambda request: leads_there if "/transit/" in request.path else None
        with pytest.raises(KeyUnavailable, match=r"307.*keys\.vault\.address"):
            await provider.wrap(block.name, SECRET, CONTEXT)
        assert elsewhere.requests == []


async def test_a_server_that_does_not_answer_is_given_up_at_the_deadline(server, provider, block):
    may_answer = threading.Event()

    def wait(request):
        if "/transit/decrypt" in request.path:
            may_answer.wait(10)

    server.front.script = wait
    calls = KeyCalls(provider, 0.1, Metrics())
    with pytest.raises(KeyUnavailable, match=r"within 0\.1 s"):
        await calls.unwrap(block, CONTEXT)
    assert await provider.wrap(block.name, SECRET, CONTEXT)  # others aren't held up
    may_answer.set()


async def test_what_nobody_waits_for_ends_by_itself(server, block, monkeypatch):
    monkeypatch.setattr(vault_http, "DEADLINE_SECONDS", 0.1)
    provider = server.provider()
    may_answer = threading.Event()
    server.front.script = lambda request: may_answer.wait(10) and None
    with pytest.raises(KeyUnavailable, match=r"didn't answer within 0\.1 s"):
        await provider.unwrap(block, CONTEXT)
    may_answer.set()
    await provider.close()


async def test_many_calls_at_once(provider, key):
    blocks = await asyncio.gather(*(provider.wrap(key, bytes([n]) * 32, CONTEXT) for n in range(20)))
    secrets_found = await asyncio.gather(*(provider.unwrap(block, CONTEXT) for block in blocks))
    assert secrets_found == [bytes([n]) * 32 for n in range(20)]


async def test_no_proxy_of_the_environment_stands_between(server, key, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    provider = server.provider()
    assert await provider.wrap(key, SECRET, CONTEXT)
    await provider.close()


# TLS -----------------------------------------------------------------------------------------------------------------


async def test_the_server_must_be_the_one_that_the_ca_vouches_for(tmp_path):
    server = Server(tmp_path, tls=True)
    another = CertificateAuthority(tmp_path / "another")
    provider = server.provider(address=server.address, ca=server.ca)
    strangers = [server.provider(address=server.address, ca=ca) for ca in (another.path, None)]
    try:
        server.make_key("orders")
        block = await provider.wrap("orders", SECRET, CONTEXT)
        assert await provider.unwrap(block, CONTEXT) == SECRET
        for stranger in strangers:
            with pytest.raises(KeyUnavailable, match=r"(?i)certificate"):
                await stranger.wrap("orders", SECRET, CONTEXT)
    finally:
        for each in (provider, *strangers):
            await each.close()
        server.stop()


def test_a_ca_that_is_none(server, tmp_path):
    file = tmp_path / "ca.pem"
    file.write_text("no certificate")
    with pytest.raises(KeySetupError, match=r"keys\.vault\.ca: .*ca\.pem"):
        server.provider(ca=file)
