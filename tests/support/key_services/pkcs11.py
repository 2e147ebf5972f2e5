"""A token of SoftHSM2, Debian's package softhsm2 (`make softhsm` installs it)."""

import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

from kveil.proxy.config.key_services import Pkcs11
from kveil.proxy.config.values import SecretRef
from kveil.proxy.keys.providers import pkcs11_module
from kveil.proxy.keys.providers.pkcs11 import Pkcs11Provider

LIBRARIES = (
    Path("/usr/lib/softhsm/libsofthsm2.so"),  # Debian, Ubuntu
    Path("/usr/lib64/pkcs11/libsofthsm2.so"),  # Fedora
    Path("/opt/homebrew/lib/softhsm/libsofthsm2.so"),
)
CONFIGURATION = "SOFTHSM2_CONF"


def library() -> Path:
    """Where SoftHSM2's module is."""
    for path in LIBRARIES:
        if path.exists():
            return path
    msg = "SoftHSM2 isn't installed: `make softhsm` does it on Debian"
    raise RuntimeError(msg)


class Server:
    """A token in a folder.

    SoftHSM reads from the environment where its tokens are, whenever it is initialised: when the first provider of
    this process is used. So one server at a time.
    """

    takes_context = False
    has_versions = True
    pauses_calls = True

    def __init__(self, folder: Path) -> None:
        self.library = library()
        self.token = "kveil"
        self.pin = secrets.token_hex(4)
        self._tokens = folder / "tokens"
        self._tokens.mkdir()
        self.pin_file = folder / "pin"
        self.pin_file.touch(mode=0o600)
        self.pin_file.write_text(self.pin)
        self.configuration = folder / "softhsm2.conf"
        self.configuration.write_text(f"directories.tokendir = {self._tokens}\nlog.level = ERROR\n")
        self._before = os.environ.get(CONFIGURATION)
        os.environ[CONFIGURATION] = str(self.configuration)
        self.init_token(self.token)

    def init_token(self, label: str) -> None:
        """Another token with the same PIN."""
        self._run(
            "softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", "sosecret", "--pin", self.pin
        )

    def make_key(self, name: str) -> None:
        self.administer("make", name)

    def rotate(self, name: str) -> None:
        self.administer("make", name)

    def disable(self, name: str) -> None:
        self.administer("allow", name, "wrap=no,unwrap=no")

    def enable(self, name: str) -> None:
        self.administer("allow", name, "wrap=yes,unwrap=yes")

    def destroy(self, name: str) -> None:
        self.administer("destroy", name)

    def settings(self, **changed: Any) -> Pkcs11:
        return Pkcs11.model_validate({**self.keys_settings()["pkcs11"], **changed})

    def provider(self) -> Pkcs11Provider:
        return Pkcs11Provider(self.settings())

    def keys_settings(self) -> dict[str, Any]:
        pin = SecretRef(kind="file", place=str(self.pin_file))
        return {
            "provider": "pkcs11",
            "pkcs11": {"module": str(self.library), "token": self.token, "pin": str(pin)},
        }

    def secrets(self) -> list[str]:
        return [self.pin]

    def pause(self) -> None:
        """As when a token is unplugged."""
        self._tokens.rename(self._tokens.with_name("away"))

    def resume(self) -> None:
        if not self._tokens.exists():
            self._tokens.with_name("away").rename(self._tokens)

    def stop(self) -> None:
        assert not pkcs11_module._open, "a provider wasn't closed: the library would go on with this server's folder"
        if self._before is None:
            del os.environ[CONFIGURATION]
        else:
            os.environ[CONFIGURATION] = self._before

    def administer(self, *command: str) -> None:
        """What `token_admin` does."""
        module = "tests.support.key_services.token_admin"
        self._run(sys.executable, "-m", module, str(self.library), self.token, self.pin, *command)

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
