"""One check after the other: each has a deadline, and none is made whose ground another one has found to be missing."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from kveil.protocol.kafka.errors import ProtocolError
from kveil.proxy.doctor.findings import Finding, Level, failure, skipped, worst
from kveil.proxy.errors import QuestionFailed

QUIET_SECONDS: Final = 2.0
"""What takes longer is told while it runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Something to look at. `needs` names checks that must not have failed."""

    name: str
    look: Callable[[], Awaitable[Sequence[Finding]]]
    seconds: float
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Who is told as it goes on: each finding, and the name of a check that takes its time."""

    found: Callable[[Finding], None]
    waiting: Callable[[str], None]


async def examine(checks: Sequence[Check], listener: Listener) -> list[Finding]:
    """Make the checks in their order, and return all findings."""
    findings: list[Finding] = []
    missing: dict[str, str] = {}
    for check in checks:
        ground = next((missing[name] for name in check.needs if name in missing), None)
        if ground is None:
            found = await _look(check, listener)
            if worst(found) is Level.FAILURE:
                missing[check.name] = check.name
        else:
            found = [skipped(check.name, f"not looked at, because of what was found at {ground}")]
            missing[check.name] = ground
        for finding in found:
            listener.found(finding)
        findings += found
    return findings


async def _look(check: Check, listener: Listener) -> Sequence[Finding]:
    telling = asyncio.get_running_loop().call_later(QUIET_SECONDS, listener.waiting, check.name)
    try:
        async with asyncio.timeout(check.seconds):
            return await check.look()
    except TimeoutError:
        remedy = "see whether something on the way there is slow or drops packets, and try again"
        return [failure(check.name, f"there was no result within {check.seconds:g} s", remedy)]
    except (QuestionFailed, ProtocolError) as error:
        return [failure(check.name, str(error), "mend what it says, and try again")]
    finally:
        telling.cancel()
