"""What README.md and docs/tutorial.md tell a newcomer to type, in that order, with a real broker and its tools."""

import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.jvm import java_command
from tests.support.kafka import Cluster
from tests.support.pages import ROOT, Block, Shell, blocks
from tests.support.ports import reserved_port_range
from tests.support.processes import Child, run
from tests.support.start_up_cache import ensure_start_up_cache

PORTS = 101
SECONDS = 60.0
INSTALL_SECONDS = 300.0
PAGE = ROOT / "docs" / "tutorial.md"
TUTORIAL = list(blocks(PAGE))
QUICK_START = [block for block in blocks(ROOT / "README.md") if block.section == "Use it"][:2]
TOOLS = {
    "kafka-topics": "TopicCommand",
    "kafka-console-producer": "ConsoleProducer",
    "kafka-console-consumer": "consumer.ConsoleConsumer",
    "kafka-log-dirs": "LogDirsCommand",
}
OTHERS_BROKERS = ("docker-compose ", "T=", "/opt/kafka/bin/")
"""Begin the lines that start and stop a broker: this one is the tests'."""
SEALED = "c5 4b 56 01 01 01"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of this repository, without what was built in it."""
    folder = tmp_path_factory.mktemp("clone") / "kveil"
    folder.mkdir()
    leave = shutil.ignore_patterns("__pycache__", "*.so", "*.c")
    for name in ("proxy", "protocol", "deploy"):
        shutil.copytree(ROOT / name, folder / name, ignore=leave)
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kafka's bin directory, with and without `.sh`, as its download and packages of it have the names."""
    ensure_start_up_cache()
    folder = tmp_path_factory.mktemp("bin")
    for name, main_class in TOOLS.items():
        command = shlex.join(java_command(f"org.apache.kafka.tools.{main_class}"))
        for path in (folder / name, folder / f"{name}.sh"):
            path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
            path.chmod(0o755)
    return folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the commands run: a clone, the tools, and ports that are free in the place of 5000 and 9092."""

    clone: Path
    port: int
    broker: str
    environment: dict[str, str]
    installed: list[str]
    """What was typed to get there."""

    def here(self, line: str) -> str:
        return line.replace("localhost:9092", self.broker).replace("localhost:5000", f"localhost:{self.port}")

    def shell(self) -> Shell:
        return Shell(self.environment, self.clone)

    def start(self, line: str) -> Child:
        """What stays in a shell of its own, on another port, as the tutorial has it for one that is taken."""
        assert line.startswith("kveil run ")
        command = f"exec {self.here(line)} --listen 127.0.0.1:{self.port}"
        return Child(["bash", "-c", command], environment=self.environment, cwd=self.clone)


@pytest.fixture(scope="module")
def place(clone: Path, tools: Path, kafka: Cluster) -> Iterator[Place]:
    """With nothing of this environment but a `python3`, and Kveil installed as the tutorial says."""
    installing = lines_of("3. Keys, and the proxy")[:2]
    home = str(clone.parent)
    # Its own pip would take another from the network if it is told of by a variable.
    path = os.pathsep.join([str(Path(sys.executable).parent), str(tools), os.environ["PATH"]])
    kept = {name: text for name, text in os.environ.items() if name.startswith("PIP_") or name.endswith("_proxy")}
    environment = {**kept, "PATH": path, "HOME": home, "KVEIL_KEYS__PATH": f"{home}/default.json", "T": str(tools)}
    with Shell(environment, clone) as shell:
        for line in installing:
            shell.type(line, timeout=INSTALL_SECONDS)
            assert shell.code == 0, shell.errors.so_far()
        activated = shell.type("echo $PATH")[-1]
    assert activated.startswith(f"{clone}/try/bin:")
    with reserved_port_range(PORTS) as port:
        yield Place(
            clone=clone,
            port=port,
            broker=kafka.bootstrap,
            environment={**environment, "PATH": activated},
            installed=installing,
        )


def code_of(section: str) -> list[Block]:
    found = [block for block in TUTORIAL if block.section == section]
    assert found, f"the tutorial has no section {section!r}"
    return found


def lines_of(section: str) -> list[str]:
    """What is typed in a section."""
    lines = [line for block in code_of(section) if block.language == "sh" for line in block.lines]
    return [line for line in lines if not line.startswith(OTHERS_BROKERS)]


def shown_in(section: str, at: int = 0) -> list[str]:
    """What the section shows as the answer."""
    return list([block for block in code_of(section) if not block.language][at].lines)


def words(lines: list[str]) -> list[str]:
    return [line for line in lines if line]


def test_every_command_of_the_tutorial_is_typed_here():
    """Those of the first section set all of it up again: tests of the demo run them."""
    typed = {block.section[:3] for block in TUTORIAL if block.language == "sh"}
    assert typed == {f"{number}. " for number in range(2, 8)}
    assert code_of("1. See it at once")[0].lines == ["make demo KAFKA=real"]


def test_the_tutorial(place: Place, kafka: Cluster):
    with place.shell() as shell:

        def typed(line: str) -> list[str]:
            said = words(shell.type(place.here(line)))
            assert shell.code == 0, (line, shell.errors.so_far()[-20:])
            return said

        (create,) = lines_of("2. A broker")
        assert typed(create) == ["Created topic greetings."]
        *_, init, check, run = lines_of("3. Keys, and the proxy")
        assert typed(init) == shown_in("3. Keys, and the proxy")
        assert typed(check) == [place.here(line) for line in shown_in("3. Keys, and the proxy", 1)]
        with place.start(run) as proxy:
            proxy.errors.wait_for('"listening"', SECONDS)
            produce, consume = lines_of("4. Write and read, as ever")
            typed(produce)
            hello = shown_in("4. Write and read, as ever")
            assert typed(consume) == hello[:-1]
            assert hello[-1] in shell.errors.so_far()
            look, where, count, usage, inspect = lines_of("5. Look at what the broker has")
            assert typed(look)[0].split(maxsplit=1)[1].startswith(SEALED)
            assert f"`{SEALED}`" in PAGE.read_text()
            described = json.loads(next(line for line in typed(where) if line.startswith("{")))
            folder = described["brokers"][0]["logDirs"][0]["logDir"]
            assert kafka.data_dirs[0] == Path(folder)
            assert words(shell.type(count.replace("LOGDIR", folder))) == ["0"]
            assert any(line.startswith("needed: keyfile:default version 1, ") for line in typed(usage))
            assert any("keyfile:default version 1" in line for line in typed(inspect)[1:])
            try_two_things(place, shell, proxy, typed)
            (delete,) = lines_of("7. Tidy up")
            typed(delete)
            assert proxy.stop() == 0
        shell.close_stdin()
        assert shell.wait(SECONDS) == 0


def try_two_things(place: Place, shell: Shell, proxy: Child, typed) -> None:
    """Section 6. Its wait is a real one: the proxy looks at its key file when it seals, each five seconds at most."""
    rotate, sleep, produce, usage, consume, trust, refuse = lines_of("6. Two things to try")
    for line in (rotate, sleep, produce):
        typed(line)
    proxy.errors.wait_for("keys_reloaded", SECONDS)
    needed = [line for line in typed(usage) if line.startswith("needed: ")]
    assert [re.search(r"version (\d+)", line)[1] for line in needed] == ["1", "2"]
    assert typed(consume) == ["Hello, Ada", "Hello, Grace", "Hello, Edsger"]
    typed(trust)
    assert words(shell.type(place.here(refuse))) == ["Hello, Ada", "Hello, Grace", "Hello, Edsger"]
    refused = json.loads(proxy.errors.wait_for("batch_unopened", SECONDS))
    assert "no envelope" in refused["reason"]


def test_the_quick_start(place: Place, kafka: Cluster, topic: str):
    """README.md's own words, with the topic's name and the broker's."""
    kafka.create_topic(topic)
    (install, init, run), (produce, consume) = (block.lines for block in QUICK_START)
    assert install.partition("  ")[0] in place.installed
    produce, consume = (place.here(line).replace("--topic t", f"--topic {topic}") for line in (produce, consume))
    with place.shell() as shell:
        said = shell.type(init)
        assert shell.code == 0
        keys = Path(place.environment["KVEIL_KEYS__PATH"])
        assert said[0] == f"Made {keys}"
        assert keys.stat().st_mode & 0o777 == 0o600
        with place.start(run.partition("  ")[0].replace("broker:9092", kafka.bootstrap)) as proxy:
            proxy.errors.wait_for('"listening"', SECONDS)
            shell.type(produce, stdin="hello\nworld")
            assert shell.code == 0, shell.errors.so_far()
            with Child(["bash", "-c", f"exec {consume}"], environment=place.environment) as consumer:
                consumer.lines.wait_for("world", SECONDS)
                assert consumer.lines.so_far() == ["hello", "world"]
            assert proxy.stop() == 0
    assert b"hello" not in kafka.stored_bytes(topic)
    assert b"\xc5\x4b\x56" in kafka.stored_bytes(topic)


def test_only_what_it_needs_is_installed(place: Place):
    """The names of the wheel don't get in anyone's way, and no test tool came with it."""
    site = next((place.clone / "try" / "lib").glob("python*/site-packages"))
    installed = {path.name for path in site.iterdir()}
    assert "kveil" in installed
    assert not installed & {"proxy", "protocol", "tests", "confluent_kafka", "aiokafka", "pytest"}


def test_the_man_page_came_along(place: Place):
    """Where `man` looks for what is in `PATH`."""
    environment = place.clone / "try"
    page = environment / "share" / "man" / "man1" / "kveil.1"
    assert page.read_text() == (place.clone / "deploy" / "kveil.1").read_text()
    if shutil.which("man"):
        path = f"{environment}/bin:{os.environ['PATH']}"
        found = run(["man", "-w", "kveil"], environment=place.environment | {"PATH": path})
        assert found.stdout.strip() == str(page)
