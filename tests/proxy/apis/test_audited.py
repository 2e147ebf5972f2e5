"""What is audited of requests: who may, who logs in, what doesn't open. Each event names the request that caused it."""

import pytest

from kveil.protocol.kafka.api_table import ApiKey
from kveil.proxy.apis.access import REMEMBERED
from kveil.proxy.config import SaslMechanism
from kveil.proxy.listener_login import ListenerLogin
from kveil.proxy.policy import OWN_PRINCIPAL, Use
from kveil.proxy.users.users_store import Users
from tests.support.cloudevents import check_event, of_type
from tests.support.conversation import DELETED
from tests.support.fetching import fetch, fetch_one
from tests.support.listener import make_users
from tests.support.records import at_offset, client_batch, produced, sealed, tampered
from tests.support.security import USERS

PRODUCE, FETCH, HANDSHAKE, AUTHENTICATE = 0, 1, ApiKey.SASL_HANDSHAKE, ApiKey.SASL_AUTHENTICATE
ONE, TWO = client_batch(1), client_batch(2)
RULES = [{"match": "plain", "seal": "none"}, {"match": "*", "mode": "batch"}]


@pytest.fixture
def talk(converse, audited):
    talk = converse(topics=RULES)
    talk.connection.principal = "billing"
    talk.connection.client_id = "app-1"
    talk.settings["t"] = DELETED
    return talk


def caused(event):
    """Who asked, and the rest of what is told."""
    data = dict(check_event(event)["data"])
    return [data.pop(name) for name in ("principal", "address", "operation")], data


class TestGranted:
    def test_once_for_a_connection_a_topic_and_a_use(self, talk, audited):
        numbers = [talk.client(PRODUCE, 9, produced({"t": {0: ONE}})) for _ in range(3)]
        (event,) = of_type(audited, "access.granted")
        assert event["subject"] == "t"
        who, rest = caused(event)
        assert who == ["billing", "127.0.0.1", "Produce"]
        assert rest.pop("correlation_id") == numbers[0]
        assert rest == {"client_id": rest["client_id"], "use": "produce", "sealed": True, "rule": "topics[1] *"}

    def test_each_use_by_itself(self, talk, audited):
        fetch_one(talk, b"")
        talk.client(PRODUCE, 9, produced({"t": {0: ONE}}))
        assert [each["data"]["use"] for each in of_type(audited, "access.granted")] == ["consume", "produce"]

    def test_a_plain_topic_is_told_as_such(self, talk, audited):
        fetch(talk, {"plain": {0: ONE}})
        (event,) = of_type(audited, "access.granted")
        assert (event["subject"], event["data"]["sealed"]) == ("plain", False)

    def test_connections_of_one_client_are_told_once_in_a_while(self, talk, audited, converse):
        other = converse(topics=RULES)
        other.connection.principal, other.connection.client_id = "billing", talk.connection.client_id
        for each in (talk, other):
            fetch_one(each, b"")
        assert len(of_type(audited, "access.granted")) == 1

    def test_clients_are_told_apart(self, talk, audited):
        fetch_one(talk, b"")
        talk.connection.granted[Use.CONSUME].clear()  # as on another connection
        talk.connection.principal = "reports"
        fetch_one(talk, b"")
        assert [each["data"]["principal"] for each in of_type(audited, "access.granted")] == ["billing", "reports"]

    def test_the_proxy_itself_is_not_told(self, talk, audited):
        talk.connection.principal = OWN_PRINCIPAL
        fetch_one(talk, b"")
        assert audited == []

    def test_what_is_remembered_is_bounded(self, talk):
        granted = talk.connection.granted[Use.CONSUME]
        granted.update(f"t{number}" for number in range(REMEMBERED))
        fetch_one(talk, b"")
        assert granted == {"t"}


class TestCause:
    """For keys it goes by way of the task that meets the need: see the tests with a broker."""

    def test_is_the_request_that_is_worked_on(self, talk):
        assert talk.connection.cause.operation is None
        fetch_one(talk, b"")
        assert talk.connection.cause.operation == "Fetch"
        talk.client(PRODUCE, 9, produced({"t": {0: ONE}}))
        assert talk.connection.cause.operation == "Produce"

    def test_is_the_request_whose_answer_is(self, talk):
        talk.client(PRODUCE, 9, produced({"t": {0: ONE}}))
        number = talk.client(FETCH, 4, {})
        talk.broker(PRODUCE, 9, number - 1, {"responses": []})
        assert (talk.connection.cause.operation, talk.connection.cause.correlation_id) == ("Produce", number - 1)

    def test_the_proxy_itself_has_none(self, talk):
        talk.connection.principal = OWN_PRINCIPAL
        fetch_one(talk, b"")
        assert talk.connection.cause is None


class TestTampering:
    def test_a_batch_that_does_not_open(self, talk, audited, writer):
        fetch_one(talk, at_offset(tampered(sealed(writer, "t", 0, TWO)), 7))
        (event,) = of_type(audited, "batch.refused")
        assert event["subject"] == "t/0"
        who, rest = caused(event)
        assert who == ["billing", "127.0.0.1", "Fetch"]
        assert (rest["first_offset"], rest["last_offset"], rest["next_good_offset"]) == (7, 8, None)
        assert rest["reason"]

    def test_is_told_once_in_a_while(self, talk, audited):
        for _ in range(3):
            fetch_one(talk, at_offset(ONE, 7))
        assert len(of_type(audited, "batch.refused")) == 1


class TestLogins:
    @pytest.fixture
    def login(self, talk, tmp_path):
        users = Users(make_users(tmp_path / "users.json", ["alice"]))
        talk.connection.principal = None
        talk.connection.listener_login = ListenerLogin(users, tuple(SaslMechanism))

        def login(token, mechanism="PLAIN"):
            talk.client(HANDSHAKE, 1, {"mechanism": mechanism})
            talk.client(AUTHENTICATE, 2, {"auth_bytes": token})

        return login

    def test_one_that_is_right(self, login, audited):
        login(b"\0alice\0" + USERS["alice"].encode())
        (event,) = audited
        assert (event["type"], event["subject"]) == ("io.kveil.login.granted", "alice")
        who, rest = caused(event)
        assert who == ["alice", "127.0.0.1", "SaslAuthenticate"]
        assert rest["mechanism"] == "PLAIN"
        assert USERS["alice"] not in repr(audited)

    @pytest.mark.parametrize(("user", "subject"), [("alice", "alice"), ("s3cr3t-in-the-wrong-place", "unknown")])
    def test_one_that_is_not(self, login, audited, user, subject):
        login(b"\0" + user.encode() + b"\0wr0ng-password")
        (event,) = audited
        assert (event["type"], event["subject"]) == ("io.kveil.login.refused", subject)
        who, rest = caused(event)
        assert who == [None, "127.0.0.1", "SaslAuthenticate"]
        assert (rest["mechanism"], rest["reason"]) == ("PLAIN", "a wrong name or password")
        assert "wr0ng-password" not in repr(audited)
        assert "s3cr3t" not in repr(audited)

    def test_a_mechanism_that_there_is_not(self, login, talk, audited):
        talk.client(HANDSHAKE, 1, {"mechanism": "GSSAPI"})
        (event,) = audited
        assert event["type"] == "io.kveil.login.refused"
        assert caused(event)[0] == [None, "127.0.0.1", "SaslHandshake"]
