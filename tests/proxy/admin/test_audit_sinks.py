"""Sinks take each event whole, keep what they can't hand on, and count what they can't keep."""

import fcntl
import json
import multiprocessing
import os
import resource
import stat
import threading

import pytest
from structlog.testing import capture_logs

from kveil.proxy.admin.audit_sinks import DirectSink, EventFile, write_stdout
from kveil.proxy.config import AuditFile

LINE = b'{"n":"0123456789"}\n'


def settings(path, **more):
    return AuditFile.model_construct(path=path, **{"max_bytes": 1000, "keep": 2, "group_readable": False, **more})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.log"


@pytest.fixture
def file(path):
    file = EventFile(settings(path))
    yield file
    file.close()


def names(folder):
    return sorted(each.name for each in folder.iterdir())


class TestFile:
    @pytest.mark.parametrize(("group", "mode"), [(False, 0o600), (True, 0o640)])
    def test_is_made_for_few(self, path, group, mode):
        file = EventFile(settings(path, group_readable=group))
        file.write(LINE)
        file.close()
        assert stat.S_IMODE(path.stat().st_mode) == mode

    def test_grows(self, path, file):
        file.write(LINE)
        file.close()
        file.write(LINE)
        assert path.read_bytes() == 2 * LINE

    def test_is_rotated_by_size(self, path):
        file = EventFile(settings(path, max_bytes=4 * len(LINE), keep=2))
        lines = [b'{"n":"%010d"}\n' % number for number in range(14)]
        for line in lines:
            file.write(line)
        file.close()
        assert names(path.parent) == ["audit.log", "audit.log.1", "audit.log.2"]
        kept = [path.with_name(name).read_bytes() for name in ("audit.log.2", "audit.log.1", "audit.log")]
        assert kept == [b"".join(lines[4:8]), b"".join(lines[8:12]), b"".join(lines[12:])]

    def test_may_keep_nothing_else(self, path):
        file = EventFile(settings(path, max_bytes=len(LINE), keep=0))
        for _ in range(3):
            file.write(LINE)
        file.close()
        assert names(path.parent) == ["audit.log"]
        assert path.read_bytes() == LINE

    def test_a_line_that_is_too_long_has_a_file_of_its_own(self, path):
        file = EventFile(settings(path, max_bytes=30))
        for line in (LINE, 3 * LINE.strip() + b"\n", LINE):
            file.write(line)
        file.close()
        assert [path.with_name(f"audit.log{end}").read_bytes() for end in (".2", ".1", "")][
            1
        ] == 3 * LINE.strip() + b"\n"

    def test_what_logrotate_moved_is_left(self, path, file):
        file.write(LINE)
        moved = path.rename(path.with_name("moved"))
        file.write(LINE)
        assert (path.read_bytes(), moved.read_bytes()) == (LINE, LINE)

    @pytest.mark.parametrize("mode", [0o644, 0o660, 0o640])
    def test_what_others_can_read_is_refused(self, path, file, mode):
        path.touch()
        path.chmod(mode)
        with pytest.raises(OSError, match="chmod 0600"):
            file.write(LINE)
        assert path.read_bytes() == b""

    def test_a_link_is_refused(self, path, file):
        path.symlink_to(path.with_name("elsewhere"))
        with pytest.raises(OSError, match="symbolic"):
            file.write(LINE)

    def test_what_is_no_file_is_refused(self, path, file):
        os.mkfifo(path, 0o600)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            with pytest.raises(OSError, match="not a file"):
                file.write(LINE)
        finally:
            os.close(reader)

    def test_who_locks_it_holds_nobody_up(self, path, file):
        path.touch(0o600)
        with path.open("rb") as other:
            fcntl.flock(other, fcntl.LOCK_SH)
            with pytest.raises(OSError, match="locked"):
                file.write(LINE)
        file.write(LINE)
        assert path.read_bytes() == LINE

    def test_where_there_is_no_room_no_half_line_stands(self, path, file):
        file.write(LINE)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(LINE) + 5, before[1]))  # as a full disk: a part is written
        try:
            with pytest.raises(OSError, match="no space"):
                file.write(LINE)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert path.read_bytes() == LINE
        file.write(LINE)
        assert path.read_bytes() == 2 * LINE

    def test_several_processes_lose_nothing(self, path):
        """While each of them rotates it."""
        count, each = 3, 300
        spawn = multiprocessing.get_context("spawn")
        workers = [spawn.Process(target=write_many, args=(str(path), number, each)) for number in range(count)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0] * count
        files = [path.with_name(name) for name in names(path.parent)]
        assert len(files) > 5
        assert all(len(one.read_bytes()) <= 200 for one in files)
        found = [json.loads(line) for one in files for line in one.read_text().splitlines()]
        assert sorted(found) == [[number, at] for number in range(count) for at in range(each)]


def write_many(path, number, count):
    from pathlib import Path

    file = EventFile(settings(Path(path), max_bytes=200, keep=100))
    sink = DirectSink("file", 1000, file.write)
    for at in range(count):
        sink.put(b"[%d, %d]\n" % (number, at))
    sink.retry()
    assert not sink.waiting


class TestStdout:
    def test_takes_lines(self):
        reader, writer = os.pipe()
        write_stdout(LINE, writer)
        os.close(writer)
        with os.fdopen(reader, "rb") as out:
            assert out.read() == LINE

    def test_who_does_not_read_holds_nobody_up(self):
        reader, writer = os.pipe()
        sink = DirectSink("stdout", 10_000, lambda line: write_stdout(line, writer))
        for _ in range(8_000):
            sink.put(LINE)
        assert sink.trouble == "whoever reads standard output is behind"
        assert sink.waiting
        found = []
        with os.fdopen(reader, "rb") as out:
            reading = threading.Thread(target=lambda: found.extend(out))
            reading.start()
            while sink.waiting:
                sink.retry()
            os.close(writer)
            reading.join()
        assert found == [LINE] * 8_000

    def test_a_reader_that_is_gone_is_trouble(self):
        reader, writer = os.pipe()
        os.close(reader)
        sink = DirectSink("stdout", 10, lambda line: write_stdout(line, writer))
        sink.put(LINE)
        os.close(writer)
        assert sink.trouble == "Broken pipe"
        assert list(sink.waiting) == [LINE]


class TestTrouble:
    """A sink whose file can't be opened for a while."""

    @pytest.fixture
    def folder(self, tmp_path):
        return tmp_path / "later"

    @pytest.fixture
    def sink(self, folder, fresh_log_limits):
        file = EventFile(settings(folder / "audit.log"))
        yield DirectSink("file", 16, file.write)
        file.close()

    def test_what_waits_is_written_in_its_order(self, sink, folder):
        for number in range(5):
            sink.put(b"%d\n" % number)
        assert sink.trouble == "No such file or directory"
        folder.mkdir()
        sink.put(b"5\n")
        assert not (folder / "audit.log").exists()  # it is tried again by `retry` alone
        sink.retry()
        assert (folder / "audit.log").read_bytes() == b"0\n1\n2\n3\n4\n5\n"
        assert (sink.trouble, sink.lost) == (None, 0)

    def test_what_finds_no_room_is_counted_and_told(self, sink, folder):
        with capture_logs() as lines:
            for number in range(20):
                sink.put(b"%d\n" % number)
        assert (len(sink.waiting), sink.lost) == (16, 4)
        assert [line["event"] for line in lines] == ["audit_sink_failed", "audit_events_lost"]
        assert lines[1]["log_level"] == "error"
        folder.mkdir()
        with capture_logs() as lines:
            sink.retry()
        assert (folder / "audit.log").read_text().split() == [str(number) for number in range(16)]
        assert [(line["event"], line["lost"]) for line in lines] == [("audit_sink_recovered", 4)]

    def test_half_full_is_told(self, sink):
        filling = []
        for _ in range(9):
            sink.put(LINE)
            filling.append(sink.is_filling)
        assert filling == [False] * 7 + [True] * 2
