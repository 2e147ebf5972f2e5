"""Worker processes: what a fork leaves behind, how they end, and how soon they are started again."""

import os
import select
import signal

import pytest

from kveil.proxy.workers.channel import Channel
from kveil.proxy.workers.processes import LONGEST_DELAY_SECONDS, STEADY_SECONDS, Backoff, fork_worker


def nothing():
    """Nothing is left behind."""


@pytest.fixture
def forked():
    found = []

    def fork(run, leave_behind=nothing):
        found.append(fork_worker(7, run, leave_behind))
        return found[-1]

    yield fork
    for worker in found:
        if worker.channel.fileno() >= 0:
            worker.kill()
            worker.reap()


def said(worker):
    """The first message of a worker."""
    assert select.select([worker.channel], [], [], 10)[0]
    return worker.channel.receive()[0]


def until_end(_number, sock):
    select.select([sock], [], [])
    return 0


def test_its_number_its_channel_and_its_exit_code(forked):
    def run(number, sock):
        Channel(sock).send("ready", number=number, pid=os.getpid())
        return 3

    worker = forked(run)
    assert said(worker).values == {"number": 7, "pid": worker.pid}
    assert worker.reap() == 3


def test_one_that_crashes(forked, capfd):
    def run(_number, _sock):
        raise RuntimeError("a defect")

    assert forked(run).reap() == 1
    assert "a defect" in capfd.readouterr().err


def test_one_that_is_killed(forked):
    worker = forked(until_end)
    worker.kill()
    assert worker.reap() == -signal.SIGKILL


def test_the_end_of_the_channel_tells_of_the_parent(forked):
    assert forked(until_end).reap() == 0  # which closes the channel first


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_the_parents(forked, number):
    """Also those that came to the whole group while it was starting."""

    def run(_number, sock):
        os.kill(os.getpid(), number)
        Channel(sock).send("ready")
        return until_end(_number, sock)

    worker = forked(run)
    said(worker)
    os.kill(worker.pid, number)
    assert worker.reap() == 0
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


def test_what_is_left_behind(forked):
    near, far = os.pipe()

    def leave():
        os.close(far)

    worker = forked(until_end, leave)
    os.close(far)
    assert os.read(near, 1) == b""  # nobody holds the other end
    os.close(near)
    worker.reap()


def test_backoff_grows_to_its_limit():
    backoff = Backoff()
    delays = [backoff.after(0.0) for _ in range(12)]
    assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert max(delays) == delays[-1] == LONGEST_DELAY_SECONDS


def test_backoff_begins_anew_for_one_that_lived():
    backoff = Backoff()
    for _ in range(12):
        backoff.after(1.0)
    assert [backoff.after(STEADY_SECONDS), backoff.after(0.0)] == [0.1, 0.2]
