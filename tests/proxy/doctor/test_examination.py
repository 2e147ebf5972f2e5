"""One check after the other, none without its ground, none for ever."""

import asyncio

import pytest

from kveil.protocol.kafka.errors import FrameError
from kveil.proxy.doctor import examination
from kveil.proxy.doctor.examination import Check, Listener, examine
from kveil.proxy.doctor.findings import Level, failure, ok, warning
from kveil.proxy.errors import QuestionFailed


class Told:
    """What the user sees, in its order."""

    def __init__(self):
        self.lines = []
        self.heard = asyncio.Event()
        self.listener = Listener(found=lambda finding: self._note(finding.check), waiting=self._waiting)

    def _note(self, text):
        self.lines.append(text)

    def _waiting(self, check):
        self._note(f"still {check}")
        self.heard.set()


def check(name, *found, needs=(), error=None, seconds=20.0):
    async def look():
        if error is not None:
            raise error
        return found

    return Check(name=name, look=look, seconds=seconds, needs=needs)


async def run(*checks):
    told = Told()
    return await examine(checks, told.listener), told


async def test_all_findings_come_in_order():
    found, told = await run(check("a", ok("a", "1"), warning("a2", "2", "x")), check("b", ok("b", "3"), needs=("a",)))
    assert [finding.what for finding in found] == ["1", "2", "3"]
    assert told.lines == ["a", "a2", "b"]


async def test_what_depends_on_a_failed_one_is_skipped_and_says_why():
    """Through any number of checks, and it is the first that is named. Others go on."""
    found, _ = await run(
        check("a", failure("a", "broken", "mend it")),
        check("b", ok("b", "fine"), needs=("a",)),
        check("c", ok("c", "fine"), needs=("b",)),
        check("d", ok("d", "fine")),
    )
    assert [finding.level for finding in found] == [Level.FAILURE, Level.SKIPPED, Level.SKIPPED, Level.OK]
    assert [finding.what for finding in found[1:3]] == ["not looked at, because of what was found at a"] * 2


async def test_a_warning_stops_nothing():
    found, _ = await run(check("a", warning("a", "hm", "x")), check("b", ok("b", "fine"), needs=("a",)))
    assert found[1].level is Level.OK


@pytest.mark.parametrize("error", [QuestionFailed("the broker says no"), FrameError("the broker says no")])
async def test_what_the_broker_says_is_a_failure_and_the_rest_goes_on(error):
    found, _ = await run(check("a", error=error), check("b", ok("b", "fine")))
    assert (found[0].level, found[0].check, found[0].what) == (Level.FAILURE, "a", "the broker says no")
    assert found[0].remedy
    assert found[1].level is Level.OK


async def test_a_fault_of_our_own_is_not_called_a_finding():
    with pytest.raises(ZeroDivisionError):
        await run(check("a", error=ZeroDivisionError()))


async def test_none_takes_for_ever():
    ended = asyncio.Event()

    async def hang():
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    found, told = await run(Check(name="a", look=hang, seconds=0.01), check("b", ok("b", "fine")))
    assert (found[0].level, found[0].what) == (Level.FAILURE, "there was no result within 0.01 s")
    assert ended.is_set()
    assert told.lines == ["a", "b"]


async def test_what_takes_its_time_is_told_meanwhile(monkeypatch):
    monkeypatch.setattr(examination, "QUIET_SECONDS", 0.0)
    told = Told()

    async def slow():
        await told.heard.wait()
        return [ok("a", "fine")]

    await examine([Check(name="a", look=slow, seconds=20)], told.listener)
    assert told.lines == ["still a", "a"]


async def test_what_is_quick_is_not_told_of():
    _, told = await run(check("a", ok("a", "fine")))
    assert told.lines == ["a"]
