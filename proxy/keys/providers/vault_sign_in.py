"""How the proxy signs in at Vault: one token for all calls, kept alive, and replaced when it ends.

A token that has an end is renewed after two thirds of its life, whether or not there are calls. Where that no longer
helps, the proxy logs in again, or reads the token of the settings again.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from kveil.proxy.config import SecretRef
from kveil.proxy.config.key_services import Vault
from kveil.proxy.config.values import PlainText
from kveil.proxy.keys.errors import KeyUnavailable
from kveil.proxy.keys.flights import Flights
from kveil.proxy.keys.providers.vault_http import FORBIDDEN, Answer, VaultHttp
from kveil.proxy.log import get_logger, log_limited
from kveil.proxy.secret import Secret

RENEWAL: Final = 2 / 3
"""The part of its life after which a token is renewed: what is left is for a server that is down."""
RETRY_SECONDS: Final = 5.0
LEAST_PAUSE_SECONDS: Final = 0.5
"""Between two renewals, however short a token's life is."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Session:
    """A token. Times are the clock's; `life` is in seconds, 0 where it has no end."""

    token: Secret
    asked: float
    life: float
    first_life: float
    is_renewable: bool

    def has_ended(self, now: float) -> bool:
        return bool(self.life) and now >= self.asked + self.life


class SignIn:
    """The session of one process."""

    def __init__(self, http: VaultHttp, settings: Vault, clock: Callable[[], float] = time.monotonic) -> None:
        self._http = http
        self._settings = settings
        self._clock = clock
        self._session: _Session | None = None
        self._taken: bytes | None = None
        """The token of the settings as it was last read."""
        self._flights: Flights[str, _Session] = Flights()
        self._flight: asyncio.Task[_Session] | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def token(self) -> Secret:
        """The token to use now. Raises KeyUnavailable."""
        session = self._session
        if session is None or session.has_ended(self._clock()):
            session = await asyncio.shield(self._begin(self._sign_in))
        return session.token

    async def holds(self, token: Secret) -> bool:
        """Whether Vault still knows the token: 403 is its answer to one that it doesn't, too. Drops it if not.

        :raises KeyUnavailable: it doesn't say.
        """
        answer = await self._http.ask("GET", "auth/token/lookup-self", token)
        if answer.status == FORBIDDEN and self._session is not None and self._session.token is token:
            self._session = None
        return answer.status != FORBIDDEN

    def refresh(self) -> bool:
        """Whether the token in the settings is another than the one in use, which is then dropped."""
        if self._settings.token is None or self._taken is None:
            return False
        try:
            found = self._settings.token.read().reveal()
        except ValueError:
            return False
        # An empty file is about to be written.
        if found == self._taken or not found.strip():
            return False
        self._session = None
        return True

    async def close(self) -> None:
        """End what runs by itself."""
        running = [task for task in (self._flight, self._keeper) if task is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    # One call for all who need it --------------------------------------------------------------------------------

    def _begin(self, call: Callable[[], Coroutine[Any, Any, _Session]]) -> asyncio.Task[_Session]:
        """Whoever wants to sign in while the token is being renewed waits for that, and the other way round."""
        self._flight = self._flights.begin("session", call)
        return self._flight

    async def _sign_in(self) -> _Session:
        asked = self._clock()
        settings = self._settings
        if settings.token is not None:
            token, answer = await self._look_up(settings.token)
            found = answer.part("data")
            # Whole seconds: 0 is the last one, too, of a token that has an end.
            life = found.get("ttl") or (1 if found.get("expire_time") else 0)
        else:
            answer = await self._log_in()
            found = answer.part("auth")
            token, life = _token(found.get("client_token")), found.get("lease_duration")
        seconds = _seconds(life)
        if token is None or seconds is None:
            msg = f"Vault at {self._http.place} answered a sign-in with something else than a token"
            raise KeyUnavailable(msg)
        session = _Session(
            token=token, asked=asked, life=seconds, first_life=seconds, is_renewable=found.get("renewable") is True
        )
        self._session = session
        if self._keeper is not None:
            self._keeper.cancel()
        self._keeper = asyncio.get_running_loop().create_task(self._keep(), name="vault token")
        _log.debug("vault_signed_in", place=self._http.place, life_seconds=seconds)
        return session

    async def _look_up(self, reference: SecretRef) -> tuple[Secret | None, Answer]:
        read = _read("token", reference)
        self._taken = read.reveal()
        token = _token(read.reveal().decode(errors="replace"))
        if token is None:
            msg = f"keys.vault.token: what {reference} holds is no token: it is empty, or has more than one line"
            raise KeyUnavailable(msg)
        answer = await self._http.ask("GET", "auth/token/lookup-self", token)
        if not answer.is_ok:
            msg = (
                f"Vault at {self._http.place} doesn't take the token of keys.vault.token ({reference}): it is wrong, "
                "has expired or was revoked, is another namespace's, or may not look itself up "
                "(auth/token/lookup-self); put a new one there"
            )
            raise KeyUnavailable(msg)
        return token, answer

    async def _log_in(self) -> Answer:
        approle, kubernetes = self._settings.approle, self._settings.kubernetes
        if approle is not None:
            way, mount = "approle", approle.mount
            login = {
                "role_id": _text("approle.role_id", approle.role_id),
                "secret_id": _text("approle.secret_id", approle.secret_id),
            }
        else:
            assert kubernetes is not None  # the settings have one of the three
            way, mount = "kubernetes", kubernetes.mount
            reference = SecretRef(kind="file", place=str(kubernetes.token))
            login = {"role": kubernetes.role, "jwt": _text("kubernetes.token", reference)}
        answer = await self._http.ask("POST", f"auth/{mount.rstrip('/')}/login", None, login)
        if not answer.is_ok:
            msg = (
                f"Vault at {self._http.place} refused the sign-in by keys.vault.{way} at auth/{mount}: {answer.words}; "
                "look at its role there and at what the settings name"
            )
            raise KeyUnavailable(msg)
        return answer

    # Keeping it alive --------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Renew the token again and again, until there is none or nothing helps."""
        while (session := self._session) is not None and not session.has_ended(self._clock()):
            if not session.life or not (session.is_renewable or self._settings.token is None):
                return
            due = session.asked + RENEWAL * session.life - self._clock()
            await asyncio.sleep(max(due, LEAST_PAUSE_SECONDS))
            if self._session is not session:
                continue
            try:
                await asyncio.shield(self._begin(self._renew))
            except KeyUnavailable as error:
                log_limited(_log.warning, "vault_token_not_renewed", place=self._http.place, reason=str(error))
                await asyncio.sleep(RETRY_SECONDS)

    async def _renew(self) -> _Session:
        """The session with a longer life. Raises KeyUnavailable, and the old one goes on until its end."""
        session = self._session
        if session is None:
            return await self._sign_in()
        asked = self._clock()
        answer = await self._http.ask("POST", "auth/token/renew-self", session.token, {})
        seconds = _seconds(answer.part("auth").get("lease_duration"))
        logs_in = self._settings.token is None
        if seconds is None or (logs_in and seconds < session.first_life / 2):
            # It can't be renewed, or has come to the end that renewals can't move.
            return await self._sign_in()
        renewed = _Session(
            token=session.token, asked=asked, life=seconds, first_life=session.first_life, is_renewable=True
        )
        if self._session is session:
            self._session = renewed
        return renewed


def _read(name: str, reference: SecretRef | PlainText) -> Secret:
    try:
        return reference.read()
    except ValueError as error:
        raise KeyUnavailable(f"keys.vault.{name}: {error}") from None


def _text(name: str, reference: SecretRef | PlainText) -> str:
    return _read(name, reference).reveal().decode(errors="replace").strip()


def _token(value: object) -> Secret | None:
    """The token, if it can stand in a header."""
    if not isinstance(value, str) or not value.strip().isascii() or not value.strip().isprintable():
        return None
    return Secret(value.strip().encode()) if value.strip() else None


def _seconds(life: object) -> float | None:
    if isinstance(life, bool) or not isinstance(life, int | float) or life < 0:
        return None
    return float(life)
