"""Reloads of all workers: read once, tried out by one, taken up by all."""

import pytest

from kveil.proxy import log
from kveil.proxy.admin.overview import Overview
from kveil.proxy.config import ConfigError, Preset, Problem, Settings
from kveil.proxy.systemd import ServiceManager
from kveil.proxy.workers.channel import Message
from kveil.proxy.workers.processes import WorkerProcess
from kveil.proxy.workers.reloading import Reloading, packed, unpacked
from tests.support.service_manager import ServiceManagerSocket

OLD = Settings.model_validate({"upstream": {"bootstrap": ["a:1"]}, "workers": 2})
NEW = OLD.model_copy(update={"presets": (Preset.CONNECT,)})
PROBLEM = {"path": "keys", "text": "the key eu can't be used"}


@pytest.fixture(autouse=True)
def level_as_before():
    before = log.level()
    yield
    log.set_level(before)


class Crew:
    """Two workers, and what they were sent."""

    def __init__(self) -> None:
        self.workers = [WorkerProcess(number=number, pid=number, channel=None) for number in (1, 2)]  # type: ignore[arg-type]
        for worker in self.workers:
            worker.looks_since_report = 0
        self.sent: list[tuple[int, str]] = []
        self.settings: list[Settings] = []

    def send(self, worker, kind, **values):
        self.sent.append((worker.number, kind))
        if "settings" in values:
            self.settings.append(unpacked(values["settings"]))

    def send_all(self, kind, **values):
        for worker in self.workers:
            self.send(worker, kind, **values)


class Talk:
    """The parent's side, its crew, and what those who asked were told."""

    def __init__(self) -> None:
        self.crew = Crew()
        self.file: Settings | ConfigError = NEW
        self.overview = Overview(keeps_history=False)
        self.reloading = Reloading(OLD, self.read, self.crew, ServiceManager({}), self.overview)  # type: ignore[arg-type]
        self.answers: list[dict] = []

    def read(self) -> Settings:
        if isinstance(self.file, ConfigError):
            raise self.file
        return self.file

    def ask(self) -> None:
        self.reloading.begin(self.answers.append)

    def say(self, number: int, kind: str, *problems: dict) -> None:
        worker = self.crew.workers[number - 1]
        self.reloading.hear(worker, Message(kind, {"problems": list(problems)}, None))

    @property
    def is_failed(self) -> bool:
        return bool(self.overview.samples()["kveil_config_reload_failed"])


@pytest.fixture
def talk() -> Talk:
    return Talk()


def test_tried_out_by_one_then_taken_up_by_all(talk):
    talk.ask()
    assert talk.crew.sent == [(1, "try_out")]
    assert talk.reloading.settings is OLD
    talk.say(1, "tried")
    assert talk.crew.sent[1:] == [(1, "reload"), (2, "reload")]
    assert talk.crew.settings == [NEW] * 3
    assert talk.reloading.settings is NEW  # a worker that starts from now on begins with them
    talk.say(1, "reloaded")
    assert talk.answers == []
    talk.say(2, "reloaded")
    assert talk.answers == [{"changed": ["presets"], "problems": []}]
    assert not talk.is_failed


def test_what_the_parent_refuses_no_worker_hears_of(talk):
    talk.file = ConfigError([Problem(path="topics[0].seal", text="is wrong")])
    talk.ask()
    assert talk.crew.sent == []
    assert talk.answers[0]["problems"] == [{"path": "topics[0].seal", "text": "is wrong"}]
    assert talk.is_failed
    assert talk.reloading.settings is OLD


def test_what_one_refuses_the_others_do_not_take_up(talk):
    talk.ask()
    talk.say(1, "tried", PROBLEM)
    assert talk.crew.sent == [(1, "try_out")]
    assert talk.answers == [{"changed": [], "problems": [PROBLEM]}]
    assert talk.reloading.settings is OLD


def test_one_that_cannot_after_all_says_so(talk):
    talk.ask()
    talk.say(1, "tried")
    talk.say(1, "reloaded")
    talk.say(2, "reloaded", PROBLEM)
    (answer,) = talk.answers
    assert answer["problems"] == [{"path": "keys", "text": "worker 2: the key eu can't be used"}]
    assert talk.is_failed


def test_one_that_ends_while_it_tries(talk):
    talk.ask()
    talk.reloading.lost(talk.crew.workers[0])
    assert "has ended" in talk.answers[0]["problems"][0]["text"]
    talk.say(1, "tried")  # too late, or another one with its number
    assert talk.reloading.settings is OLD


def test_one_that_ends_while_it_reloads_is_not_waited_for(talk):
    """The one that takes its place has the new settings already."""
    talk.ask()
    talk.say(1, "tried")
    talk.reloading.lost(talk.crew.workers[1])
    talk.say(1, "reloaded")
    assert talk.answers == [{"changed": ["presets"], "problems": []}]


def test_nobody_to_try_it_out(talk):
    """As at the start, when it must not look to a service manager as if it were ready."""
    with ServiceManagerSocket() as heard:
        talk.reloading._manager = ServiceManager(heard.environment)
        try_with_no_worker(talk)
        assert heard.rest() == []


def try_with_no_worker(talk):
    for worker in talk.crew.workers:
        worker.looks_since_report = None
    talk.ask()
    assert "no worker is there" in talk.answers[0]["problems"][0]["text"]


def test_who_asks_meanwhile_gets_one_of_their_own(talk):
    """The file may have changed since the first was read. They share it."""
    talk.ask()
    talk.ask()
    talk.ask()
    talk.say(1, "tried")
    talk.file = OLD
    for number in (1, 2):
        talk.say(number, "reloaded")
    assert len(talk.answers) == 1
    assert talk.crew.sent[-1] == (1, "try_out")
    talk.say(1, "tried")
    for number in (1, 2):
        talk.say(number, "reloaded")
    assert [answer["changed"] for answer in talk.answers] == [["presets"]] * 3
    assert talk.reloading.settings is OLD


def test_without_anybody_who_asks(talk):
    """SIGHUP."""
    talk.reloading.begin()
    talk.say(1, "tried")
    for number in (1, 2):
        talk.say(number, "reloaded")
    assert talk.reloading.settings is NEW


def test_the_level_goes_to_all(talk):
    log.set_level("info")
    assert talk.reloading.change_level("error")["changed"] == ["log.level"]
    assert talk.crew.sent == [(1, "level"), (2, "level")]
    assert log.level() == "error"
    assert talk.reloading.change_level("loud")["problems"]
    assert len(talk.crew.sent) == 2


def test_settings_arrive_as_they_were():
    full = Settings.model_validate(
        {
            "upstream": {"bootstrap": ["a:1"], "proxy": "socks5://u@p:1", "proxy_password": "env:HOME"},
            "listeners": [{"address": "[::1]:5000", "allow": ["10.0.0.0/8"], "nodes": {7: 9000}}],
            "topics": [{"match": "t", "plain_before": {0: 5}, "key": "vault:{topic}"}, {"match": "p", "seal": "none"}],
            "skip": ["orders/0/1-2"],
        }
    )
    assert unpacked(packed(full)) == full
