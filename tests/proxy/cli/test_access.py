"""`kveil check --as --from --listener`: who may do what, and why."""

import json

import pytest

from tests.support.listener import make_users


@pytest.fixture
def config(tmp_path, key_path):
    users = make_users(tmp_path / "users.json", ["alice"])
    path = tmp_path / "kveil.yaml"
    path.write_text(
        f"""
upstream: {{bootstrap: a:1}}
keys: {{path: {key_path}}}
networks: {{office: [10.1.0.0/16]}}
listeners:
  - {{address: "127.0.0.1:5000"}}
  - {{address: "127.0.0.1:6000", name: inner, direction: consume, allow: [office], sasl: {{users: {users}}}}}
topics:
  - {{match: "a.*", producers: [alice], consumers: [alice, "CN=bob"]}}
"""
    )
    return path


def lines(kveil, config, *arguments):
    result = kveil("check", "-c", config, *arguments)
    assert result.exit_code == 0, result.stderr
    return [line for line in result.stdout.splitlines() if ", may " in line]


def test_nothing_is_said_unless_asked(kveil, config):
    assert lines(kveil, config, "a.x") == []


def test_by_name_and_address(kveil, config, tmp_path):
    assert lines(kveil, config, "--as", "alice", "--from", "10.1.2.3", "--listener", "inner", "a.x", "other") == [
        "at inner, may connect from 10.1.2.3: YES (allow office: 10.1.0.0/16)",
        f"at inner, may log in as alice: YES ({tmp_path / 'users.json'} has this user)",
        "a.x: at inner, may produce: NO (the listener is for the other direction: consume)",
        "a.x: at inner, may consume: YES (consumers of topics[0] a.*)",
        "other: at inner, may produce: NO (the listener is for the other direction: consume)",
        "other: at inner, may consume: YES (no consumers of no rule: sealed: everybody)",
    ]


def test_where_nobody_is_known(kveil, config):
    assert lines(kveil, config, "--as", "alice", "--listener", "127.0.0.1:5000", "a.x") == [
        (
            "a.x: at 127.0.0.1:5000, may produce: NO "
            "(producers of topics[0] a.* names who may, and the listener doesn't know who its clients are)"
        ),
        (
            "a.x: at 127.0.0.1:5000, may consume: NO "
            "(consumers of topics[0] a.* names who may, and the listener doesn't know who its clients are)"
        ),
    ]


def test_who_may_not(kveil, config):
    found = lines(kveil, config, "--as", "mallory", "--from", "192.0.2.1", "--listener", "inner", "a.x")
    assert [line.partition(": NO (")[1] for line in found] == [": NO ("] * 4


def test_a_certificate_s_subject(kveil, config):
    found = lines(kveil, config, "--as", "CN=bob", "--listener", "inner", "a.x")
    assert found[-1] == "a.x: at inner, may consume: YES (consumers of topics[0] a.*)"


def test_every_listener_unless_one_is_named(kveil, config):
    result = kveil("check", "-c", config, "--json", "--from", "10.1.0.1")
    assert json.loads(result.stdout)["access"] == [
        {
            "listener": listener,
            "what": "connect from 10.1.0.1",
            "topic": None,
            "allowed": True,
            "reason": reason,
        }
        for listener, reason in (("127.0.0.1:5000", "no allow-list"), ("inner", "allow office: 10.1.0.0/16"))
    ]


def test_the_listeners_are_described(kveil, config):
    result = kveil("check", "-c", config)
    assert (
        "listener inner 127.0.0.1:6000, consume, login by PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, for office only"
        in result.stdout
    )


@pytest.mark.parametrize(
    ("arguments", "path", "sentence"),
    [
        (("--listener", "outer"), "--listener", "no listener outer; there are: 127.0.0.1:5000, inner"),
        (("--from", "10.1.2"), "--from", "10.1.2"),
    ],
)
def test_a_question_that_can_not_be_put(kveil, config, arguments, path, sentence):
    result = kveil("check", "-c", config, *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"kveil: {path}: ")
    assert sentence in result.stderr


@pytest.mark.parametrize("as_json", [True, False])
def test_a_users_file_that_can_not_be_used(kveil, config, tmp_path, as_json):
    (tmp_path / "users.json").unlink()
    result = kveil("check", "-c", config, *(["--json"] if as_json else []))
    assert result.exit_code == 2
    if as_json:
        (problem,) = json.loads(result.stdout)["problems"]
        assert problem["path"] == "listeners[].sasl.users"
    else:
        assert "kveil users add NAME" in result.stderr
