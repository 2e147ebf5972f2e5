"""A keeper at work: it follows the control topic, and hands on what is missing."""

import asyncio
from collections.abc import Callable
from typing import Final

from kveil.proxy.context import Shared
from kveil.proxy.identity.control import Control
from kveil.proxy.identity.regranting import regrant_missing
from kveil.proxy.keys.errors import KeyDenied, KeyUnavailable
from kveil.proxy.net.following import following_control

# Many records come together, and whoever joined waits for none of them in particular.
PAUSE_SECONDS: Final = 0.5
# A credential's time may begin without any record.
LOOK_SECONDS: Final = 60.0


async def keep(shared: Shared, control: Control, tell: Callable[[int | str], None], stopping: asyncio.Event) -> None:
    """Go on until told to stop. `tell` hears how many regrants were made, or why none could be."""
    changed = asyncio.Event()
    control.when_changed = changed.set
    stopped = asyncio.create_task(stopping.wait())
    async with following_control(shared, control) as log:
        control.log = log
        while not stopping.is_set():
            changed.clear()
            try:
                await _regrant(control, tell)
            except (KeyDenied, KeyUnavailable) as error:
                tell(str(error))
            woken = asyncio.create_task(changed.wait())
            await asyncio.wait({woken, stopped}, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            woken.cancel()
            await asyncio.wait({stopped}, timeout=PAUSE_SECONDS)
    stopped.cancel()


async def keep_once(shared: Shared, control: Control) -> int:
    """Make what is missing now, and return how many regrants that took. Raises KeyDenied or KeyUnavailable."""
    async with following_control(shared, control) as log:
        control.log = log
        await control.catch_up()
        return await regrant_missing(control)


async def _regrant(control: Control, tell: Callable[[int | str], None]) -> None:
    if not control.is_read:
        await control.catch_up()
    made = await regrant_missing(control)
    if made:
        tell(made)
