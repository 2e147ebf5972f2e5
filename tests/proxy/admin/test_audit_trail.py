"""The trail: to every sink, held where that is required, drained at the end."""

import asyncio
import json
import os
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from kveil.proxy.admin import audit_trail
from kveil.proxy.admin.audit import audit
from kveil.proxy.admin.audit_sinks import QueuedSink
from kveil.proxy.admin.audit_trail import Trail, for_command
from kveil.proxy.config import Audit, AuditFile, ConfigError
from tests.support.cloudevents import events_in

SECONDS = 20.0


class Slow(QueuedSink):
    """A sink that hands on when the test says so."""

    def __init__(self, limit):
        super().__init__("topic", limit)
        self.may = asyncio.Event()
        self.taken = []

    async def run(self):
        while True:
            await self.may.wait()
            while self.waiting:
                self.taken.append(self.waiting.popleft())
            self.went_well()
            self.changed()
            await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def impatient(monkeypatch, fresh_log_limits):
    monkeypatch.setattr(audit_trail, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(audit_trail, "START_SECONDS", 0.1)


@pytest.fixture
def folder(tmp_path):
    """Of the file; not there at first."""
    return tmp_path / "audit"


def settings(folder, **more):
    return Audit(**{"file": AuditFile(path=folder / "audit.log"), "log": False, "queue": 16, **more})


@asynccontextmanager
async def recorded(trail, topic=None, seconds=0.0):
    async with trail.recording(topic, lambda: seconds):
        yield


async def until(condition):
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def subjects(folder):
    return [event["subject"] for event in events_in((folder / "audit.log").read_text())]


class TestSinks:
    async def test_each_gets_every_event(self, folder):
        folder.mkdir()
        topic = Slow(16)
        topic.may.set()
        with capture_logs() as lines:
            async with recorded(Trail(settings(folder, log=True)), topic, SECONDS):
                event = audit("key.created", "orders", kid="00ff")
        assert [json.loads(line) for line in topic.taken] == [event]
        assert events_in((folder / "audit.log").read_text()) == [event]
        assert [line["cloudevent"] for line in lines] == [event]

    @pytest.mark.parametrize("log", [True, False])
    async def test_the_log_is_one_that_can_be_left_out(self, folder, log):
        with capture_logs() as lines:
            async with recorded(Trail(Audit(log=log))):
                audit("key.created", "orders")
        assert len(lines) == log

    async def test_standard_output_is_one(self, capfd):
        async with recorded(Trail(Audit(log=False, stdout=True))):
            event = audit("key.created", "orders")
        assert events_in(capfd.readouterr().out) == [event]

    async def test_afterwards_events_go_where_they_went(self, folder):
        folder.mkdir()
        async with recorded(Trail(settings(folder))):
            pass
        with capture_logs() as lines:
            audit("key.created", "orders")
        assert len(lines) == 1
        assert not (folder / "audit.log").exists()

    async def test_one_in_trouble_holds_up_no_other(self, folder):
        topic = Slow(16)
        topic.may.set()
        async with recorded(Trail(settings(folder)), topic):
            audit("key.created", "orders")
            await until(lambda: topic.taken)


class TestRequired:
    async def test_requests_are_held_while_a_sink_is_in_trouble(self, folder):
        served = []
        trail = Trail(settings(folder, required=True), lambda: served.append(trail.holds))
        async with recorded(trail):
            assert (trail.holds, trail.trouble) == (False, None)
            audit("key.created", "orders")
            assert trail.holds
            assert trail.trouble == "No such file or directory"
            folder.mkdir()
            await until(lambda: served)
            assert (served, trail.trouble) == ([False], None)
            assert subjects(folder) == ["orders"]

    async def test_and_while_one_is_half_full(self, folder):
        topic = Slow(16)
        trail = Trail(Audit(topic="t", required=True, queue=16, log=False))
        async with recorded(trail, topic):
            for _ in range(7):
                audit("key.created", "orders")
            assert not trail.holds
            audit("key.created", "orders")
            assert trail.holds
            assert trail.trouble == "8 events wait for the topic"
            topic.may.set()
            await until(lambda: not trail.holds)

    async def test_nobody_is_held_else(self, folder):
        trail = Trail(settings(folder))
        async with recorded(trail):
            for _ in range(30):
                audit("key.created", "orders")
            assert (trail.holds, trail.trouble) == (False, None)

    async def test_the_start_needs_every_sink(self, folder):
        trail = Trail(settings(folder, required=True))
        async with recorded(trail):
            audit("proxy.started", "sha256:00")
            with pytest.raises(ConfigError) as caught:
                await trail.check()
        (problem,) = caught.value.problems
        assert problem.path == "audit.file"
        assert problem.text == "takes no events, and audit.required is true: No such file or directory"
        assert caught.value.exit_code == 2

    async def test_the_start_waits_for_no_sink_else(self, folder):
        trail = Trail(settings(folder))
        async with recorded(trail):
            audit("proxy.started", "sha256:00")
            await trail.check()

    async def test_a_sink_that_is_only_slow_may_be_late_at_the_start(self):
        topic = Slow(16)
        trail = Trail(Audit(topic="t", required=True, log=False))
        async with recorded(trail, topic):
            audit("proxy.started", "sha256:00")
            with pytest.raises(ConfigError, match="it took none within"):
                await trail.check()
            asyncio.get_running_loop().call_later(0.02, topic.may.set)
            await trail.check()


class TestEnd:
    async def test_what_waits_is_handed_on(self):
        topic = Slow(16)
        async with recorded(Trail(Audit(topic="t", log=False)), topic, SECONDS):
            audit("proxy.stopped", "sha256:00")
            asyncio.get_running_loop().call_later(0.05, topic.may.set)
        assert len(topic.taken) == 1

    async def test_what_nobody_takes_is_counted_and_told(self):
        trail = Trail(Audit(topic="t", log=False))
        with capture_logs() as lines:
            async with recorded(trail, Slow(16)):
                audit("proxy.stopped", "sha256:00")
        assert [(line["event"], line["sink"], line["lost"]) for line in lines] == [("audit_events_lost", "topic", 1)]
        assert trail.samples()['kveil_audit_lost_total{sink="topic"}'] == 1


async def test_metrics(folder):
    trail = Trail(settings(folder))
    async with recorded(trail):
        for _ in range(20):
            audit("key.created", "orders")
        assert trail.samples() == {
            "kveil_audit_events_total": 20,
            'kveil_audit_waiting{sink="file"}': 16,
            'kveil_audit_lost_total{sink="file"}': 4,
        }


class TestCommands:
    def test_write_to_the_file_and_not_to_standard_output(self, folder, capfd):
        folder.mkdir()
        with for_command(settings(folder, stdout=True, topic="t")).recording_now():
            audit("key.rotated", "orders")
        assert subjects(folder) == ["orders"]
        assert capfd.readouterr().out == ""

    def test_do_nothing_without_a_file_that_is_required(self, folder):
        with pytest.raises(ConfigError, match=r"audit\.file: takes no events"):
            for_command(settings(folder, required=True))

    def test_tell_what_was_lost(self, folder):
        with capture_logs() as lines, for_command(settings(folder)).recording_now():
            audit("key.rotated", "orders")
        assert [line["event"] for line in lines] == ["audit_sink_failed", "audit_events_lost"]

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
    def test_that_root_runs_leave_the_file_to_the_folders_owner(self, folder):
        folder.mkdir()
        os.chown(folder, 1234, 1235)
        with for_command(settings(folder, required=True)).recording_now():
            audit("key.rotated", "orders")
        status = (folder / "audit.log").stat()
        assert (status.st_uid, status.st_gid) == (1234, 1235)
