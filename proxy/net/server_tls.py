"""TLS to the clients: certificates that are loaded again when their files change, and who a client's certificate is."""

import asyncio
import ssl
from pathlib import Path

from kveil.proxy.config import ListenerTls
from kveil.proxy.config.listener_checks import reason_of, server_context
from kveil.proxy.log import get_logger
from kveil.proxy.private_file import Stamp, stamp_of

_log = get_logger(__name__)

# RFC 2253, section 2.3, by the names that OpenSSL gives them.
_SHORT_NAMES = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}


class ServerTls:
    """The TLS of one listener."""

    def __init__(self, tls: ListenerTls, listener: str) -> None:
        """Loads the certificate. Raises OSError or ValueError."""
        self._tls = tls
        self._log = _log.bind(listener=listener)
        self._context = server_context(tls)
        self._seen = self._stamps()

    def context(self) -> ssl.SSLContext:
        """What the next handshake uses. Files that have changed are loaded first; bad ones leave the old in place."""
        stamps = self._stamps()
        if stamps != self._seen:
            self._seen = stamps
            try:
                self._context = server_context(self._tls)
            except (OSError, ValueError) as error:
                self._log.error("certificate_reload_refused", path=str(self._tls.cert), reason=reason_of(error))
            else:
                self._log.info("certificate_reloaded", path=str(self._tls.cert))
        return self._context

    def reload(self) -> None:
        """Load the files again, whether they have changed or not."""
        self._seen = ()
        self.context()

    def _stamps(self) -> tuple[Stamp | None, ...]:
        paths = (self._tls.cert, self._tls.key, self._tls.client_ca)
        return tuple(stamp_of(Path(path)) for path in paths if path is not None)


def certificate_subject(transport: asyncio.BaseTransport | None) -> str | None:
    """The subject of the client's certificate, which was verified, as Kafka names it; None if it showed none."""
    certificate = transport.get_extra_info("peercert") if transport is not None else None
    return rfc2253(certificate.get("subject", ())) if certificate else None


def rfc2253(subject: tuple[tuple[tuple[str, str], ...], ...]) -> str:
    """A subject as text: `CN=billing,OU=payments,O=Example`. The last part comes first (RFC 2253, section 2.1).

    Types that the RFC doesn't list have OpenSSL's name; Kafka shows their numbers.
    """
    return ",".join(
        "+".join(f"{_SHORT_NAMES.get(name, name)}={_escaped(value)}" for name, value in part)
        for part in reversed(subject)
    )


def _escaped(value: str) -> str:
    """RFC 2253, section 2.4."""
    text = "".join(f"\\{char}" if char in ',+"\\<>;' else char for char in value)
    if value[:1] in ("#", " "):
        text = f"\\{text}"
    if len(value) > 1 and value.endswith(" "):
        text = f"{text[:-1]}\\ "
    return text
