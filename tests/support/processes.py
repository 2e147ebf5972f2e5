"""Child processes that are read line by line, awaited by event, and never left behind."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import Self

TETHER = Path(__file__).with_name("tether.py")
STOP_SECONDS = 30.0

# Linux ties a child to the thread that started it, not to the process. A test may start a broker in a thread
# that ends early, so all children come from one thread that lives as long as the interpreter.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="child-starter")


class ChildFailedError(RuntimeError):
    """A child process ended or stayed silent where it should have said something."""


def tethered(command: Sequence[str]) -> list[str]:
    """The same command, as one that dies with this process."""
    return [sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), *command]


def run(
    command: Sequence[str],
    *,
    stdin: str | None = None,
    timeout: float = 120.0,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; the caller judges its exit code."""
    started = _starter.submit(
        lambda: subprocess.Popen(
            tethered(command),
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",  # a direct consumer of a sealed topic prints ciphertext
            env=environment,
            cwd=cwd,
        )
    )
    with started.result() as child:
        try:
            out, err = child.communicate(stdin, timeout=timeout)
        except BaseException:
            child.kill()
            raise
    return subprocess.CompletedProcess(list(command), child.returncode, out, err)


class Lines:
    """The lines of one stream, collected by a thread so that the child never blocks on a full pipe."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._ended = False
        self._changed = threading.Condition()

    def follow(self, stream: Iterable[str], copy_to: Path | None = None) -> None:
        """Read until the stream ends."""
        try:
            with copy_to.open("a", buffering=1) if copy_to else nullcontext() as copy:
                for line in stream:
                    if copy:
                        copy.write(line)
                    self.add(line.rstrip("\n"))
        finally:
            self.end()

    def add(self, line: str) -> None:
        """Take one line and wake whoever waits for it."""
        with self._changed:
            self._lines.append(line)
            self._changed.notify_all()

    def end(self) -> None:
        """Say that no line follows."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def so_far(self) -> list[str]:
        """What has been said up to now."""
        with self._changed:
            return list(self._lines)

    def read(self, timeout: float) -> Iterator[str]:
        """Give line after line, from the first, until the stream ends or the time is up for all of them."""
        deadline = time.monotonic() + timeout
        at = 0
        while self._has(at, deadline):
            yield self._lines[at]
            at += 1

    def _has(self, at: int, deadline: float) -> bool:
        with self._changed:
            left = max(deadline - time.monotonic(), 0.0)
            self._changed.wait_for(lambda: len(self._lines) > at or self._ended, left)
            if len(self._lines) <= at and not self._ended:
                raise TimeoutError(f"no further line in time; so far: {self._lines[-20:]}")
            return len(self._lines) > at

    def read_until(self, last: str, timeout: float) -> Iterator[str]:
        """Give line after line, from the first, up to the one that is this text."""
        for line in self.read(timeout):
            if line == last:
                return
            yield line
        raise ChildFailedError(f"ended without saying {last!r}:\n" + "\n".join(self.so_far()[-40:]))

    def wait_for(self, text: str, timeout: float) -> str:
        """Wait for a line that contains the text."""
        for line in self.read(timeout):
            if text in line:
                return line
        raise ChildFailedError(f"ended without saying {text!r}:\n" + "\n".join(self.so_far()[-40:]))


class Child:
    """A running child process. Leaving its `with` block ends it."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log_path: Path | None = None,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """Start it; with a log path, both streams go to `lines` and are copied there."""
        self.lines = Lines()
        self.errors = Lines()
        self._popen: subprocess.Popen[str] = _starter.submit(
            lambda: subprocess.Popen(
                tethered(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if log_path else subprocess.PIPE,
                text=True,
                errors="replace",  # a direct consumer of a sealed topic prints ciphertext
                env=environment,
                cwd=cwd,
                start_new_session=True,  # Ctrl-C in a terminal is for us: we end our children in order
            )
        ).result()
        self._readers = [threading.Thread(target=self.lines.follow, args=(self._popen.stdout, log_path))]
        if self._popen.stderr:
            self._readers.append(threading.Thread(target=self.errors.follow, args=(self._popen.stderr,)))
        for reader in self._readers:
            reader.daemon = True
            reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._popen.poll()

    def write_line(self, line: str) -> None:
        """Type one line into it."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(line + "\n")
        self._popen.stdin.flush()

    def close_stdin(self) -> None:
        """Say that no input follows."""
        assert self._popen.stdin is not None
        self._popen.stdin.close()

    def wait(self, timeout: float) -> int:
        """Wait until it has ended by itself and all it said has been read."""
        code = self._popen.wait(timeout)
        self._finish()
        return code

    def stop(self, timeout: float = STOP_SECONDS) -> int:
        """Ask it to end (SIGTERM), and kill it when it doesn't."""
        self._popen.terminate()
        try:
            return self.wait(timeout)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """End it at once."""
        self._popen.kill()
        self._popen.wait()
        self._finish()
        return self._popen.returncode

    def _finish(self) -> None:
        for reader in self._readers:
            reader.join(STOP_SECONDS)
        for stream in (self._popen.stdout, self._popen.stderr):
            if stream:
                stream.close()
        if self._popen.stdin and not self._popen.stdin.closed:
            with contextlib.suppress(BrokenPipeError):  # it ended with input unread
                self._popen.stdin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.exit_code is None:
            self.kill()
        else:
            self._finish()
