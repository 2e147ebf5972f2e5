"""Where a login stands: which frame is a token, and when a question may be asked."""

import pytest

from kveil.protocol.kafka.api_table import ApiKey
from kveil.protocol.kafka.errors import FrameError
from kveil.proxy.errors import CloseConnection
from kveil.proxy.login import MAX_TOKEN_BYTES, Login

TOKEN = b"n,,n=alice,r=nonce"
HANDSHAKE, AUTHENTICATE, HEARTBEAT = ApiKey.SASL_HANDSHAKE, ApiKey.SASL_AUTHENTICATE, (12, 4)


@pytest.fixture
def talk(converse):
    return converse()


def handshake(talk, mechanism, *, version=0, error=0):
    number = talk.client(HANDSHAKE, version, {"mechanism": mechanism})
    talk.broker(HANDSHAKE, version, number, {"error_code": error, "mechanisms": ["PLAIN"]})
    assert len(talk.to_broker) == len(talk.to_client) == 1


def token(talk, answer=b""):
    talk.client_frame(TOKEN)
    assert talk.to_broker == [TOKEN]
    talk.broker_frame(answer)
    assert talk.to_client == [answer]


def authenticate(talk, *, error=0, lifetime=0):
    number = talk.client(AUTHENTICATE, 2, {"auth_bytes": TOKEN})
    talk.broker(AUTHENTICATE, 2, number, {"error_code": error, "session_lifetime": lifetime, "error_message": None})
    talk.to_broker, talk.to_client  # noqa: B018 - taken out


def speaks_frames(talk):
    number = talk.client(*HEARTBEAT)
    talk.broker(*HEARTBEAT, number)
    return len(talk.to_broker) == len(talk.to_client) == 1


class TestTokensWithoutHeaders:
    @pytest.mark.parametrize(
        ("mechanism", "rounds"), [("PLAIN", 1), ("SCRAM-SHA-256", 2), ("SCRAM-SHA-512", 2), ("OAUTHBEARER", 1)]
    )
    def test_as_many_as_the_mechanism_has(self, talk, mechanism, rounds):
        handshake(talk, mechanism)
        for last in range(rounds):
            assert not talk.connection.login.may_ask(0)
            token(talk, b"" if last == rounds - 1 else b"r=nonce,s=salt,i=4096")
        assert talk.connection.login.may_ask(0)
        assert speaks_frames(talk)

    def test_oauthbearer_sends_one_more_after_a_failure(self, talk):
        handshake(talk, "OAUTHBEARER")
        token(talk, b'{"status":"invalid_token"}')
        assert talk.connection.login.expects_raw_token
        token(talk, b"")
        assert speaks_frames(talk)

    def test_a_refused_mechanism_has_none(self, talk):
        handshake(talk, "PLAIN", error=33)
        assert speaks_frames(talk)

    @pytest.mark.parametrize("mechanism", ["GSSAPI", "plain", "", "SCRAM-SHA-1"])
    def test_an_uncounted_mechanism_closes(self, talk, mechanism):
        with pytest.raises(CloseConnection, match="can't be counted: use version 1"):
            talk.client(HANDSHAKE, 0, {"mechanism": mechanism})
        assert talk.to_broker == []

    def test_before_the_handshake_is_answered(self, talk):
        talk.client(HANDSHAKE, 0, {"mechanism": "PLAIN"})
        with pytest.raises(CloseConnection, match="before the last one was answered"):
            talk.client_frame(TOKEN)

    def test_before_the_last_one_is_answered(self, talk):
        handshake(talk, "SCRAM-SHA-256")
        talk.client_frame(TOKEN)
        with pytest.raises(CloseConnection, match="before the last one was answered"):
            talk.client_frame(TOKEN)

    def test_too_large(self, talk):
        handshake(talk, "PLAIN")
        with pytest.raises(CloseConnection, match="limit"):
            talk.client_frame(bytes(MAX_TOKEN_BYTES + 1))
        talk.client_frame(bytes(MAX_TOKEN_BYTES))

    def test_no_connection_is_ever_opaque(self, talk):
        """What looks like a token after the last one is read as a request."""
        handshake(talk, "PLAIN")
        token(talk)
        with pytest.raises((CloseConnection, FrameError)):
            talk.client_frame(TOKEN)

    def test_again_on_the_same_connection(self, talk):
        for _ in range(2):
            handshake(talk, "SCRAM-SHA-512")
            token(talk, b"r=")
            token(talk)
            assert speaks_frames(talk)


class TestTokensWithHeaders:
    def test_pass_as_they_are(self, talk):
        handshake(talk, "SCRAM-SHA-256", version=1)
        assert not talk.connection.login.expects_raw_token
        for _ in range(2):
            assert not talk.connection.login.may_ask(0)
            authenticate(talk)
        assert talk.connection.login.may_ask(0)

    def test_any_mechanism(self, talk):
        handshake(talk, "GSSAPI", version=1)
        for _ in range(3):
            authenticate(talk)
        assert talk.connection.login.may_ask(0)

    def test_a_failure_ends_it(self, talk):
        handshake(talk, "SCRAM-SHA-256", version=1)
        authenticate(talk, error=58)
        assert not talk.connection.login.in_progress

    def test_a_request_in_the_middle_of_a_handshake_closes(self, talk):
        talk.client(HANDSHAKE, 1, {"mechanism": "PLAIN"})
        with pytest.raises(CloseConnection, match="middle of a login"):
            talk.client(*HEARTBEAT)

    def test_api_versions_may_come_at_any_time(self, talk):
        talk.client(HANDSHAKE, 1, {"mechanism": "PLAIN"})
        talk.client(ApiKey.API_VERSIONS, 3)
        assert len(talk.to_broker) == 2


class TestSessions:
    def test_questions_end_with_the_session(self, talk):
        handshake(talk, "PLAIN", version=1)
        authenticate(talk, lifetime=60_000)
        login, clock = talk.connection.login, talk.clock
        assert login.may_ask(clock.now + 59.9)
        assert not login.may_ask(clock.now + 60)

    def test_another_login_lengthens_it(self, talk):
        login, clock = talk.connection.login, talk.clock
        handshake(talk, "PLAIN", version=1)
        authenticate(talk, lifetime=60_000)
        clock.now += 50
        handshake(talk, "PLAIN", version=1)
        assert not login.may_ask(clock.now)
        authenticate(talk, lifetime=60_000)
        assert login.may_ask(clock.now + 59.9)
        assert not login.may_ask(clock.now + 60.1)

    def test_without_a_lifetime_it_does_not_end(self, talk):
        handshake(talk, "PLAIN", version=1)
        authenticate(talk)
        assert talk.connection.login.may_ask(1e12)

    def test_without_a_login_at_all(self):
        login = Login()
        assert login.may_ask(0)
        assert not login.expects_raw_token
        login.ordinary_request_sent()
