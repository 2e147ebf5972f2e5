"""The workers as the parent keeps them."""

import os
import select
import selectors
import signal

import pytest

from kveil.proxy.workers import channel as channel_module
from kveil.proxy.workers.channel import Channel
from kveil.proxy.workers.crew import Crew
from tests.support.waiting import wait_until


@pytest.fixture
def lost():
    """Workers that have ended, with their exit codes."""
    return []


@pytest.fixture
def crew(lost):
    def run(number, sock):
        channel = Channel(sock)
        channel.send("ready", number=number)
        while not channel.is_closed:
            select.select([channel], [], [])
            if any(message.kind == "drain" for message in channel.receive()):
                return 0
        return 4

    def is_replaced(worker, code):
        lost.append((worker.number, code))
        return True

    heard = []
    with selectors.DefaultSelector() as selector:
        made = Crew(
            selector,
            run,
            hear=lambda worker, _: heard.append(worker.number),
            lost=is_replaced,
            leave_behind=selector.close,
        )
        made.selector, made.heard = selector, heard
        yield made
        made.end()


def turn(crew, until):
    """Let the crew's loop run until something is so."""
    while not until():
        for key, _ in crew.selector.select(5):
            key.data()
        crew.watch_waiting()


def has_ended(pid):
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def test_no_worker_holds_the_channel_of_another(crew):
    """Else one that hangs would keep the others from noticing that the parent is gone."""
    first, second = crew.start(1), crew.start(2)
    turn(crew, lambda: len(crew.heard) == 2)
    os.kill(second.pid, signal.SIGSTOP)
    crew.selector.unregister(first.channel)
    first.channel.close()
    wait_until(lambda: has_ended(first.pid), 5)


def test_one_that_died_is_due_after_a_while(crew, lost):
    worker = crew.start(1)
    worker.kill()
    turn(crew, lambda: lost)
    assert (lost, crew.workers) == ([(1, -signal.SIGKILL)], [])
    (when,) = crew.next_look()
    assert crew.due(when - 0.01) == []
    assert crew.due(when) == [1]
    assert (crew.due(when), crew.next_look()) == ([], [])


def test_none_is_started_again_after_draining(crew, lost):
    crew.start(1).kill()
    turn(crew, lambda: lost)
    crew.start(2)
    crew.drain()
    assert crew.next_look() == []
    turn(crew, lambda: len(lost) == 2)
    assert lost[1] == (2, 0)


def test_one_that_does_not_read_is_ended(crew, lost, monkeypatch):
    monkeypatch.setattr(channel_module, "MAX_WAITING_BYTES", 1_000_000)
    worker = crew.start(1)
    os.kill(worker.pid, signal.SIGSTOP)
    for _ in range(3):
        crew.send(worker, "drop", topics=["x" * 900_000])
    turn(crew, lambda: lost)
    assert lost == [(1, -signal.SIGKILL)]


def test_one_that_reports_no_more_is_ended(crew, lost):
    """Only one that had reported: to start may take as long as it takes."""
    hanging, starting = crew.start(1), crew.start(2)
    turn(crew, lambda: len(crew.heard) == 2)
    os.kill(hanging.pid, signal.SIGSTOP)
    hanging.looks_since_report = 0
    crew.kill_silent(2)
    crew.kill_silent(2)
    assert not has_ended(hanging.pid)
    crew.kill_silent(2)
    turn(crew, lambda: lost)
    assert lost == [(1, -signal.SIGKILL)]
    assert crew.workers == [starting]
