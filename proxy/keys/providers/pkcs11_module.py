"""PKCS#11 libraries in this process, and the sessions at their tokens.

A library can be initialised once in a process, and a login counts for the whole of it, so providers share both here. A
library must be initialised after the last fork, so that happens at the first call, and the last provider that closes
ends it. All calls to one library are made by one thread: python-pkcs11 doesn't tell libraries of threads, and some
then use no locks. A call that a token keeps waiting thus holds up those behind it, and each of them has its deadline.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pkcs11
from pkcs11 import PKCS11Error, Session, Token

from kveil.proxy.keys.errors import KeyUnavailable

if TYPE_CHECKING:
    from pkcs11 import _pkcs11

CLOSE_SECONDS: Final = 5.0
"""How long closing waits for a token that doesn't answer."""

T = TypeVar("T")
_open: Final[dict[Path, "Module"]] = {}


class Module:
    """One library. All methods but `use`, `run` and `leave` block, and are for its own thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._users = 0
        self._library: _pkcs11.lib | None = None
        self._sessions: dict[str, Session] = {}
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        # A daemon, as no executor's thread is: a library that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._serve, name=f"pkcs11 {path.name}", daemon=True)
        self._thread.start()

    @classmethod
    def use(cls, path: Path) -> "Module":
        """The one of this process, until `leave`."""
        module = _open.get(path)
        if module is None:
            module = _open[path] = cls(path)
        module._users += 1
        return module

    async def run(self, call: Callable[[], T]) -> T:
        """What `call` gives, in this library's thread."""
        answer: Future[T] = Future()
        self._calls.put((answer, call))
        return await asyncio.wrap_future(answer)

    async def leave(self) -> None:
        """Ends the library if nobody else uses it."""
        self._users -= 1
        if self._users:
            return
        del _open[self._path]
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.run(self.end)
        except TimeoutError:
            return  # A library that hangs can't be ended; the process's own end will do it.
        self._calls.put(None)
        self._thread.join()  # it is idle; and no thread must be there when a supervisor forks

    def _serve(self) -> None:
        """The library's thread."""
        while (asked := self._calls.get()) is not None:
            answer, call = asked
            if not answer.set_running_or_notify_cancel():
                continue  # nobody waits for it any more
            try:
                answer.set_result(call())
            except BaseException as error:
                answer.set_exception(error)

    def session(self, label: str, login: Callable[[Token], Session]) -> Session:
        """The session at the token of that label. `login` opens one.

        :raises KeyUnavailable: there is no such library or token.
        :raises PKCS11Error: as the library says.
        """
        session = self._sessions.get(label)
        if session is None:
            session = self._sessions[label] = login(self.token(label))
        return session

    def token(self, label: str) -> Token:
        """Look for the token. Raises as `session` does."""
        found = [
            token
            for token in (slot.get_token() for slot in self._begun().get_slots(token_present=True))
            if token.label == label
        ]
        if len(found) == 1:
            return found[0]
        if found:
            msg = f"the pkcs11 module {self._path} has {len(found)} tokens labelled {label}: give each another label"
        else:
            msg = f"the pkcs11 module {self._path} has no token labelled {label}: see pkcs11.token, and whether "
            msg += "it is plugged in or its HSM can be reached"
        # A library may have looked for its tokens only once.
        self.end()
        raise KeyUnavailable(msg)

    def end(self) -> None:
        """Lets go of all sessions and of the library. The next call begins anew: most of them need that to see a
        token again that was gone.
        """
        self._sessions.clear()
        library, self._library = self._library, None
        if library is not None:
            with suppress(PKCS11Error):
                library.finalize()

    def _begun(self) -> "_pkcs11.lib":
        if self._library is not None:
            return self._library
        try:
            self._library = pkcs11.lib(str(self._path))
            return self._library
        except PKCS11Error as error:
            reason = str(error) or type(error).__name__
            msg = (
                f"the pkcs11 module {self._path} can't be used ({reason}): pkcs11.module must name a PKCS#11 "
                "library for this machine, set up as its maker says for the user that the proxy runs as"
            )
            raise KeyUnavailable(msg) from None
