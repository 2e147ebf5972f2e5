"""Every command in a code block of the documentation is run by a test, or the reason why not stands here.

The commands of commands.md, keys.md, operations.md and install.md that a host with a cluster can run are typed here, as
they stand there, in their order. ELSEWHERE has all others: which test runs them, or what they would need.
"""

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pytest
import yaml

from tests.support.admin_port import admin_port
from tests.support.kafka import Cluster
from tests.support.pages import ROOT, Shell, blocks
from tests.support.ports import reserved_port_range
from tests.support.processes import Child
from tests.support.proxy import BROKER_PORTS, KVEIL

SECONDS = 60.0
HERE = ("docs/commands.md", "docs/operations.md", "docs/keys.md", "docs/install.md")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "deploy").rglob("*.md"))]
TYPED_HERE = ("kveil ", "export ", "curl ", "install ", "cp ")
MACHINES_OWN = re.compile(r"(?:^|[\s=>])/(?:etc|opt|usr|var)/")


class Reason(StrEnum):
    """Why no test runs a command."""

    CLOUD = "needs an account of a cloud; tests make the same calls, to the service's stand-in or by its API"
    DOCKER = "needs Docker and images of a registry; test_image.py and test_compose.py do what they can"
    KUBERNETES = "needs a Kubernetes; test_kubernetes.py validates what is applied"
    MACHINE = "changes the machine it runs on, as root"
    HAND = "is done by hand"
    SUITE = "runs all tests, and so this one"
    BROKER = "starts or stops a broker: tests have their own, by the same scripts' main classes"
    TOOL = "needs a tool of others that isn't a package of Python; tests do the same through its library"


ELSEWHERE: dict[tuple[str, str], Reason | str] = {
    ("README.md", r"make test$"): Reason.SUITE,
    ("README.md", r"make demo$"): "tests/proxy/cli/test_demo.py",
    ("README.md", r"(pip install \.|kveil keys init|kveil run --upstream broker|kafka-console)"): "test_tutorial.py",
    ("README.md", r"kveil (producer|consumer) "): "test_directions.py",
    ("README.md", r"(kveil run --upstream pkc|KVEIL_UPSTREAM__SASL=)"): "test_own_login.py",
    ("README.md", r"kveil users add "): "tests/proxy/cli/test_users.py",
    ("README.md", r"kveil (authority|enroll) "): "test_identities_authority.py",
    ("README.md", r"kveil init "): "tests/proxy/cli/test_init.py",
    ("docs/tutorial.md", r"make demo "): "tests/proxy/cli/test_demo.py",
    ("docs/tutorial.md", r"(docker-compose |T=\"docker-compose)"): Reason.DOCKER,
    ("docs/tutorial.md", r"(/opt/kafka/bin/|T=/opt)"): Reason.BROKER,
    ("docs/tutorial.md", r""): "test_tutorial.py",
    ("deploy/edge/README.md", r"(make install-systemd|systemctl )"): Reason.MACHINE,
    ("deploy/edge/README.md", r"editor "): Reason.HAND,
    ("deploy/edge/README.md", r"(kveil|install) "): "tests/deploy/test_edge.py",
    ("docs/commands.md", r"kveil run "): "test_tutorial.py",
    ("docs/install.md", r"(python3 -m venv|/opt/kveil/bin/(pip|kveil) )"): "test_tutorial.py",
    ("docs/install.md", r"(make install-systemd|systemctl )"): Reason.MACHINE,
    ("docs/install.md", r"editor "): Reason.HAND,
    ("docs/install.md", r"_KVEIL_COMPLETE="): "tests/proxy/cli/test_completion.py",
    ("docs/install.md", r"(docker |docker-compose |cd deploy/compose|echo hello \| docker-compose)"): Reason.DOCKER,
    ("docs/install.md", r"kubectl "): Reason.KUBERNETES,
    ("docs/commands.md", r"kveil authority "): "test_identities_authority.py",
    ("docs/identities.md", r"systemd-run "): Reason.MACHINE,
    ("docs/identities.md", r"kafka-"): "test_identities_walk_through.py",
    ("docs/identities.md", r"kveil "): "test_identities_authority.py",
    ("docs/performance.md", r"make bench"): "tests/bench/test_bench.py",
    ("docs/keys.md", r"(vault|aws|gcloud|az|KEY=\$\(aws|for ROLE) ?"): Reason.CLOUD,
    ("docs/keys.md", r"(softhsm2-util|pkcs11-tool|M=|python3 -) ?"): Reason.TOOL,
}
"""By page and what the command begins with. A name without a folder is a test beside this one."""

PROGRAMS = (
    *(
        "kveil",
        "make",
        "pip",
        "python3",
        "docker",
        "docker-compose",
        "kubectl",
        "systemctl",
        "systemd-run",
        "editor",
        "install",
        "cp",
    ),
    *("curl", "export", "echo", "cd", "softhsm2-util", "pkcs11-tool", "az", r"kafka-[a-z-]+", r"[A-Z_]+=\S+"),
)
"""What a line of a block without a language begins with, if it isn't what a program has said."""
TYPED = re.compile(rf"(?:/opt/kveil/bin/)?(?:{'|'.join(PROGRAMS)})(?: |$)")
HEREDOC = re.compile(r"<<'(\w+)'\n.*?\n\1$", re.MULTILINE | re.DOTALL)

EXIT_CODES = {
    "kveil doctor -c kveil.yaml orders": 3,  # the topic has no room: a warning, as the page shows it
    "kveil prepare -c kveil.yaml orders": 2,  # nobody at a terminal answers its question
}


def typed(page: Path) -> Iterator[str]:
    """The commands of a page's blocks: all of `sh`, and of a block without a language what begins with a program."""
    for block in blocks(page):
        lines = HEREDOC.sub("", block.text).splitlines()
        if block.language == "sh":
            inside = False
            for line in lines:
                if not inside:
                    yield line
                inside = line.startswith("for ") or (inside and line != "done")
        elif not block.language and block.section != "Environment variables":
            found = (line.removeprefix("$ ") for line in lines)
            yield from (line for line in found if TYPED.match(line))


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


CASES = [(name(page), line) for page in PAGES for line in typed(page)]


def is_typed_here(page: str, line: str) -> bool:
    """Only what is known to be harmless: a page may come to name anything."""
    return page in HERE and line.startswith(TYPED_HERE) and elsewhere(page, line) is None


def elsewhere(page: str, line: str) -> tuple[str, str] | None:
    """The row of the table that is about it."""
    return next((row for row in ELSEWHERE if page == row[0] and re.match(row[1], line)), None)


@pytest.mark.parametrize(("page", "line"), CASES, ids=str)
def test_a_command_is_run_by_a_test_or_has_a_reason(page, line):
    known = is_typed_here(page, line) or elsewhere(page, line) is not None
    assert known, f"{page}: which test runs {line!r}? Name it in ELSEWHERE"


def test_every_row_is_needed_and_its_test_is_there():
    assert {elsewhere(page, line) for page, line in CASES} - {None} == set(ELSEWHERE)
    for where in ELSEWHERE.values():
        assert isinstance(where, Reason) or (ROOT / where).exists() or Path(__file__).with_name(where).exists(), where
    assert len(CASES) > 100


# The commands that are typed here ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A machine with a proxy that runs: its /etc and /mnt are a folder."""

    root: Path
    replaced: dict[str, str]
    environment: dict[str, str]

    def type_all(self, page: str) -> dict[str, str]:
        """What went wrong, by line."""
        wrong = {}
        with Shell(self.environment, self.root / "work") as shell:
            for line in (line for each, line in CASES if each == page and is_typed_here(page, line)):
                command = line
                for before, after in self.replaced.items():
                    command = command.replace(before, after)
                assert not MACHINES_OWN.search(command), f"{page}: {line!r} would write to this machine"
                if line.startswith("kveil init "):
                    command = f"cd $(mktemp -d) && {command}"  # a file that is there stays
                if line.startswith("kveil keys init "):
                    command = f"export KVEIL_KEYS__PATH=$(mktemp -d)/keys.json && {command}"
                alone = f"({command}\n)" if command.startswith(("cd ", "export KVEIL_KEYS__PATH=$")) else command
                shell.type(alone, stdin=ANSWER)
                if shell.code != EXIT_CODES.get(line, 0):
                    wrong[line] = f"exit code {shell.code}: {shell.errors.so_far()[-5:]}"
        return wrong


ANSWER = "orders"
"""Where a question is asked: a new user's password, and the key that is to be destroyed."""
RULES = [
    {"match": "metrics.*", "seal": "none"},
    {"match": "orders.plain", "seal": "none"},
    {"match": "payments.*", "producers": ["billing"], "consumers": ["audit"]},
    {"match": "orders*", "key": "orders"},
]


@pytest.fixture(scope="module")
def host(kafka: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    root = tmp_path_factory.mktemp("host")
    etc, work, safe = root / "etc/kveil", root / "work", root / "mnt/safe"
    for folder in (etc, work, safe):
        folder.mkdir(parents=True)
    program = str(Path(sys.executable).parent)
    environment = {key: text for key, text in os.environ.items() if not key.startswith("KVEIL_")}
    environment |= {"PATH": f"{program}{os.pathsep}{environment['PATH']}", "KVEIL_CONFIG": str(etc / "kveil.yaml")}
    environment["TMPDIR"] = str(root)
    with reserved_port_range(2 + 2 * BROKER_PORTS) as port, admin_port() as admin, Shell(environment, work) as shell:
        users = {"users": str(etc / "users.json")}
        gateway = {"name": "gateway", "address": f"127.0.0.1:{port + 1 + BROKER_PORTS}", "sasl": users}
        config = {
            "upstream": {"bootstrap": [kafka.bootstrap]},
            "listeners": [{"address": f"127.0.0.1:{port}"}, {**gateway, "allow": ["office"]}],
            "networks": {"office": ["10.1.0.0/16", "127.0.0.1"]},
            "broker_ports": {"count": BROKER_PORTS},
            "keys": {"path": str(etc / "keys.json")},
            "topics": RULES,
            "admin": {**admin.config["admin"], "socket": str(root / "admin.sock")},
        }
        for path in (etc / "kveil.yaml", work / "kveil.yaml", work / "new.yaml"):
            path.write_text(yaml.safe_dump(config))
        for line in (
            f"kveil keys init --key default --key orders --keys {etc}/keys.json",
            f"cp -p {etc}/keys.json {safe}/keys.json",
            f"kveil users add billing --users {etc}/users.json",
        ):
            shell.type(line, stdin="secret-of-billing")
            assert shell.code == 0, shell.errors.so_far()
        for topic in ("orders", "metrics.cpu"):
            kafka.create_topic(topic)
        replaced = {
            "/etc/kveil": str(etc),
            "/mnt/safe": str(safe),
            "broker:9092": kafka.bootstrap,
            "http://127.0.0.1:9600": admin.url,
        }
        with Child([*KVEIL, "run"], environment=environment) as proxy:
            proxy.errors.wait_for('"listening"', SECONDS)
            yield Host(root=root, replaced=replaced, environment=environment)
            assert proxy.stop() == 0


@pytest.mark.parametrize("page", HERE)
def test_what_a_page_says_is_typed(host: Host, page: str):
    assert host.type_all(page) == {}
