"""The admin socket's file, and what is asked there."""

import socket
import stat
from contextlib import closing

import pytest

from kveil.proxy.config import ConfigError, Settings
from kveil.proxy.net.admin_client import NobodyThere, ask_admin
from kveil.proxy.net.admin_socket import bind_admin


@pytest.fixture
def path(tmp_path):
    return tmp_path / "admin.sock"


def bind(path) -> socket.socket:
    settings = Settings.model_validate({"upstream": {"bootstrap": ["a:1"]}, "admin": {"socket": path}})
    (sock,) = bind_admin(settings)
    return sock


def test_only_its_own_user_can_open_it(path):
    with closing(bind(path)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_one_that_was_left_behind_is_replaced(path):
    bind(path).close()
    assert path.is_socket()
    with closing(bind(path)), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_one_that_is_in_use_is_not(path):
    with closing(bind(path)):
        with pytest.raises(ConfigError, match=r"admin\.socket: .* another proxy listens there"):
            bind(path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_file_that_is_no_socket_stays(path):
    path.write_text("precious")
    with pytest.raises(ConfigError, match=r"admin\.socket"):
        bind(path)
    assert path.read_text() == "precious"


def test_a_folder_must_be_there(path):
    with pytest.raises(ConfigError, match=r"admin\.socket: .* Its folder must be there"):
        bind(path.parent / "none" / "admin.sock")


@pytest.mark.parametrize("name", ["admin.sock", "/run/" + 103 * "a"])
def test_a_path_that_no_socket_may_have(name):
    with pytest.raises(ValueError, match=r"admin\.socket"):
        bind(name)


def test_nobody_there(path):
    with pytest.raises(NobodyThere, match="No such file"):
        ask_admin(path, "POST", "/reload")
    bind(path).close()
    with pytest.raises(NobodyThere, match="refused"):
        ask_admin(path, "POST", "/reload")
