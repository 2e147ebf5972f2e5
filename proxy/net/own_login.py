"""The proxy's own login on one connection to a broker: once before the first request, then before a session expires.

SaslHandshake v1 and SaslAuthenticate (KIP-43, KIP-152), between the client's requests, which wait meanwhile: between
a handshake and the last token a broker takes nothing else. Sessions are renewed as Java clients do it (KIP-368): not
by a timer, which would keep idle connections open for ever, but before the first request that is late in a session.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from kveil.protocol.kafka.api_table import API_TABLE, SASL_HANDSHAKE_MIN_VERSION, ApiKey
from kveil.protocol.kafka.errors import FrameError
from kveil.protocol.kafka.messages import decode_response
from kveil.protocol.sasl.client import SaslError
from kveil.proxy.credentials import Attempt, Credentials
from kveil.proxy.errors import ErrorCode, LoginFailed
from kveil.proxy.log import log_limited
from kveil.proxy.session import Session

RENEWAL: Final = 0.85
"""The part of a session after which it is renewed: the least that Java clients take."""


class OwnLogin:
    """One connection's. `go_on` takes the requests that waited; `seconds` is for one login, its secrets at hand."""

    def __init__(
        self,
        session: Session,
        flush: Callable[[], None],
        go_on: Callable[[], None],
        credentials: Credentials,
        seconds: float,
    ) -> None:
        self._session = session
        self._connection = session.connection
        self._flush = flush
        self._go_on = go_on
        self._credentials = credentials
        self._seconds = seconds
        self._due_at: float | None = None
        self._done = asyncio.Event()
        self._answer: asyncio.Future[bytes] | None = None
        self._lost = False

    @property
    def is_running(self) -> bool:
        """Whether the client's requests must wait: from the beginning on, and in every later login."""
        return not self._done.is_set()

    def begins(self) -> bool:
        """Whether another login is due. If it is, requests wait from now on, and the caller is to `run` it."""
        due = not self.is_running and self._due_at is not None and self._connection.shared.now() >= self._due_at
        if due:
            self._done.clear()
        return due

    async def ready(self) -> None:
        """Wait until a request may go out. Log in first where that is due."""
        if self.begins():
            await self.run()
        await self._done.wait()

    async def run(self) -> None:
        """Log in.

        :raises LoginFailed: it can't; the log says why. Requests go on waiting, and the connection is to be ended.
        """
        try:
            async with self._credentials.attempt() as attempt, asyncio.timeout(self._seconds):
                await self._log_in(attempt)
            if self._lost:
                raise LoginFailed("the broker closed the connection after the login")
        except TimeoutError:
            self._failed(
                LoginFailed(f"the broker took longer than {self._seconds:g} s (limits.connect_timeout_seconds)")
            )
        except (FrameError, SaslError) as error:
            self._failed(LoginFailed(str(error)))
        except LoginFailed as error:
            self._failed(error)
        self._done.set()
        self._go_on()

    def broker_lost(self) -> bool:
        """The connection is gone. Return whether a login ran, which then says so and ends the client's side too."""
        self._lost = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(LoginFailed("the broker closed the connection during the login"))
        return self.is_running

    def _failed(self, error: LoginFailed) -> None:
        log = self._connection.log.warning
        mechanism, broker = self._credentials.mechanism, str(self._connection.upstream)
        log_limited(log, "upstream_login_failed", key=mechanism, mechanism=mechanism, broker=broker, reason=str(error))
        raise error

    # The rounds --------------------------------------------------------------------------------------------------

    async def _log_in(self, attempt: Attempt) -> None:
        if self._connection.versions is None:
            answer = await self._ask(ApiKey.API_VERSIONS, 0, {})
            self._connection.versions = {row.api_key: (row.min_version, row.max_version) for row in answer.api_keys}
        client = attempt.client
        version = self._version(ApiKey.SASL_HANDSHAKE, SASL_HANDSHAKE_MIN_VERSION)
        chosen = await self._ask(ApiKey.SASL_HANDSHAKE, version, {"mechanism": client.mechanism})
        if chosen.error_code:
            raise self._no_mechanism(attempt, chosen)
        version = self._version(ApiKey.SASL_AUTHENTICATE, 0)
        token: bytes | None = client.start()
        sent_at, lifetime_ms = 0.0, 0.0
        while token is not None:
            sent_at = self._connection.shared.now()
            answer = await self._ask(ApiKey.SASL_AUTHENTICATE, version, {"auth_bytes": token})
            if answer.error_code:
                raise self._refused(attempt, answer)
            lifetime = getattr(answer, "session_lifetime", None)
            lifetime_ms = lifetime.total_seconds() * 1000 if lifetime else 0.0
            # In a thread: SCRAM's iterations take as long as the broker says, and other connections go on.
            token = await asyncio.to_thread(client.respond, bytes(answer.auth_bytes))
        attempt.accepted()
        # From when the last token was sent: the broker's clock began later.
        self._due_at = sent_at + RENEWAL * lifetime_ms / 1000 if lifetime_ms > 0 else None

    def _version(self, api_key: ApiKey, least: int) -> int:
        low, high = (self._connection.versions or {}).get(api_key, (0, -1))
        version = min(high, API_TABLE[api_key].max_version)
        if version < max(low, least):
            raise LoginFailed(f"the broker doesn't offer {API_TABLE[api_key].name} as the proxy needs it")
        return version

    async def _ask(self, api_key: int, version: int, values: Mapping[str, Any]) -> Any:
        if self._lost:
            raise LoginFailed("the broker closed the connection during the login")
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._answer = answered

        def take(frame: memoryview) -> None:
            if not answered.done():
                answered.set_result(bytes(frame))

        self._session.ask(api_key, version, values, take)
        self._flush()
        return decode_response(api_key, version, await answered)

    # Refusals ----------------------------------------------------------------------------------------------------

    @staticmethod
    def _no_mechanism(attempt: Attempt, answer: Any) -> LoginFailed:
        if answer.error_code == ErrorCode.ILLEGAL_SASL_STATE:
            return LoginFailed("this listener of the broker wants no login: use another one, or remove upstream.sasl")
        offered = ", ".join(answer.mechanisms) or "none"
        return attempt.refused(f"it takes {offered}, not {attempt.client.mechanism}")

    @staticmethod
    def _refused(attempt: Attempt, answer: Any) -> LoginFailed:
        message = answer.error_message or answer.error_code.name
        if answer.error_code == ErrorCode.SASL_AUTHENTICATION_FAILED:
            return attempt.refused(message)
        return LoginFailed(f"the broker answered {answer.error_code.name}")
