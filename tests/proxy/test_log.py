"""Log lines: their form, their level, what is redacted, and how repeats are held back."""

import io
import json
from collections.abc import Iterator

import pytest
import structlog

from kveil.proxy import log
from kveil.proxy.log import RepeatLimit, get_logger, log_limited, redact
from kveil.proxy.secret import Secret


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_in_json(stream):
    log.configure("json", "info", stream)
    get_logger("kveil.proxy.net").info("listening", address="127.0.0.1:5000", port=5000)
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "listening",
        "level": "info",
        "module": "proxy.net",
        "address": "127.0.0.1:5000",
        "port": 5000,
    }


def test_auto_is_json_without_a_terminal_and_console_with_one(stream):
    log.configure("auto", "info", stream)
    get_logger("x").info("happened")
    assert lines(stream)[0]["event"] == "happened"
    terminal = Terminal()
    log.configure("auto", "info", terminal)
    get_logger("x").info("happened")
    assert "\x1b[" in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")


def test_console_without_a_terminal_has_no_colours(stream):
    log.configure("console", "info", stream)
    get_logger("x").info("happened")
    assert "happened" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_the_level_holds_back_what_is_less_severe(stream, level, expected):
    log.configure("json", level, stream)
    logger = get_logger("x")
    for method in ("debug", "info", "warning", "error"):
        getattr(logger, method)("happened")
    assert [line["level"] for line in lines(stream)] == expected


def test_a_logger_that_was_made_before_takes_up_the_configuration(stream):
    logger = get_logger("x")
    log.configure("json", "error", stream)
    logger.warning("hidden")
    log.configure("json", "info", stream)
    logger.warning("shown")
    assert [line["event"] for line in lines(stream)] == ["shown"]


@pytest.mark.parametrize("style", ["json", "console"])
def test_no_secret_and_no_bytes_are_shown(stream, style):
    log.configure(style, "info", stream)
    get_logger("x").info(
        "happened",
        password=Secret(b"hunter2"),
        record=b"hunter2",
        nested={"a": [Secret(b"hunter2"), bytearray(b"hunter2")], b"hunter2": memoryview(b"hunter2")},
    )
    assert "hunter2" not in stream.getvalue()
    assert "<7 bytes>" in stream.getvalue()


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_traceback_shows_no_variables(stream, style):
    log.configure(style, "info", stream)

    def fail(key: bytes) -> None:
        text = key.decode()
        assert text
        msg = "broken"
        raise RuntimeError(msg)

    try:
        fail(bytes.fromhex("68756e74657232"))
    except RuntimeError:
        get_logger("x").exception("failed")
    assert "RuntimeError: broken" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, 5),
        (1.5, 1.5),
        (True, True),
        (None, None),
        ("text", "text"),
        (b"", "<0 bytes>"),
        ((1, b"ab"), [1, "<2 bytes>"]),
        ({1: {2: b"x"}}, {"1": {"2": "<1 bytes>"}}),
        (ValueError("reason"), "reason"),
    ],
)
def test_what_is_made_of_a_value(value, expected):
    assert redact(value) == expected


def test_a_value_that_holds_itself_ends_somewhere():
    loop: list[object] = []
    loop.append(loop)
    assert "..." in repr(redact(loop))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_of_many_like_lines_one_goes_through_and_counts_the_others():
    clock = Clock()
    limit = RepeatLimit(seconds=10, clock=clock)
    assert [limit.admit("a") for _ in range(4)] == [0, None, None, None]
    assert limit.admit("b") == 0
    clock.now += 9.9
    assert limit.admit("a") is None
    clock.now += 0.1
    assert limit.admit("a") == 4
    assert limit.admit("a") is None


def test_the_memory_for_repeats_is_bounded():
    limit = RepeatLimit(seconds=10, entries=100, clock=Clock())
    for number in range(1000):
        assert limit.admit(number) == 0
    assert len(limit._held) == 100
    assert limit.admit(999) is None


def test_a_limited_line_says_how_many_were_held_back(stream):
    log.configure("json", "info", stream)
    clock = Clock()
    limit = RepeatLimit(seconds=10, clock=clock)
    logger = get_logger("x")
    for offset in range(5):
        log_limited(logger.warning, "batch_refused", key=("t", 0), limit=limit, offset=offset)
    log_limited(logger.warning, "batch_refused", key=("t", 1), limit=limit, offset=9)
    log_limited(logger.warning, "other", key=("t", 0), limit=limit)
    clock.now += 10
    log_limited(logger.warning, "batch_refused", key=("t", 0), limit=limit, offset=5)
    found = [(line["event"], line.get("offset"), line.get("repeats")) for line in lines(stream)]
    assert found == [
        ("batch_refused", 0, None),
        ("batch_refused", 9, None),
        ("other", None, None),
        ("batch_refused", 5, 4),
    ]


def test_the_process_has_a_limit_of_its_own(stream):
    log.configure("json", "info", stream)
    for _ in range(3):
        log_limited(get_logger("x").warning, "only_in_this_test")
    assert len(lines(stream)) == 1


def test_a_value_on_every_line(stream, monkeypatch):
    monkeypatch.setattr(log, "_everywhere", {})
    log.configure("json", "info", stream)
    logger = get_logger("kveil.proxy.net")
    logger.info("listening")
    log.bind_everywhere(worker=2)
    logger.bind(connection=7).info("draining")
    assert [line.get("worker") for line in lines(stream)] == [None, 2]


def test_a_line_is_one_write():
    """So lines of several processes don't mix."""
    written = []

    class Out(io.StringIO):
        def write(self, text):
            written.append(text)
            return len(text)

    log.configure("json", "info", Out())
    get_logger("kveil.proxy.net").info("listening")
    assert [text[-1] for text in written] == ["\n"]


def test_a_level_reaches_loggers_that_are_bound_already(stream):
    """Those of connections that are open."""
    log.configure("json", "info", stream)
    bound = get_logger("x").bind(connection=17)
    bound.debug("hidden")
    log.set_level("debug")
    bound.debug("shown")
    log.set_level("error")
    bound.warning("hidden")
    assert [line["event"] for line in lines(stream)] == ["shown"]
    assert log.level() == "error"
