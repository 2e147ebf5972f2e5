"""A login out of the properties file that Kafka's own tools take (`--command-config`), where the proxy has none."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kveil.proxy.config import Mechanism, Settings, UpstreamSasl
from kveil.proxy.migrate.errors import MigrateRefused
from kveil.proxy.secret import Secret

_BY_PASSWORD: Final = (Mechanism.PLAIN, Mechanism.SCRAM_SHA_256, Mechanism.SCRAM_SHA_512)
_JAAS: Final = re.compile(r'(\w+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\'|([^\s;"\']+))')


@dataclass(frozen=True, slots=True)
class Given:
    """A name or password out of the file, where the configuration has a reference."""

    secret: Secret

    def read(self) -> Secret:
        """Return it."""
        return self.secret


def with_login(settings: Settings, path: Path) -> Settings:
    """Return the settings with the login that a properties file has.

    :raises MigrateRefused: it has none that is of use here. The text repeats nothing of the file's values.
    """
    if settings.upstream.sasl is not None:
        raise MigrateRefused("--command-config has no meaning where upstream.sasl says how the proxy logs in")
    try:
        properties = _read(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise MigrateRefused(f"{path}: {reason}") from None
    name = properties.get("sasl.mechanism", "")
    if name not in _BY_PASSWORD:
        known = ", ".join(_BY_PASSWORD)
        raise MigrateRefused(f"{path}: sasl.mechanism must be one of {known}; for others write upstream.sasl")
    login = _login(properties)
    if login is None:
        raise MigrateRefused(
            f"{path}: has no username and password in sasl.jaas.config, nor sasl.username and sasl.password"
        )
    username, password = (Given(Secret(text.encode())) for text in login)
    sasl = UpstreamSasl.model_construct(mechanism=Mechanism(name), username=username, password=password, extensions={})
    return settings.model_copy(update={"upstream": settings.upstream.model_copy(update={"sasl": sasl})})


def _login(properties: dict[str, str]) -> tuple[str, str] | None:
    options = {
        name: re.sub(r"\\(.)", r"\1", double or single or bare)
        for name, double, single, bare in _JAAS.findall(properties.get("sasl.jaas.config", ""))
    }
    username = options.get("username", properties.get("sasl.username"))
    password = options.get("password", properties.get("sasl.password"))
    return None if username is None or password is None else (username, password)


def _read(text: str) -> dict[str, str]:
    """Return the properties of a file. As in java.util.Properties, a line goes on behind a backslash."""
    found = {}
    for line in re.sub(r"\\\r?\n\s*", "", text).splitlines():
        stripped = line.strip()
        if stripped and stripped[0] not in "#!":
            name, _, value = stripped.partition("=")
            found[name.strip()] = value.strip()
    return found
