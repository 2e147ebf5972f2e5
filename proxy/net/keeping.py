"""A keeper at work: it follows the control topic, and hands on what is missing."""

import asyncio
from collections.abc import Callable
from typing import Final

from kveil.proxy.config import Settings
from kveil.proxy.identity.control import Control
from kveil.proxy.identity.regranting import regrant_missing
from kveil.proxy.keys.errors import KeyDenied, KeyUnavailable
from kveil.proxy.net.control import control_topic

# Many records come together, and whoever joined waits for none of them in particular.
PAUSE_SECONDS: Final = 0.5
# A credential's time may begin without any record.
LOOK_SECONDS: Final = 60.0


async def keep(
    settings: Settings, control: Control, stopping: asyncio.Event, tell: Callable[[int | str], None]
) -> None:
    """Go on until told to stop. `tell` hears how many regrants were made, or why none could be.

    :raises IdentityError: the topic can't be read at the start.
    """
    changed = asyncio.Event()
    control.when_changed = changed.set
    stopped = asyncio.create_task(stopping.wait())
    async with control_topic(settings, control) as log:
        control.log = log
        while not stopping.is_set():
            changed.clear()
            control.look()
            try:
                if made := await regrant_missing(control):
                    tell(made)
            except (KeyDenied, KeyUnavailable) as error:
                tell(str(error))
            woken = asyncio.create_task(changed.wait())
            await asyncio.wait({woken, stopped}, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            woken.cancel()
            await asyncio.wait({stopped}, timeout=PAUSE_SECONDS)
    stopped.cancel()


async def keep_once(settings: Settings, control: Control) -> int:
    """Make what is missing now, and return how many regrants that took.

    :raises IdentityError: the topic can't be read, or written.
    :raises KeyDenied: this node is no keeper.
    """
    async with control_topic(settings, control) as log:
        control.log = log
        return await regrant_missing(control)
