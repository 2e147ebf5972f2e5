"""A real Chromium, driven over its DevTools protocol. It has to be installed: Debian's is the package chromium.

async with chromium(tmp_path) as tab:
    await tab.open("http://127.0.0.1:9600/")
    await tab.wait_for("document.title === 'Kveil'")
"""

import asyncio
import base64
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.processes import Child

CHROMIUM = shutil.which("chromium")
SECONDS = 30.0
_AGAIN_SECONDS = 0.05


class Tab:
    """One page."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self.complaints: list[str] = []
        """What the browser and the page's script had to say: errors, and what the page's policy forbids."""

    async def call(self, method: str, **values: Any) -> Any:
        """Ask the browser for something, and return the answer."""
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": values})
        async with asyncio.timeout(SECONDS):
            while True:
                message = await self._socket.receive_json()
                if message.get("id") == self._number:
                    assert "error" not in message, message
                    return message["result"]
                self._note(message)

    def _note(self, event: dict[str, Any]) -> None:
        if event.get("method") == "Log.entryAdded":
            self.complaints.append(event["params"]["entry"]["text"])
        if event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(event["params"]["exceptionDetails"]))

    async def open(self, url: str) -> None:
        """Go there, and wait until the page is there."""
        await self.call("Page.navigate", url=url)
        await self.wait_for(f"location.href.startsWith({url!r}) && document.readyState === 'complete'")

    async def value(self, expression: str) -> Any:
        """What an expression of JavaScript is, in the page."""
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def wait_for(self, expression: str) -> None:
        """Wait until an expression is true."""
        async with asyncio.timeout(SECONDS):
            while not await self.value(expression):  # noqa: ASYNC110 - it is in another process
                await asyncio.sleep(_AGAIN_SECONDS)

    async def picture(self) -> bytes:
        """The page as a PNG."""
        return base64.b64decode((await self.call("Page.captureScreenshot", captureBeyondViewport=True))["data"])


@asynccontextmanager
async def chromium(folder: Path) -> AsyncIterator[Tab]:
    """A tab for the length of a block."""
    assert CHROMIUM is not None
    quiet = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1280,1500")
    command = [CHROMIUM, *quiet, f"--user-data-dir={folder / 'profile'}", "--remote-debugging-port=0", "about:blank"]
    with Child(command) as child:
        line = await asyncio.to_thread(child.errors.wait_for, "DevTools listening on ws://", SECONDS)
        port = line.rpartition("ws://")[2].partition("/")[0]
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://{port}/json/list") as answer:
                pages = [one for one in await answer.json() if one["type"] == "page"]
            async with session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                tab = Tab(socket)
                for part in ("Page", "Runtime", "Log"):
                    await tab.call(f"{part}.enable")
                yield tab
                await tab.call("Browser.close")
        await asyncio.to_thread(child.wait, SECONDS)
