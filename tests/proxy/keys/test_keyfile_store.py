"""The key file on disk: who may read it, and that it is written as a whole or not at all."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kveil.proxy.keys import keyfile_store
from kveil.proxy.keys.errors import KeyFileError
from kveil.proxy.keys.keyfile import add_key, new_key_file, rotate_key
from kveil.proxy.keys.keyfile_store import change_key_file, create_key_file, read_key_file, stamp_of


def others(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir() if entry != path)


def test_what_is_created_is_read(tmp_path):
    path = tmp_path / "deep" / "er" / "keys.json"
    content = new_key_file()
    create_key_file(path, content)
    assert read_key_file(path)[0] == content
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) & 0o077 == 0
    assert others(path) == []


def test_a_file_is_private_whatever_the_mask(tmp_path):
    before = os.umask(0)
    try:
        create_key_file(tmp_path / "keys.json", new_key_file())
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o600


def test_a_file_is_never_overwritten(path):
    before = path.read_bytes()
    with pytest.raises(KeyFileError, match=r"exists already and was left alone.*kveil keys rotate"):
        create_key_file(path, new_key_file())
    assert path.read_bytes() == before
    assert others(path) == []


def test_not_even_a_dangling_link_is_overwritten(tmp_path):
    link = tmp_path / "keys.json"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(KeyFileError, match="exists already"):
        create_key_file(link, new_key_file())
    assert link.is_symlink()


def test_a_missing_file_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(KeyFileError, match=r"no key file .*kveil keys init --keys") as caught:
        read_key_file(tmp_path / "keys.json")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o610, 0o601, 0o777])
def test_a_file_that_is_open_to_others_is_refused(path, mode):
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"mode {mode:04o}.*chmod 600 {path}"):
        read_key_file(path)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_file_that_only_its_owner_can_read_is_taken(path, mode):
    path.chmod(mode)
    assert read_key_file(path)


def test_a_file_of_another_user_is_refused(path, monkeypatch):
    owner = path.stat().st_uid
    if owner == 0:
        os.chown(path, 4321, -1)
        owner = 4321
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    with pytest.raises(KeyFileError, match=f"belongs to another user .id {owner}.*chown 1234"):
        read_key_file(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_root_is_taken(path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    assert read_key_file(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize(("mode", "is_taken"), [(0o440, True), (0o640, True), (0o444, False), (0o660, False)])
def test_a_file_of_root_that_the_group_can_read(path, monkeypatch, mode, is_taken):
    """As Kubernetes and systemd hand out secrets. Root itself, or the file's own user, needs no such way."""
    path.chmod(mode)
    with pytest.raises(KeyFileError, match="open to other users"):
        read_key_file(path)
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    if is_taken:
        assert read_key_file(path)
        os.chown(path, 1234, -1)
    with pytest.raises(KeyFileError, match="open to other users"):
        read_key_file(path)


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(KeyFileError, match=r"is not a file|can't be read"):
        read_key_file(tmp_path)


def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(KeyFileError, match="is not a file"):
        read_key_file(tmp_path / "pipe")


def test_a_file_without_end_is_refused(path, monkeypatch):
    monkeypatch.setattr(keyfile_store, "KEY_FILE_BYTES", 100)
    with pytest.raises(KeyFileError, match="larger than 100 bytes"):
        read_key_file(path)


def test_a_damaged_file_is_named(path):
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(KeyFileError, match=f"key file {path} can't be used: is not JSON"):
        read_key_file(path)


def test_a_change_replaces_the_whole_file(path):
    before, stamp = read_key_file(path)
    after = change_key_file(path, lambda content: rotate_key(content, "default"))
    found, new_stamp = read_key_file(path)
    assert found == after
    assert found != before
    assert new_stamp != stamp
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert others(path) == []


def test_a_refused_change_leaves_the_file(path):
    before = path.read_bytes()
    with pytest.raises(KeyFileError, match="no key nope"):
        change_key_file(path, lambda content: rotate_key(content, "nope"))
    assert path.read_bytes() == before
    assert others(path) == []


def test_a_change_needs_a_file(tmp_path):
    with pytest.raises(KeyFileError, match="kveil keys init"):
        change_key_file(tmp_path / "keys.json", lambda content: content)


def test_an_unsafe_file_is_not_changed(path):
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        change_key_file(path, lambda content: rotate_key(content, "default"))


def test_a_change_goes_through_a_link(path, tmp_path):
    link = tmp_path / "link.json"
    link.symlink_to(path)
    change_key_file(link, lambda content: rotate_key(content, "default"))
    assert link.is_symlink()
    assert read_key_file(path)[0].keys[0].primary == "2"


def test_changes_at_the_same_time_all_count(path):
    with ThreadPoolExecutor(8) as threads:
        jobs = [
            threads.submit(change_key_file, path, lambda content, n=number: add_key(content, f"k{n}"))
            for number in range(24)
        ]
        for job in jobs:
            job.result()
    content, _ = read_key_file(path)
    assert {key.name for key in content.keys} == {"default", "eu", *(f"k{number}" for number in range(24))}


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_disk_that_fails_leaves_the_old_file(path, monkeypatch, failing):
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    if failing == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(KeyFileError, match="can't be written: No space left on device"):
        change_key_file(path, lambda content: rotate_key(content, "default"))
    assert path.read_bytes() == before
    assert others(path) == []


def test_a_file_is_on_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    calls: list[str] = []
    real_fsync, real_link = os.fsync, os.link

    def fsync(descriptor: int) -> None:
        calls.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real_fsync(descriptor)

    def link(source: Path, target: Path) -> None:
        calls.append("name")
        real_link(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    create_key_file(tmp_path / "keys.json", new_key_file())
    assert calls == ["file", "name", "directory"]


def test_a_stamp_tells_contents_apart(path, tmp_path):
    first = stamp_of(path)
    assert first == stamp_of(path)
    change_key_file(path, lambda content: rotate_key(content, "default"))
    assert stamp_of(path) != first
    assert stamp_of(tmp_path / "nope") is None
