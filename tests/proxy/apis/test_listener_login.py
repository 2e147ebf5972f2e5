"""SaslHandshake and SaslAuthenticate that end at the listener: nothing of them reaches the broker."""

import pytest

from kveil.protocol.kafka.api_table import ApiKey
from kveil.proxy.config import SaslMechanism
from kveil.proxy.errors import CloseConnection
from kveil.proxy.listener_login import ListenerLogin
from kveil.proxy.users.users_store import Users
from tests.support.conversation import read_response
from tests.support.listener import make_users
from tests.support.scram_client import ScramClient
from tests.support.scripted_broker import everything_offered
from tests.support.security import USERS

HANDSHAKE, AUTHENTICATE = ApiKey.SASL_HANDSHAKE, ApiKey.SASL_AUTHENTICATE
VERSIONS = [0, 1, 2]


@pytest.fixture(scope="module")
def users(tmp_path_factory) -> Users:
    return Users(make_users(tmp_path_factory.mktemp("users") / "users.json", ["alice"]))


@pytest.fixture
def talk(converse, users, fresh_log_limits):
    talk = converse()
    talk.connection.listener_login = ListenerLogin(users, tuple(SaslMechanism))
    return talk


def answer(talk, api_key, version, values):
    talk.client(api_key, version, values)
    assert talk.to_broker == []
    (frame,) = talk.to_client
    return read_response(api_key, version, frame)


def handshake(talk, mechanism):
    return answer(talk, HANDSHAKE, 1, {"mechanism": mechanism})


def authenticate(talk, version, token):
    return answer(talk, AUTHENTICATE, version, {"auth_bytes": token})


@pytest.mark.parametrize("version", VERSIONS)
def test_plain(talk, version):
    found = handshake(talk, "PLAIN")
    assert (found.error_code, found.mechanisms) == (0, ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"))
    found = authenticate(talk, version, b"\0alice\0" + USERS["alice"].encode())
    assert (found.error_code, found.auth_bytes) == (0, b"")
    assert version == 0 or found.session_lifetime.total_seconds() == 0
    assert (talk.connection.principal, talk.session.close_reason) == ("alice", None)


@pytest.mark.parametrize("version", VERSIONS)
def test_scram(talk, version):
    handshake(talk, "SCRAM-SHA-512")
    client = ScramClient("sha512", "alice", USERS["alice"].encode())
    challenge = authenticate(talk, version, client.first()).auth_bytes
    assert talk.connection.principal is None
    client.check(authenticate(talk, version, client.final(challenge)).auth_bytes)
    assert talk.connection.principal == "alice"
    talk.client(12, 4, {"group_id": "g", "member_id": "m"})
    assert len(talk.to_broker) == 1


@pytest.mark.parametrize(
    ("mechanism", "token", "text", "user"),
    [
        ("PLAIN", b"\0alice\0wrong", "Authentication failed: Invalid username or password", "alice"),
        ("PLAIN", b"\0mallory\0wrong", "Authentication failed: Invalid username or password", None),
        ("PLAIN", b"garbage", "Authentication failed: Invalid username or password", None),
        (
            "SCRAM-SHA-256",
            b"garbage",
            "Authentication failed during authentication due to invalid credentials with SASL mechanism SCRAM-SHA-256",
            None,
        ),
    ],
)
def test_a_refusal_is_answered_in_brokers_words_and_closes(talk, mechanism, token, text, user):
    handshake(talk, mechanism)
    found = authenticate(talk, 2, token)
    assert (found.error_code, found.error_message) == (58, text)
    assert talk.session.close_reason == ""  # told already
    (line,) = talk.log.of("login_refused")
    assert (line["user"], line["mechanism"], line["client"]) == (user, mechanism, "127.0.0.1")
    assert "wrong" not in str(line).replace("a wrong name", "")
    assert not talk.connection.is_authenticated


def test_a_mechanism_that_there_is_not(talk):
    found = handshake(talk, "GSSAPI")
    assert (found.error_code, found.mechanisms) == (33, ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"))
    assert talk.session.close_reason == ""


def test_a_token_before_the_handshake(talk):
    assert authenticate(talk, 2, b"\0alice\0" + USERS["alice"].encode()).error_code == 34
    assert talk.session.close_reason
    assert not talk.connection.is_authenticated


def test_a_second_login_changes_nobody(talk):
    """Sessions don't expire, so there is nothing to renew, as at a broker without connections.max.reauth.ms."""
    handshake(talk, "PLAIN")
    authenticate(talk, 2, b"\0alice\0" + USERS["alice"].encode())
    assert handshake(talk, "PLAIN").error_code == 34
    assert talk.session.close_reason is None
    assert authenticate(talk, 2, b"\0bob\0" + USERS["bob"].encode()).error_code == 34
    assert talk.connection.principal == "alice"


def test_tokens_without_headers_are_not_served(talk):
    with pytest.raises(CloseConnection, match=r"v0.*use version 1"):
        talk.client(HANDSHAKE, 0, {"mechanism": "PLAIN"})
    assert talk.to_broker == []


@pytest.mark.parametrize(
    ("api_key", "version"), [(ApiKey.METADATA, 12), (ApiKey.PRODUCE, 9), (ApiKey.FETCH, 12), (12, 4), (37, 1)]
)
@pytest.mark.parametrize("half_way", [False, True])
def test_nothing_else_before_the_login(talk, api_key, version, half_way):
    if half_way:
        handshake(talk, "SCRAM-SHA-256")
        authenticate(talk, 2, b"n,,n=alice,r=abc")
    with pytest.raises(CloseConnection, match="request before the login"):
        talk.client(api_key, version, {})
    assert talk.to_broker == []


class TestApiVersions:
    @pytest.mark.parametrize("version", [0, 3, 4])
    @pytest.mark.parametrize("offered", [(0, 1), (0, -1)], ids=["broker with logins", "broker without"])
    def test_offers_what_the_listener_does_itself(self, talk, version, offered):
        number = talk.client(ApiKey.API_VERSIONS, version)
        assert len(talk.to_broker) == 1  # before the login too
        talk.broker(
            ApiKey.API_VERSIONS, version, number, everything_offered(SaslHandshake=offered, SaslAuthenticate=offered)
        )
        (frame,) = talk.to_client
        rows = [(row.api_key, row.min_version, row.max_version) for row in read_response(18, version, frame).api_keys]
        assert [row for row in rows if row[0] in (HANDSHAKE, AUTHENTICATE)] == [(17, 1, 1), (36, 0, 2)]
        assert len({row[0] for row in rows}) == len(rows) > 50


def test_without_a_login_of_the_listener_s_own_they_pass(converse):
    talk = converse()
    talk.client(HANDSHAKE, 1, {"mechanism": "GSSAPI"})
    assert len(talk.to_broker) == 1
    assert talk.connection.is_authenticated
    assert talk.connection.principal is None
