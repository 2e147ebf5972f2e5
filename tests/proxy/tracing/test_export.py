"""Where spans go, under which name, and what is told when they don't arrive."""

import sys

import pytest
import structlog
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION

from kveil.proxy.config import Tracing
from kveil.proxy.tracing.export import tracer_provider
from kveil.proxy.tracing.spans import Tracer
from tests.support.collector import Collector
from tests.support.ports import reserved_ports
from tests.support.processes import run

NOT_TRACED = """
import sys
import kveil.proxy.cli, kveil.proxy.server, kveil.proxy.workers, kveil.proxy.config
print(sorted(name for name in sys.modules if name.partition(".")[0] in {"opentelemetry", "requests"}))
"""
VARIABLES = ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_SDK_DISABLED")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def send(tracing: Tracing, count: int = 1) -> None:
    provider = tracer_provider(tracing)
    tracer = Tracer(provider, tracing.sampled)
    try:
        for _ in range(count):
            if (trace := tracer.begin(1, None, None)) is not None:
                trace.end()
        provider.force_flush()
    finally:
        provider.shutdown()


def test_nothing_of_it_is_imported_unless_it_is_used():
    found = run([sys.executable, "-c", NOT_TRACED])
    assert (found.stdout.strip(), found.stderr) == ("[]", "")


@pytest.mark.parametrize(
    ("written", "path"), [("", "/v1/traces"), ("/", "/v1/traces"), ("/in/traces", "/in/traces")], ids=repr
)
def test_it_goes_to_the_endpoint(written, path):
    with Collector() as collector:
        send(Tracing(endpoint=collector.url + written, sampled=1.0))
        assert collector.paths == [path]
        assert [(span.name, span.service) for span in collector.spans] == [("poll", "kveil")]


def test_the_sdk_s_sampler_is_not_asked(monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    with Collector() as collector:
        send(Tracing(endpoint=collector.url, sampled=1.0))
        assert len(collector.spans) == 1


def test_without_one_it_goes_where_the_sdk_s_variable_says(monkeypatch):
    with Collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        send(Tracing(sampled=1.0))
        assert collector.paths == ["/v1/traces"]


@pytest.mark.parametrize(("sampled", "count"), [(0.0, 0), (1.0, 400)])
def test_all_or_none(sampled, count):
    with Collector() as collector:
        send(Tracing(endpoint=collector.url, sampled=sampled), 400)
        assert len(collector.spans) == count


def test_a_part():
    with Collector() as collector:
        send(Tracing(endpoint=collector.url, sampled=0.5), 400)
        assert 100 < len(collector.spans) < 300


@pytest.mark.parametrize(
    ("environ", "given", "name"),
    [
        ({}, None, "kveil"),
        ({"OTEL_SERVICE_NAME": "by-variable"}, None, "by-variable"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=by-list"}, None, "by-list"),
        ({"OTEL_SERVICE_NAME": "by-variable"}, "by-config", "by-config"),
    ],
)
def test_who_speaks(monkeypatch, environ, given, name):
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)
    provider = tracer_provider(Tracing(service_name=given))
    provider.shutdown()
    assert provider.resource.attributes[SERVICE_NAME] == name
    assert provider.resource.attributes[SERVICE_VERSION]


class TestTrouble:
    """It is told in the log, as everything is, and nothing stops because of it."""

    @pytest.fixture(autouse=True)
    def once_each(self, fresh_log_limits: None) -> None:
        pass

    def test_a_collector_that_refuses(self):
        with Collector() as collector, structlog.testing.capture_logs() as lines:
            collector.status = 400
            send(Tracing(endpoint=collector.url, sampled=1.0))
        assert [line["event"] for line in lines] == ["tracing_trouble"]
        assert "400" in lines[0]["why"]

    def test_a_collector_that_is_not_there(self, monkeypatch, caplog, capfd):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
        with reserved_ports(1) as (port,), structlog.testing.capture_logs() as lines:
            send(Tracing(endpoint=f"http://127.0.0.1:{port}", sampled=1.0))
        assert {line["event"] for line in lines} == {"tracing_trouble"}
        assert caplog.records == []
        assert capfd.readouterr() == ("", "")  # not by the SDK's own way, between the lines of the log
