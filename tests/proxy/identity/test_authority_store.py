"""An authority's directory: nothing is half-written, and what is damaged is said."""

import json
import multiprocessing
import os
import stat
from dataclasses import replace

import pytest

from kveil.proxy.identity.authority import new_state
from kveil.proxy.identity.authority_store import AuthorityStore
from kveil.proxy.identity.errors import IdentityError
from kveil.proxy.secret import Secret
from tests.support.realm import NOW, identity

KEYS = identity("authority")
STATE = new_state(KEYS, "demo", 3600, NOW)


@pytest.fixture
def store(tmp_path):
    made = AuthorityStore(tmp_path / "deep" / "authority")
    made.create(KEYS, STATE, None)
    return made


def counted(state):
    return replace(state, serial=state.serial + 1)


def test_what_was_made_is_read_back(store):
    assert store.fingerprint() == KEYS.id
    assert store.keys(None).id == KEYS.id
    assert store.load(KEYS) == STATE
    for path in store.directory.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_one_that_is_there_stays(store):
    with pytest.raises(IdentityError, match="stays as it is"):
        store.create(identity("other"), STATE, None)
    assert store.load(KEYS) == STATE


def test_a_passphrase(tmp_path):
    store = AuthorityStore(tmp_path)
    store.create(KEYS, STATE, Secret(b"open"))
    assert store.keys(Secret(b"open")).id == KEYS.id
    with pytest.raises(IdentityError, match="passphrase"):
        store.keys(None)


def test_a_beginning_that_was_cut_short_is_begun_again(tmp_path, monkeypatch):
    store = AuthorityStore(tmp_path)
    monkeypatch.setattr("kveil.proxy.identity.authority_store.create_identity", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.create(KEYS, STATE, None)
    monkeypatch.undo()
    with pytest.raises(IdentityError, match="kveil authority init"):
        store.keys(None)
    store.create(KEYS, STATE, None)
    assert store.load(KEYS) == STATE


def test_a_change_is_on_disk_when_it_returns(store):
    assert store.change(KEYS, counted).serial == 1
    assert AuthorityStore(store.directory).load(KEYS).serial == 1


def test_what_is_refused_changes_nothing(store):
    def refuse(_):
        raise IdentityError("no")

    before = (store.directory / "state.json").read_bytes()
    with pytest.raises(IdentityError, match="no"):
        store.change(KEYS, refuse)
    assert (store.directory / "state.json").read_bytes() == before


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_killed_while_it_writes_the_old_state_is_there(store, monkeypatch, step):
    def die(*_, **__):
        raise SystemExit(9)

    monkeypatch.setattr("kveil.proxy.private_file.os.fsync" if step == "fsync" else "pathlib.Path.replace", die)
    with pytest.raises(SystemExit):
        store.change(KEYS, counted)
    monkeypatch.undo()
    assert store.load(KEYS) == STATE
    assert store.change(KEYS, counted).serial == 1


def _count(directory, times):
    store = AuthorityStore(directory)
    for _ in range(times):
        store.change(KEYS, counted)


def test_changes_by_several_processes_all_count(store):
    context = multiprocessing.get_context("spawn")
    running = [context.Process(target=_count, args=(store.directory, 20)) for _ in range(3)]
    for process in running:
        process.start()
    for process in running:
        process.join(60)
    assert [process.exitcode for process in running] == [0, 0, 0]
    assert store.load(KEYS).serial == 60


def test_a_lost_state_is_no_first_start(store):
    (store.directory / "state.json").unlink()
    with pytest.raises(IdentityError, match="Restore the authority's directory from a backup"):
        store.load(KEYS)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"version": 2},
        {"realm": "other"},
        {"checkpoint": "AAAA"},
        {"checkpoint": 7},
        {"members": ["AAAA"]},
        {"members": None},
        {"revoked": [{}]},
        {"tickets": [{}]},
        {"tickets": [[]]},
        {"serial": "x"},
    ],
    ids=str,
)
def test_damage_is_said(store, change):
    path = store.directory / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(IdentityError, match=r"state\.json (is damaged|is no state|has version)"):
        store.load(KEYS)


def test_a_state_that_others_signed_is_none(store):
    other = identity("other")
    with pytest.raises(IdentityError, match="damaged"):
        store.load(other)


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff"])
def test_no_state(store, data):
    (store.directory / "state.json").write_bytes(data)
    with pytest.raises(IdentityError, match=r"state\.json is"):
        store.load(KEYS)


def test_one_process_runs(store):
    with store.running(), pytest.raises(IdentityError, match="runs already"), store.running():
        pass
    with store.running():
        pass


def test_one_at_a_time_publishes(store):
    first = store.try_publishing()
    assert store.try_publishing() is None
    os.close(first)
    second = store.try_publishing()
    assert second is not None
    os.close(second)
