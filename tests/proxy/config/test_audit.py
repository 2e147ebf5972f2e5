"""The section `audit`."""

from pathlib import Path

import pytest

from kveil.proxy.config import ConfigError, load, load_audit, load_key_settings

UPSTREAM = {"KVEIL_UPSTREAM__BOOTSTRAP": "a:1"}


def audit(**values):
    return load(None, {**UPSTREAM, **{f"KVEIL_AUDIT__{name}": value for name, value in values.items()}}).audit


def test_without_it_events_go_to_the_log():
    found = audit()
    assert (found.log, found.stdout, found.file, found.topic, found.required) == (True, False, None, None, False)


def test_a_file_has_bounds():
    found = audit(FILE__PATH="/var/log/kveil/audit.log").file
    assert found.path == Path("/var/log/kveil/audit.log")
    assert (found.max_bytes, found.keep, found.group_readable) == (100_000_000, 10, False)


@pytest.mark.parametrize(
    "sink", [{"STDOUT": "true"}, {"FILE__PATH": "/var/log/a"}, {"TOPIC": "audit"}], ids=["stdout", "file", "topic"]
)
def test_required_takes_any_sink_that_answers(sink):
    assert audit(REQUIRED="true", **sink).required


@pytest.mark.parametrize(
    ("values", "path", "text"),
    [
        ({"REQUIRED": "true"}, "audit.required", "set audit.stdout, audit.file or audit.topic"),
        ({"FILE__PATH": "audit.log"}, "audit.file.path", "must be an absolute path"),
        ({"FILE__PATH": "/a", "FILE__MAX_BYTES": "10"}, "audit.file.max_bytes", "65536"),
        ({"FILE__KEEP": "1"}, "audit.file.path", ""),
        ({"QUEUE": "1"}, "audit.queue", "16"),
        ({"TOPIC": "a b"}, "audit.topic", ""),
        ({"TOPIC": "_kveil.keys"}, "audit.topic", "has a purpose of its own"),
        ({"TOPIC": "__consumer_offsets"}, "audit.topic", "has a purpose of its own"),
    ],
)
def test_what_can_not_be(values, path, text):
    with pytest.raises(ConfigError) as caught:
        audit(**values)
    (problem,) = caught.value.problems
    assert problem.path == path
    assert text in problem.text


class TestForCommands:
    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "kveil.yaml"
        path.write_text("audit: {file: {path: /var/log/kveil/audit.log}}\nlimits: 5\n")
        return path

    def test_faults_elsewhere_do_not_matter(self, path):
        assert load_audit(path, {}).file.path == Path("/var/log/kveil/audit.log")
        assert load_key_settings(path, {}).audit.file.path == Path("/var/log/kveil/audit.log")

    @pytest.mark.parametrize("of", [load_audit, load_key_settings])
    def test_its_own_do(self, path, of):
        path.write_text("audit: {sink: x}\n")
        with pytest.raises(ConfigError, match=r"audit\.sink"):
            of(path, {})
