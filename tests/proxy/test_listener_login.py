"""A login at the listener, round by round."""

import pytest

from kveil.protocol.sasl.server.errors import LoginRefused
from kveil.proxy.config import SaslMechanism
from kveil.proxy.errors import ErrorCode
from kveil.proxy.listener_login import ListenerLogin
from kveil.proxy.users.users_store import Users
from tests.support.listener import make_users
from tests.support.scram_client import ScramClient
from tests.support.security import USERS

HASHES = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}


@pytest.fixture(scope="module")
def users(tmp_path_factory) -> Users:
    return Users(make_users(tmp_path_factory.mktemp("users") / "users.json", ["alice"]))


@pytest.fixture
def login(users) -> ListenerLogin:
    return ListenerLogin(users, tuple(SaslMechanism))


def plain(login: ListenerLogin, user: str, password: str) -> bytes:
    token = f"\0{user}\0{password}".encode()
    need = login.need(token)
    assert need is not None
    need.check()
    assert login.need(token) is None
    return login.step(token)


def scram(login: ListenerLogin, user: str, password: str) -> ScramClient:
    assert login.mechanism is not None
    client = ScramClient(HASHES[login.mechanism], user, password.encode())
    assert login.need(b"") is None
    challenge = login.step(client.first())
    assert not login.is_over
    client.check(login.step(client.final(challenge)))
    return client


def test_plain(login):
    assert login.choose("PLAIN") is None
    assert plain(login, "alice", USERS["alice"]) == b""
    assert login.is_over
    assert login.user == "alice"


@pytest.mark.parametrize("mechanism", HASHES)
def test_scram(login, mechanism):
    assert login.choose(mechanism) is None
    scram(login, "alice", USERS["alice"])
    assert login.is_over
    assert login.user == "alice"


@pytest.mark.parametrize("way", ["PLAIN", *HASHES])
@pytest.mark.parametrize("user", ["alice", "mallory"])
def test_a_wrong_password_and_an_unknown_user_are_refused_alike(login, way, user):
    login.choose(way)
    with pytest.raises(LoginRefused, match=r"^a wrong name or password$"):
        (plain if way == "PLAIN" else scram)(login, user, "not it")
    assert not login.is_over
    assert login.user == user
    assert login.user_is_known is (user == "alice")


def test_an_unknown_user_costs_as_much(login, monkeypatch):
    """The password is hashed as often."""
    from kveil.protocol.sasl.server import scram as module

    work = []
    real = module.hashlib.pbkdf2_hmac
    monkeypatch.setattr(module.hashlib, "pbkdf2_hmac", lambda *args: work.append(args[3]) or real(*args))
    for user in ("alice", "mallory"):
        fresh = ListenerLogin(login._users, login.mechanisms)
        fresh.choose("PLAIN")
        with pytest.raises(LoginRefused):
            plain(fresh, user, "not it")
    assert len(work) == 2
    assert work[0] == work[1]


def test_a_check_that_was_not_made_is_no_login(login):
    login.choose("PLAIN")
    token = b"\0alice\0" + USERS["alice"].encode()
    with pytest.raises(LoginRefused):
        login.step(token)
    assert not login.is_over


def test_the_password_of_the_first_token_counts(login):
    """A second token can't ride on the check of the first."""
    login.choose("PLAIN")
    need = login.need(b"\0alice\0wrong")
    need.check()
    with pytest.raises(LoginRefused):
        login.step(b"\0alice\0" + USERS["alice"].encode())


@pytest.mark.parametrize("mechanism", ["GSSAPI", "OAUTHBEARER", "plain", ""])
def test_a_mechanism_that_there_is_not(login, mechanism):
    assert login.choose(mechanism) is ErrorCode.UNSUPPORTED_SASL_MECHANISM


def test_a_mechanism_that_this_listener_does_not_offer(users):
    login = ListenerLogin(users, [SaslMechanism.SCRAM_SHA_512])
    assert login.choose("PLAIN") is ErrorCode.UNSUPPORTED_SASL_MECHANISM
    assert login.choose("SCRAM-SHA-512") is None


def test_a_second_choice(login):
    login.choose("PLAIN")
    assert login.choose("SCRAM-SHA-256") is ErrorCode.ILLEGAL_SASL_STATE


def test_a_nonce_for_each_login(users):
    seen = set()
    for _ in range(3):
        login = ListenerLogin(users, tuple(SaslMechanism))
        login.choose("SCRAM-SHA-256")
        seen.add(login.step(b"n,,n=alice,r=abc"))
    assert len(seen) == 3
