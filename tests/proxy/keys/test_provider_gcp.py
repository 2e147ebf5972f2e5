"""Provider 4: what goes to Google Cloud KMS, how it signs in, and what the answers become."""

import asyncio
import json
import logging
import secrets
import sys
import threading
from base64 import b64encode, urlsafe_b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from structlog.testing import capture_logs

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.key_schedule import derive_kid
from kveil.proxy.admin.metrics import Metrics
from kveil.proxy.config.key_services import Gcp
from kveil.proxy.keys.calls import KeyCalls
from kveil.proxy.keys.errors import KeyDenied, KeyRefused, KeySetupError, KeyUnavailable
from kveil.proxy.keys.provider import KeyContext
from kveil.proxy.keys.providers.gcp import CONNECT_SECONDS, HOST, GcpProvider
from tests.support.certificates import CertificateAuthority
from tests.support.forward_proxy import ForwardProxy
from tests.support.key_services.gcp import DESTROYED, DISABLED, ENABLED, KEY_RING, PURPOSES, SCHEDULED, Server
from tests.support.processes import run

SECRET = bytes(range(1, 33))
CONTEXT = KeyContext("test", "orders", derive_kid(SECRET, realm="test", topic="orders", provider=registry.GOOGLE_KMS))
TOKEN = "ya29.a-token-of-the-metadata-service"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    started = Server(tmp_path_factory.mktemp("gcp"))
    yield started
    started.stop()


@pytest.fixture
def name(server):
    """A key of the test's own."""
    made = f"key-{secrets.token_hex(4)}"
    server.make_key(made)
    server.service.calls.clear()
    return made


@pytest.fixture
async def provider(server):
    made = server.provider()
    yield made
    await made.close()


@contextmanager
def failing(server, code: grpc.StatusCode) -> Iterator[None]:
    server.service.failure = code
    try:
        yield
    finally:
        server.service.failure = None


# What goes there and comes back --------------------------------------------------------------------------------------


@pytest.mark.parametrize("ring", ["kafka", "projects/p/locations/l/keyRings/", f"{KEY_RING}/cryptoKeys/orders"])
def test_what_can_not_be_a_key_ring(ring):
    with pytest.raises(KeySetupError, match=r"keys\.gcp\.key_ring: .* projects/P/locations/L/keyRings/R"):
        GcpProvider(Gcp(key_ring=ring))


def test_the_place_names_the_key_ring_and_an_address_that_is_not_the_usual_one(server):
    assert GcpProvider(Gcp(key_ring=KEY_RING)).place == KEY_RING
    assert server.provider().place == f"{KEY_RING} (127.0.0.1:{server.port})"


async def test_the_version_is_the_number_of_the_primary_one(provider, server, name):
    block = await provider.wrap(name, SECRET, CONTEXT)
    assert (block.provider, block.mechanism, block.version) == (registry.GOOGLE_KMS, registry.SERVICE_AEAD, "1")
    for _ in range(11):
        server.rotate(name)
    assert (await provider.wrap(name, SECRET, CONTEXT)).version == "12"
    description = await provider.describe(name)
    assert (description.primary, description.versions) == ("12", tuple(str(number) for number in range(1, 13)))


async def test_versions_that_are_destroyed_are_not_told_of(provider, server, name):
    for _ in range(3):
        server.rotate(name)
    for number, state in ((1, DESTROYED), (2, SCHEDULED), (3, DISABLED)):
        server.key(name).version(number).state = state
    assert (await provider.describe(name)).versions == ("3", "4")


async def test_realm_and_topic_are_bound_with_their_lengths(provider, name):
    """So that no two contexts are the same data."""
    block = await provider.wrap(name, SECRET, KeyContext("ab", "c", CONTEXT.kid))
    with pytest.raises(KeyRefused):
        await provider.unwrap(block, KeyContext("a", "bc", CONTEXT.kid))
    nowhere = KeyContext("ab", "", CONTEXT.kid)
    assert await provider.unwrap(await provider.wrap(name, SECRET, nowhere), nowhere) == SECRET


async def test_the_service_is_told_which_key_is_asked_for_so_that_it_can_route_the_call(provider, server, name):
    await provider.wrap(name, SECRET, CONTEXT)
    ((method, metadata),) = server.service.calls
    assert method == "Encrypt"
    assert metadata["x-goog-request-params"].replace("%2F", "/") == f"name={KEY_RING}/cryptoKeys/{name}"


@pytest.mark.parametrize(
    "field",
    ["ciphertext", "ciphertext_crc32c", "verified_plaintext_crc32c", "verified_additional_authenticated_data_crc32c"],
)
async def test_a_wrap_that_was_damaged_on_the_way_is_made_again(provider, server, name, field):
    server.service.damage = field
    try:
        with pytest.raises(KeyUnavailable, match="damaged on the way"):
            await provider.wrap(name, SECRET, CONTEXT)
    finally:
        server.service.damage = None


@pytest.mark.parametrize("field", ["plaintext", "plaintext_crc32c"])
async def test_an_unwrapped_key_that_was_damaged_on_the_way_is_asked_for_again(provider, server, name, field):
    block = await provider.wrap(name, SECRET, CONTEXT)
    server.service.damage = field
    try:
        with pytest.raises(KeyUnavailable, match="damaged on the way"):
            await provider.unwrap(block, CONTEXT)
    finally:
        server.service.damage = None


# What Google answers -------------------------------------------------------------------------------------------------


async def test_a_key_that_is_not_there(provider):
    with pytest.raises(KeyDenied, match=rf"{KEY_RING} .* the use of key orders: it isn't in this key ring"):
        await provider.wrap("orders", SECRET, CONTEXT)


async def test_a_primary_version_that_is_disabled_keeps_from_wrapping_and_others_open(provider, server, name):
    before = await provider.wrap(name, SECRET, CONTEXT)
    server.rotate(name)
    after = await provider.wrap(name, SECRET, CONTEXT)
    server.key(name).version(2).state = DISABLED
    for call in (provider.wrap(name, SECRET, CONTEXT), provider.unwrap(after, CONTEXT), provider.describe(name)):
        with pytest.raises(KeyDenied, match=f"{name}.*`gcloud kms keys versions enable`"):
            await call
    assert await provider.unwrap(before, CONTEXT) == SECRET
    server.key(name).version(2).state = ENABLED
    assert await provider.unwrap(after, CONTEXT) == SECRET


async def test_a_key_of_another_purpose(provider, server, name):
    server.key(name).purpose = PURPOSES.ASYMMETRIC_SIGN
    for call in (provider.wrap(name, SECRET, CONTEXT), provider.describe(name)):
        with pytest.raises(KeyDenied, match="purpose ENCRYPT_DECRYPT"):
            await call


async def test_an_identity_that_may_not(provider, server, name):
    block = await provider.wrap(name, SECRET, CONTEXT)
    with failing(server, grpc.StatusCode.PERMISSION_DENIED):
        for call in (provider.wrap(name, SECRET, CONTEXT), provider.unwrap(block, CONTEXT), provider.describe(name)):
            with pytest.raises(KeyDenied, match=rf"{name}.*roles/cloudkms\.cryptoKeyEncrypterDecrypter"):
                await call
        await provider.health()  # it answers


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, r"failed \(UNAVAILABLE\)"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, r"failed \(DEADLINE_EXCEEDED\)"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, r"failed \(RESOURCE_EXHAUSTED\)"),
        (grpc.StatusCode.INTERNAL, r"failed \(INTERNAL\)"),
        (grpc.StatusCode.UNIMPLEMENTED, r"failed \(UNIMPLEMENTED\)"),
        (grpc.StatusCode.UNAUTHENTICATED, r"sign-in .* failed \(UNAUTHENTICATED\): application default credentials"),
    ],
)
async def test_what_may_pass_is_told_to_be_tried_again_by_one_try(provider, server, name, code, reason):
    with failing(server, code):
        with pytest.raises(KeyUnavailable, match=reason):
            await provider.wrap(name, SECRET, CONTEXT)
        assert len(server.service.calls) == 1
        with pytest.raises(KeyUnavailable):
            await provider.health()
    assert await provider.wrap(name, SECRET, CONTEXT)


async def test_a_sign_in_that_is_refused_does_not_cancel_calls_under_way(provider, server, name, monkeypatch):
    """They are on the connection that is given up."""
    arrived, may_answer = threading.Event(), threading.Event()
    decrypt = server.service.decrypt

    def slow(request):
        arrived.set()
        assert may_answer.wait(30)
        return decrypt(request)

    block = await provider.wrap(name, SECRET, CONTEXT)
    server.pause()
    monkeypatch.setattr(server.service, "decrypt", slow)
    server.resume()
    under_way = asyncio.ensure_future(provider.unwrap(block, CONTEXT))
    assert await asyncio.to_thread(arrived.wait, 30)
    with failing(server, grpc.StatusCode.UNAUTHENTICATED), pytest.raises(KeyUnavailable, match="sign-in"):
        await provider.wrap(name, SECRET, CONTEXT)
    may_answer.set()
    assert await under_way == SECRET
    monkeypatch.undo()
    server.pause()
    server.resume()


async def test_nobody_listens_and_then_somebody_does(provider, server, name):
    await provider.wrap(name, SECRET, CONTEXT)
    server.pause()
    try:
        async with asyncio.timeout(2 * CONNECT_SECONDS):
            with pytest.raises(KeyUnavailable, match=f"can't be reached within {CONNECT_SECONDS:g} s"):
                await provider.wrap(name, SECRET, CONTEXT)
    finally:
        server.resume()
    assert await provider.wrap(name, SECRET, CONTEXT)


@pytest.mark.full
async def test_after_a_longer_outage_the_first_call_succeeds(provider, server, name):
    """Of half a minute. gRPC's own pauses between attempts would have grown to many seconds by then."""
    server.pause()
    try:
        for _ in range(15):
            with pytest.raises(KeyUnavailable, match="can't be reached"):
                await provider.health()
    finally:
        server.resume()
    assert await provider.wrap(name, SECRET, CONTEXT)


async def test_many_calls_share_one_connection_and_closing_ends_it(server, name):
    provider = server.provider()
    await asyncio.gather(*(provider.wrap(name, SECRET, CONTEXT) for _ in range(20)))
    assert len({json.dumps(metadata, sort_keys=True) for _, metadata in server.service.calls}) == 1
    link = provider._link
    await provider.close()
    assert link.channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN


# Sign-in -------------------------------------------------------------------------------------------------------------

SIGN_IN = """
import asyncio, os, sys
import uvloop
from kveil.proxy.config.key_services import Gcp
from kveil.proxy.keys.errors import KeyUnavailable
from kveil.proxy.keys.provider import KeyContext
from kveil.proxy.keys.providers.gcp import GcpProvider

CONTEXT = KeyContext("test", "orders", bytes(16))

async def main():
    provider = GcpProvider(Gcp.model_validate({"key_ring": sys.argv[1], "endpoint": sys.argv[2]}))
    for step in sys.argv[3:]:
        os.rename(*step.split(":")) if ":" in step else None
        try:
            print("version", (await provider.wrap("orders", bytes(32), CONTEXT)).version)
        except KeyUnavailable as error:
            print(error)
    await provider.close()

# Twice in a process, in a loop of its own each: once to check the keys at start, and then to use them.
uvloop.run(main())
sys.argv[3:] = ["again"]
uvloop.run(main())
"""


class MetadataService:
    """Of a machine or a pod at Google: it gives out tokens."""

    def __init__(self) -> None:
        self.is_broken = False
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answers = {
                    "token": {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"},
                    "": {"email": "kveil@test", "scopes": [], "aliases": ["default"]},
                }
                found = json.dumps(answers.get(self.path.partition("?")[0].rpartition("/")[2], {})).encode()
                self.send_response(404 if owner.is_broken and "token" in self.path else 200)
                self.send_header("Metadata-Flavor", "Google")
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(found)))
                self.end_headers()
                self.wfile.write(found)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


@pytest.fixture
def metadata():
    service = MetadataService()
    yield service
    service.stop()


@pytest.fixture
def google(tmp_path):
    """Google Cloud KMS behind TLS by its own name, with a key `orders`."""
    authority = CertificateAuthority(tmp_path)
    issued = authority.issue(HOST, (HOST,))
    pair = (issued.key.read_bytes(), issued.chain.read_bytes())
    server = Server(tmp_path, grpc.ssl_server_credentials([pair]))
    server.make_key("orders")
    yield server
    server.stop()


@pytest.fixture
def sign_in(google, tmp_path):
    """Runs the steps against it in a process with these variables; gives what it said."""

    def make(*steps: str, **variables: str) -> list[str]:
        with ForwardProxy("http") as proxy:
            environment = {
                "PATH": "/usr/bin:/bin",
                "HOME": str(tmp_path),
                "PYTHONPATH": ":".join(filter(None, sys.path)),
                "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(tmp_path / "ca.pem"),
                "https_proxy": f"http://{proxy.address}",
                "NO_GCE_CHECK": "true",
                **variables,
            }
            command = [sys.executable, "-W", "error", "-c", SIGN_IN, KEY_RING, f"{HOST}:{google.port}", *steps]
            said = run(command, environment=environment)
        assert (said.returncode, said.stderr) == (0, "")
        return said.stdout.splitlines()

    return make


def account() -> str:
    """A service account's key file."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return json.dumps(
        {
            "type": "service_account",
            "project_id": "kveil-test",
            "private_key_id": "1",
            "private_key": pem,
            "client_email": "kveil@kveil-test.iam.gserviceaccount.com",
            "client_id": "1",
            "token_uri": "http://127.0.0.1:1/nobody",
        }
    )


def test_a_key_file_that_comes_late_signs_in(sign_in, google, tmp_path):
    late, path = tmp_path / "late.json", tmp_path / "account.json"
    late.write_text(account())
    said = sign_in("first", f"{late}:{path}", GOOGLE_APPLICATION_CREDENTIALS=str(path))
    assert "failed (DefaultCredentialsError): application default credentials come from GOOGLE_" in said[0]
    assert said[1:] == ["version 1", "version 1"]
    _, called = google.service.calls[-1]
    scheme, token = called["authorization"].split()
    claims = json.loads(urlsafe_b64decode(token.split(".")[1] + "=="))
    assert (scheme, claims["iss"]) == ("Bearer", "kveil@kveil-test.iam.gserviceaccount.com")


def test_without_credentials(sign_in, google):
    said = sign_in("first")
    assert ["DefaultCredentialsError" in line for line in said] == [True, True]
    assert google.service.calls == []


def test_the_service_account_of_the_host_signs_in(sign_in, google, metadata):
    """A machine's, or the one that GKE gives to a pod."""
    where = f"127.0.0.1:{metadata.server.server_port}"
    variables = {"GCE_METADATA_HOST": where, "GCE_METADATA_IP": where, "NO_GCE_CHECK": "false", "no_proxy": "127.0.0.1"}
    assert sign_in("first", **variables) == ["version 1", "version 1"]
    assert google.service.calls[-1][1]["authorization"] == f"Bearer {TOKEN}"
    metadata.is_broken = True
    said = sign_in("first", **variables)
    assert ["the sign-in at Google Cloud KMS" in line for line in said] == [True, True]


# Logs ----------------------------------------------------------------------------------------------------------------


async def test_nothing_secret_is_logged_or_told_at_any_level(server, name, caplog):
    """The libraries' own lines too, which at debug level would show requests; the service repeats what it got."""
    caplog.set_level(logging.DEBUG)
    told = []
    with capture_logs() as lines:
        provider = server.provider()
        block = await provider.wrap(name, SECRET, CONTEXT)
        assert await provider.unwrap(block, CONTEXT) == SECRET
        for code in ("PERMISSION_DENIED", "INVALID_ARGUMENT", "UNAUTHENTICATED", "RESOURCE_EXHAUSTED"):
            calls = KeyCalls(provider, 5.0, Metrics())
            for call in (calls.wrap(name, SECRET, CONTEXT), calls.unwrap(block, CONTEXT)):
                refusals = pytest.raises((KeyDenied, KeyRefused, KeyUnavailable))
                with failing(server, grpc.StatusCode[code]), refusals as caught:
                    await call
                told.append(f"{caught.value!r} {caught.value.__cause__!r}")
        await provider.close()
    shown = " ".join([*told, *map(str, lines), caplog.text, *(str(vars(record)) for record in caplog.records)])
    assert "RESOURCE_EXHAUSTED" in shown
    for secret in (SECRET, block.wrapped):
        octal = "".join(f"\\{byte:03o}" for byte in secret[:4])
        for form in (secret.hex(), repr(secret)[2:-1], b64encode(secret).decode(), octal):
            assert form not in shown
