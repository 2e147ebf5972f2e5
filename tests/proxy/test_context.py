"""What a connection knows of its client, and says of it in each line of the log."""

import pytest

from kveil.protocol.kafka.api_table import ApiKey


@pytest.fixture
def bound(converse, monkeypatch):
    """A conversation, and what was put on its connection's lines."""
    talk = converse()
    values = []

    def bind(**more):
        values.append(more)
        return talk.log

    monkeypatch.setattr(talk.log, "bind", bind)
    talk.bound = values
    return talk


def test_the_clients_id_is_on_the_lines_once(bound):
    for _ in range(2):
        bound.client(ApiKey.API_VERSIONS, 0, client_id="billing-1")
    bound.client(ApiKey.API_VERSIONS, 0, client_id=None)
    assert bound.bound == [{"client_id": "billing-1"}]
    assert bound.connection.client_id == "billing-1"


def test_the_last_one_counts(bound):
    for client_id in ("a", "b"):
        bound.client(ApiKey.API_VERSIONS, 0, client_id=client_id)
    assert bound.bound == [{"client_id": "a"}, {"client_id": "b"}]


def test_a_hostile_one_makes_no_lines_of_its_own(bound):
    bound.client(ApiKey.API_VERSIONS, 0, client_id="a\n[error] forged" + 10_000 * "x")
    (line,) = bound.bound
    assert len(line["client_id"]) < 110
    assert "\n" not in line["client_id"]
    assert bound.connection.client_id.endswith("xxx")
