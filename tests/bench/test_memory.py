"""The most memory that is seen, and how many connections there can be."""

import threading

import pytest

from tests.bench import memory


def test_the_most_memory_is_seen(monkeypatch):
    sizes, looked = iter((5, 9, 7)), threading.Event()

    def resident(pid):
        size = next(sizes, None)
        if size is None:
            looked.set()
        return size or 0

    monkeypatch.setattr(memory, "resident_bytes", resident)
    watch = memory.Watch(1)
    with watch.running():
        assert looked.wait(10)
    assert watch.most == 9


class TestOpenFiles:
    """What the system gives is played."""

    @pytest.fixture
    def limits(self, monkeypatch):
        found = {"now": (1024, 4096)}
        monkeypatch.setattr(memory.resource, "getrlimit", lambda _: found["now"])
        monkeypatch.setattr(memory.resource, "setrlimit", lambda _, limits: found.update(now=limits))
        return found

    def test_are_raised_as_far_as_needed(self, limits):
        assert memory.connections_allowed(1_000) == 1_000
        assert limits["now"] == (2 * 1_000 + memory.OTHER_OPEN_FILES, 4096)

    def test_that_are_too_few_are_told(self, limits, capsys):
        assert memory.connections_allowed(5_000) == (4096 - memory.OTHER_OPEN_FILES) // 2
        assert limits["now"] == (4096, 4096)
        assert "4,096 open files" in capsys.readouterr().err

    def test_that_cant_be_raised_are_told(self, monkeypatch, limits, capsys):
        def refuse(*_):
            raise ValueError

        monkeypatch.setattr(memory.resource, "setrlimit", refuse)
        assert memory.connections_allowed(5_000) == (1024 - memory.OTHER_OPEN_FILES) // 2
        assert "1,024 open files" in capsys.readouterr().err
