"""docs/install.md speaks of what there is."""

import re
import shlex
from pathlib import Path

import pytest

from tests.support.proxy import kveil

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "install.md"
TEXT = DOCS.read_text()
BLOCKS = [
    line for block in re.findall(r"^ *```\n(.*?)^ *```", TEXT, re.MULTILINE | re.DOTALL) for line in block.splitlines()
]


def words_after(program: str) -> list[list[str]]:
    """The arguments of each time that a block runs this program."""
    joined = "\n".join(BLOCKS).replace("\\\n", " ").splitlines()
    found = [re.search(rf"(?:^|.*[/ ]){re.escape(program)} ([a-z-]+(?: .*|$))", line) for line in joined]
    return [shlex.split(match[1], comments=True) for match in found if match]


def anchors(path: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)]+)\)", TEXT))))
def test_a_link_leads_somewhere(link: str):
    name, _, anchor = link.partition("#")
    target = DOCS.parent / name if name else DOCS
    assert target.exists()
    assert not anchor or anchor in anchors(target)


def test_every_form_is_told_of():
    assert "docs/install.md" in (ROOT / "README.md").read_text()
    for form in ("Dockerfile", "compose", "systemd", "kubernetes/sidecar", "kubernetes/gateway"):
        assert (ROOT / form).exists() or f"deploy/{form}" in TEXT


COMMANDS = [arguments for arguments in words_after("kveil") if arguments != ["kveil"]]
"""Without the image of that name behind a volume of that name."""


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_command_is_one(arguments: list[str]):
    """With its options: what it says of its use names them."""
    command = [word for word in arguments[:2] if re.fullmatch(r"[a-z]+", word)]
    done = kveil(*command, "--help")
    assert done.returncode == 0, done.stderr
    for option in (word for word in arguments if word.startswith("--")):
        assert option in done.stdout


def test_targets_of_make_are_there():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {arguments[0] for arguments in words_after("make")} | set(re.findall(r"`make ([a-z-]+)", TEXT))
    assert named == {"install-systemd", "lock"}
    assert named <= targets


def test_services_of_compose_are_there():
    services = re.findall(r"^  ([a-z]+):$", (ROOT / "deploy/compose/compose.yaml").read_text(), re.MULTILINE)
    named = {arguments[-1] for arguments in words_after("docker-compose") if arguments[0] == "run"}
    assert named == {"keys", "produce", "consume", "peek"}
    assert named <= set(services)


def test_secrets_are_those_that_the_manifests_want():
    wanted = set()
    for path in (ROOT / "deploy" / "kubernetes").rglob("deployment.yaml"):
        wanted |= set(re.findall(r"secretName: ([a-z-]+)", path.read_text()))
    made = {arguments[3] for arguments in words_after("kubectl") if arguments[:2] == ["create", "secret"]}
    assert made == wanted


def test_what_systemd_reads_is_what_the_docs_say():
    for unit, instance in (("kveil.service", "kveil"), ("kveil@.service", "orders")):
        text = (ROOT / "deploy" / "systemd" / unit).read_text().replace("%i", instance)
        for path in re.findall(r"/etc/kveil/[a-z.]*[a-z]", text):
            assert f"`{path}`" in TEXT
