"""How the proxy signs in at Vault, stays signed in, and what it says when it can't."""

import asyncio
import json
import secrets
from functools import partial
from itertools import product
from pathlib import Path

import pytest

from kveil.proxy.keys.errors import KeyDenied, KeyUnavailable
from kveil.proxy.keys.provider import KeyContext
from kveil.proxy.keys.providers import vault_sign_in
from kveil.proxy.keys.providers.vault_http import VaultHttp
from kveil.proxy.keys.providers.vault_sign_in import SignIn
from kveil.proxy.log import configure
from tests.support.certificates import CertificateAuthority
from tests.support.key_services.http_front import Request, Scripted
from tests.support.key_services.token_review import TokenReviewer
from tests.support.key_services.vault import POLICY, RIGHTS, Server

SECRET = bytes(range(1, 33))
CONTEXT = KeyContext("test", "orders", bytes(16))
KEY = "orders"
LOOK, RENEW, LOGIN = "auth/token/lookup-self", "auth/token/renew-self", "auth/approle/login"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    started = Server(tmp_path_factory.mktemp("vault"))
    started.make_key(KEY)
    yield started
    started.stop()


@pytest.fixture(autouse=True)
def as_before(server):
    server.front.requests.clear()
    yield
    server.front.script = lambda _: None


@pytest.fixture
async def new_provider(server):
    made = []

    def make(**settings):
        made.append(server.provider(**settings))
        return made[-1]

    yield make
    for provider in made:
        await provider.close()


@pytest.fixture
def token_file(tmp_path):
    return tmp_path / "token"


@pytest.fixture
def quick_renewals(monkeypatch):
    """Renew when a hundredth of a token's life is over."""
    monkeypatch.setattr(vault_sign_in, "RENEWAL", 0.01)
    monkeypatch.setattr(vault_sign_in, "LEAST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(vault_sign_in, "RETRY_SECONDS", 0.01)


def secret_of(role: dict[str, str]) -> str:
    return Path(role["secret_id"].removeprefix("file:")).read_text()


def revoke(server: Server, request: Request) -> None:
    server.admin("POST", "auth/token/revoke", {"token": request.headers["x-vault-token"]})


def last_call(server: Server) -> Request:
    return next(request for request in reversed(server.front.requests) if "/transit/" in request.path)


async def until_asked(server: Server, path: str, times: int) -> None:
    await asyncio.to_thread(server.front.wait_for, path, times)


# A token -------------------------------------------------------------------------------------------------------------


async def test_a_token_is_looked_up_once_for_many_calls(server, new_provider):
    provider = new_provider()
    await asyncio.gather(*(provider.wrap(KEY, SECRET, CONTEXT) for _ in range(10)))
    assert server.front.asked(LOOK) == 1
    assert server.front.asked(f"encrypt/{KEY}") == 10


async def test_a_token_of_the_environment(server, new_provider, monkeypatch):
    monkeypatch.setenv("TOKEN_OF_THE_TEST", server.new_token())
    provider = new_provider(token="env:TOKEN_OF_THE_TEST")
    assert await provider.wrap(KEY, SECRET, CONTEXT)
    assert not provider.refresh()


async def test_a_revoked_token_is_unavailable_until_another_stands_in_the_file(server, new_provider, token_file):
    token_file.write_text(server.new_token())
    provider = new_provider(token=f"file:{token_file}")
    assert not provider.refresh()
    await provider.wrap(KEY, SECRET, CONTEXT)
    assert not provider.refresh()
    revoke(server, last_call(server))
    for call in (provider.wrap(KEY, SECRET, CONTEXT), provider.health()):
        with pytest.raises(KeyUnavailable, match=rf"keys\.vault\.token \(file:{token_file}\).*expired"):
            await call
    token_file.write_text(server.new_token() + "\n")
    assert provider.refresh()
    await provider.health()
    assert await provider.wrap(KEY, SECRET, CONTEXT)
    assert not provider.refresh()


async def test_a_new_token_is_taken_up_while_the_old_one_still_holds(server, new_provider, token_file):
    token_file.write_text(server.new_token())
    provider = new_provider(token=f"file:{token_file}")
    await provider.wrap(KEY, SECRET, CONTEXT)
    token_file.write_text(server.new_token())
    assert provider.refresh()
    await provider.wrap(KEY, SECRET, CONTEXT)
    assert last_call(server).headers["x-vault-token"] == token_file.read_text()


async def test_a_file_that_is_away_for_a_moment_changes_nothing(server, new_provider, token_file):
    token_file.write_text(server.new_token())
    provider = new_provider(token=f"file:{token_file}")
    await provider.wrap(KEY, SECRET, CONTEXT)
    token_file.write_text("")
    assert not provider.refresh()
    token_file.unlink()
    assert not provider.refresh()
    assert await provider.wrap(KEY, SECRET, CONTEXT)


@pytest.mark.parametrize("content", ["", "\n", "s.one\ns.two", "s.t\u00f6ken", "s.a\rb"])
async def test_what_is_no_token_is_never_sent(server, new_provider, token_file, content):
    token_file.write_text(content)
    with pytest.raises(KeyUnavailable, match=r"keys\.vault\.token: .*no token"):
        await new_provider(token=f"file:{token_file}").wrap(KEY, SECRET, CONTEXT)
    assert server.front.requests == []


async def test_a_file_that_is_gone(new_provider, token_file):
    token_file.write_text("x")
    provider = new_provider(token=f"file:{token_file}")
    token_file.unlink()
    with pytest.raises(KeyUnavailable, match=r"keys\.vault\.token: .*No such file"):
        await provider.wrap(KEY, SECRET, CONTEXT)


async def test_a_token_is_renewed_without_calls_and_outlives_its_first_end(
    server, new_provider, token_file, monkeypatch
):
    monkeypatch.setattr(vault_sign_in, "RENEWAL", 0.25)
    token_file.write_text(server.new_token(ttl="2s"))
    provider = new_provider(token=f"file:{token_file}")
    await provider.wrap(KEY, SECRET, CONTEXT)
    await until_asked(server, RENEW, 5)
    assert await provider.wrap(KEY, SECRET, CONTEXT)
    assert server.front.asked(LOOK) == 1


async def test_a_token_in_its_last_second_is_none_without_end(server, new_provider, quick_renewals):
    last = json.dumps({"data": {"ttl": 0, "expire_time": "2026-01-01T00:00:00Z", "renewable": True}}).encode()
    server.front.script = lambda request: Scripted(200, last) if LOOK in request.path else None
    await new_provider().wrap(KEY, SECRET, CONTEXT)
    await until_asked(server, RENEW, 1)


async def test_a_token_that_cannot_be_renewed_is_used_to_its_end(server, new_provider, token_file, quick_renewals):
    token_file.write_text(server.new_token(ttl="1h", renewable=False))
    provider = new_provider(token=f"file:{token_file}")
    await provider.wrap(KEY, SECRET, CONTEXT)
    assert provider._sign_in._keeper is not None
    async with asyncio.timeout(5):
        await provider._sign_in._keeper
    assert server.front.asked(RENEW) == 0


async def test_a_renewal_that_fails_is_told_and_tried_again(server, new_provider, token_file, quick_renewals, capsys):
    configure("json", "warning")
    token_file.write_text(server.new_token(ttl="10s"))
    provider = new_provider(token=f"file:{token_file}")
    server.front.script = lambda request: Scripted(500, b'{"errors": ["no"]}') if RENEW in request.path else None
    await provider.wrap(KEY, SECRET, CONTEXT)
    await until_asked(server, RENEW, 2)
    assert await provider.wrap(KEY, SECRET, CONTEXT)  # the old one still holds
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert (line["event"], line["place"]) == ("vault_token_not_renewed", server.front.url)
    server.front.script = lambda _: None
    await until_asked(server, RENEW, server.front.asked(RENEW) + 2)


# AppRole -------------------------------------------------------------------------------------------------------------


async def test_approle_logs_in_once_for_many_calls(server, new_provider):
    provider = new_provider(approle=server.new_role())
    blocks = await asyncio.gather(*(provider.wrap(KEY, SECRET, CONTEXT) for _ in range(10)))
    assert await provider.unwrap(blocks[0], CONTEXT) == SECRET
    await provider.health()
    assert server.front.asked(LOGIN) == 1
    assert not provider.refresh()


async def test_approle_logs_in_again_when_its_token_was_revoked(server, new_provider):
    provider = new_provider(approle=server.new_role())
    await provider.wrap(KEY, SECRET, CONTEXT)
    revoke(server, last_call(server))
    await asyncio.gather(*(provider.wrap(KEY, SECRET, CONTEXT) for _ in range(10)))
    assert server.front.asked(LOGIN) == 2
    revoke(server, last_call(server))
    await provider.health()
    assert server.front.asked(LOGIN) == 3


async def test_approle_reads_its_secret_at_each_login(server, new_provider, tmp_path):
    role = server.new_role()
    file = tmp_path / "secret-id"
    file.write_text("not-the-secret-of-this-role")
    provider = new_provider(approle={**role, "secret_id": f"file:{file}"})
    with pytest.raises(
        KeyUnavailable, match=r"keys\.vault\.approle at auth/approle: invalid role or secret ID"
    ) as told:
        await provider.wrap(KEY, SECRET, CONTEXT)
    assert "not-the-secret" not in str(told.value)
    file.write_text(secret_of(role) + "\n")
    assert await provider.wrap(KEY, SECRET, CONTEXT)


async def test_a_wrong_mount_of_the_auth_method(server, new_provider):
    provider = new_provider(approle={**server.new_role(), "mount": "elsewhere"})
    with pytest.raises(KeyUnavailable, match=r"refused the sign-in.*auth/elsewhere"):
        await provider.wrap(KEY, SECRET, CONTEXT)


async def test_a_token_that_renewals_no_longer_help_is_replaced_by_a_login(server, new_provider, quick_renewals):
    provider = new_provider(approle=server.new_role(token_ttl="20s"))
    ending = json.dumps({"auth": {"client_token": "x", "lease_duration": 3, "renewable": True}}).encode()
    server.front.script = lambda request: Scripted(200, ending) if RENEW in request.path else None
    await provider.wrap(KEY, SECRET, CONTEXT)
    await until_asked(server, LOGIN, 2)
    assert await provider.wrap(KEY, SECRET, CONTEXT)


async def test_a_token_that_was_revoked_meanwhile_is_replaced_at_its_renewal(server, new_provider, quick_renewals):
    provider = new_provider(approle=server.new_role(token_ttl="20s"))
    await provider.wrap(KEY, SECRET, CONTEXT)
    revoke(server, last_call(server))
    await until_asked(server, LOGIN, 2)
    assert await provider.wrap(KEY, SECRET, CONTEXT)


async def test_a_denial_stays_one_for_a_token_that_may_not_look_itself_up(server, new_provider):
    role = server.new_role(token_no_default_policy=True)
    provider = new_provider(approle=role)
    try:
        server.allow('path "transit/encrypt/another" { capabilities = ["update"] }')
        with pytest.raises(KeyDenied, match=f"{KEY}.*policies"):
            await provider.wrap(KEY, SECRET, CONTEXT)
        assert server.front.asked(LOGIN) == 2
        await provider.health()
    finally:
        server.allow(RIGHTS)
        server.new_role(token_no_default_policy=False)


async def test_the_least_policy_is_enough(server, new_provider, token_file, quick_renewals):
    """The one of docs/keys.md, without the built-in policy `default`."""
    own = """
        path "auth/token/lookup-self" { capabilities = ["read"] }
        path "auth/token/renew-self" { capabilities = ["update"] }
    """
    server.allow(RIGHTS.replace("*", KEY) + own, "least")
    token_file.write_text(server.new_token(ttl="20s", policy="least", no_default_policy=True))
    provider = new_provider(token=f"file:{token_file}")
    block = await provider.wrap(KEY, SECRET, CONTEXT)
    assert await provider.unwrap(block, CONTEXT) == SECRET
    assert (await provider.describe(KEY)).primary == block.version
    await provider.health()
    await until_asked(server, RENEW, 2)
    with pytest.raises(KeyDenied, match=r"another.*policies"):
        await provider.wrap("another", SECRET, CONTEXT)


async def test_a_token_is_replaced_when_its_time_is_over(server):
    now = [1000.0]
    settings = server.settings(approle=server.new_role(token_ttl="60s"))
    http = VaultHttp(settings)
    sign_in = SignIn(http, settings, lambda: now[0])
    first = await sign_in.token()
    now[0] += 59
    assert await sign_in.token() is first
    now[0] += 1
    assert (await sign_in.token()).reveal() != first.reveal()
    await sign_in.close()
    await http.close()


@pytest.mark.parametrize(
    "auth",
    [
        {},
        {"client_token": "", "lease_duration": 5},
        {"client_token": "a\nb", "lease_duration": 5},
        {"client_token": "s.x", "lease_duration": "5"},
        {"client_token": "s.x", "lease_duration": -1},
        {"client_token": 5, "lease_duration": True},
    ],
)
async def test_a_login_that_gives_no_token(server, new_provider, auth):
    provider = new_provider(approle=server.new_role())
    answer = Scripted(200, json.dumps({"auth": auth}).encode())
    server.front.script = lambda request: answer if LOGIN in request.path else None
    with pytest.raises(KeyUnavailable, match="something else than a token"):
        await provider.wrap(KEY, SECRET, CONTEXT)


async def test_whoever_stops_waiting_leaves_the_login_to_the_others(server, new_provider):
    provider = new_provider(approle=server.new_role())
    first = asyncio.ensure_future(provider.wrap(KEY, SECRET, CONTEXT))
    second = asyncio.ensure_future(provider.wrap(KEY, SECRET, CONTEXT))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).name == KEY
    assert server.front.asked(LOGIN) == 1


async def test_nothing_runs_after_closing(server):
    provider = server.provider(approle=server.new_role())
    before = asyncio.all_tasks()
    await provider.wrap(KEY, SECRET, CONTEXT)
    await provider.close()
    assert asyncio.all_tasks() <= before


# Kubernetes, namespaces ----------------------------------------------------------------------------------------------


async def test_a_service_account_whose_token_is_read_at_each_login(server, new_provider, token_file, tmp_path):
    ca = CertificateAuthority(tmp_path / "ca").path
    with TokenReviewer() as kubernetes:
        server.new_kubernetes_role(kubernetes.url, ca, "prod", "kveil")
        mounted = kubernetes.new_token("prod", "kveil")
        token_file.write_text(mounted)
        provider = new_provider(kubernetes={"role": "kveil", "token": token_file})
        assert await provider.wrap(KEY, SECRET, CONTEXT)

        kubernetes.revoke(mounted)
        revoke(server, last_call(server))
        with pytest.raises(KeyUnavailable, match=r"keys\.vault\.kubernetes at auth/kubernetes") as told:
            await provider.wrap(KEY, SECRET, CONTEXT)
        assert mounted not in str(told.value)

        token_file.write_text(kubernetes.new_token("prod", "kveil"))
        assert await provider.wrap(KEY, SECRET, CONTEXT)


async def test_another_service_account_is_refused(server, new_provider, token_file, tmp_path):
    ca = CertificateAuthority(tmp_path / "ca").path
    with TokenReviewer() as kubernetes:
        server.new_kubernetes_role(kubernetes.url, ca, "prod", "kveil")
        token_file.write_text(kubernetes.new_token("prod", "somebody"))
        with pytest.raises(KeyUnavailable, match=r"refused the sign-in by keys\.vault\.kubernetes"):
            await new_provider(kubernetes={"role": "kveil", "token": token_file}).wrap(KEY, SECRET, CONTEXT)
        token_file.unlink()
        with pytest.raises(KeyUnavailable, match=r"keys\.vault\.kubernetes\.token: .*No such file"):
            await new_provider(kubernetes={"role": "kveil", "token": token_file}).wrap(KEY, SECRET, CONTEXT)


async def test_keys_of_a_namespace(server, new_provider, token_file):
    namespace = f"team-{secrets.token_hex(4)}"
    server.admin("POST", f"sys/namespaces/{namespace}", {})
    server.admin("POST", "sys/mounts/transit", {"type": "transit"}, namespace)
    server.admin("POST", "transit/keys/theirs", {}, namespace)
    server.allow(RIGHTS, POLICY, namespace)
    token_file.write_text(server.new_token(namespace=namespace))
    token = f"file:{token_file}"
    block = await new_provider(token=token, namespace=namespace).wrap("theirs", SECRET, CONTEXT)
    assert await new_provider(token=token, namespace=f"{namespace}/").unwrap(block, CONTEXT) == SECRET
    with pytest.raises(KeyDenied):
        await new_provider(token=token).unwrap(block, CONTEXT)
    with pytest.raises((KeyDenied, KeyUnavailable)):
        await new_provider(token=token, namespace="elsewhere").unwrap(block, CONTEXT)
    with pytest.raises((KeyDenied, KeyUnavailable)):
        await new_provider(namespace=namespace).unwrap(block, CONTEXT)  # a token of the root namespace


# Nothing secret is shown ---------------------------------------------------------------------------------------------


async def test_no_log_line_and_no_error_shows_a_token_a_login_or_a_wrap(
    server, new_provider, token_file, caplog, capsys
):
    configure("json", "debug")
    caplog.set_level(0)
    role = server.new_role()
    jwt = "a-service-accounts-token"
    token_file.write_text(jwt)
    ways = ({}, {"approle": role}, {"kubernetes": {"role": "kveil", "token": token_file, "mount": "approle"}})
    block = await new_provider().wrap(KEY, SECRET, CONTEXT)
    told = []

    def repeat(stage, status, request):
        """A server that says again whatever it was told."""
        if stage not in request.path:
            return None
        said = [*request.headers.values(), request.body.decode(), *json.loads(request.body or b"{}").values()]
        return Scripted(status, json.dumps({"errors": said}).encode())

    for stage, status, way in product(("none", "encrypt", "decrypt", "login", "lookup"), (400, 403, 404, 500), ways):
        server.front.script = partial(repeat, stage, status)
        provider = new_provider(**way)
        for call in (provider.wrap(KEY, SECRET, CONTEXT), provider.unwrap(block, CONTEXT), provider.health()):
            (found,) = await asyncio.gather(call, return_exceptions=True)
            if isinstance(found, BaseException):
                told.append(repr(found) + repr(found.__cause__) + repr(provider))
    assert len(told) > 50
    output = capsys.readouterr()
    shown = "\n".join([*told, output.out, output.err, caplog.text])
    assert "vault_signed_in" in shown
    bodies = [json.loads(request.body) for request in server.front.requests if request.body]
    hidden = {value for body in bodies for name, value in body.items() if name not in {"type", "role"}}
    hidden |= {request.headers.get("x-vault-token", jwt) for request in server.front.requests}
    hidden |= {SECRET.hex(), block.wrapped.hex(), repr(SECRET), repr(block.wrapped)}
    assert len(hidden) > 10
    assert [secret for secret in hidden if secret in shown] == []
