"""Who may read and change the files that the configuration names."""

import os

import pytest

from kveil.proxy.config import Settings
from kveil.proxy.doctor.files import files_of, look_at_files
from kveil.proxy.doctor.findings import Level
from tests.support.certificates import CertificateAuthority
from tests.support.conversation import key_file


@pytest.fixture
def tidy(tmp_path):
    """A configuration with every kind of file, as it should be."""
    tmp_path.chmod(0o700)
    issued = CertificateAuthority(tmp_path).issue("kveil")
    for name in ("kveil.yaml", "password", "users.json", "bind"):
        (tmp_path / name).write_text("x")
        (tmp_path / name).chmod(0o600)
    tls = {"cert": str(issued.chain), "key": str(issued.key)}
    sasl = {"mechanism": "PLAIN", "username": "a", "password": f"file:{tmp_path / 'password'}"}
    listener = {"address": "127.0.0.1:5000", "sasl": {"users": str(tmp_path / "users.json")}}
    settings = Settings.model_validate(
        {
            "upstream": {"bootstrap": ["b:1"], "tls": {**tls, "ca": str(tmp_path / "ca.pem")}, "sasl": sasl},
            "listeners": [{**listener, "tls": {"cert": str(issued.both)}}],
            "keys": {
                "path": str(key_file(tmp_path)),
                "vault": {
                    "address": "https://v:1",
                    "approle": {"role_id": "r", "secret_id": f"file:{tmp_path / 'bind'}"},
                },
            },
        }
    )
    return settings, tmp_path / "kveil.yaml"


def test_every_file_is_looked_at(tidy):
    settings, config = tidy
    known = {file.path.name: (file.is_secret, file.is_refused) for file in files_of(settings, config)}
    assert known == {
        "kveil.yaml": (False, False),
        "keys.json": (True, True),
        "users.json": (True, True),
        "kveil.pem": (True, False),  # the key is in it
        "kveil.key": (True, False),
        "ca.pem": (False, False),
        "password": (True, False),
        "bind": (True, False),
    }


def test_a_tidy_place(tidy):
    (found,) = look_at_files(*tidy)
    assert (found.level, found.what.split()[0]) == (Level.OK, "8")


@pytest.mark.parametrize(
    ("name", "mode", "level", "said"),
    [
        ("keys.json", 0o644, Level.FAILURE, "can be read"),
        ("keys.json", 0o640, Level.FAILURE, "can be read"),
        ("keys.json", 0o620, Level.FAILURE, "can be changed"),
        ("users.json", 0o604, Level.FAILURE, "can be read"),
        ("password", 0o644, Level.WARNING, "can be read"),
        ("kveil.key", 0o640, Level.WARNING, "can be read"),
        ("kveil.yaml", 0o664, Level.WARNING, "can be changed"),
        ("kveil.yaml", 0o646, Level.FAILURE, "can be changed"),
        ("ca.pem", 0o646, Level.FAILURE, "can be changed"),
    ],
)
def test_what_others_may(tidy, tmp_path, name, mode, level, said):
    (tmp_path / name).chmod(mode)
    (found,) = look_at_files(*tidy)
    assert found.level is level
    assert said in found.what
    assert f"{tmp_path / name}" in found.what
    assert f"(mode {mode:04o})" in found.what
    assert found.remedy in {f"chmod 600 {tmp_path / name}", f"chmod go-w {tmp_path / name}"}


def test_both_at_once(tidy, tmp_path):
    (tmp_path / "keys.json").chmod(0o666)
    assert [found.remedy.split()[1] for found in look_at_files(*tidy)] == ["go-w", "600"]


@pytest.mark.parametrize("name", ["kveil.yaml", "ca.pem"])
def test_what_is_no_secret_may_be_read(tidy, tmp_path, name):
    (tmp_path / name).chmod(0o644)
    assert [found.level for found in look_at_files(*tidy)] == [Level.OK]


@pytest.mark.parametrize(
    ("mode", "level"), [(0o777, Level.FAILURE), (0o770, Level.WARNING), (0o1777, Level.OK), (0o755, Level.OK)]
)
def test_a_directory_where_others_may_put_another_file(tidy, tmp_path, mode, level):
    tmp_path.chmod(mode)
    found = look_at_files(*tidy)
    assert {finding.level for finding in found} == {level}
    assert level is Level.OK or all("can be replaced" in finding.what for finding in found)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user(tidy, tmp_path):
    os.chown(tmp_path / "password", 12_345, -1)
    (found,) = look_at_files(*tidy)
    assert (found.level, "id 12345" in found.what) == (Level.WARNING, True)


def test_a_file_that_is_not_there_is_told_elsewhere(tidy, tmp_path):
    (tmp_path / "users.json").unlink()
    assert [found.level for found in look_at_files(*tidy)] == [Level.OK]
