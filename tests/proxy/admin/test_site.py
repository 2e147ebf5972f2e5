"""The admin port over HTTP, of a proxy that can't reach its cluster."""

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser

import aiohttp
import pytest

from kveil.proxy.admin import site as site_module
from kveil.proxy.admin.overview import Overview
from kveil.proxy.admin.readiness import Readiness
from kveil.proxy.admin.shown import config_digest, shown
from kveil.proxy.admin.site import AdminSite
from kveil.proxy.admin.status import status_of
from kveil.proxy.admin.survey import Survey
from kveil.proxy.errors import ErrorCode
from kveil.proxy.net.admin_socket import bind_admin
from kveil.proxy.net.upstream import Upstream
from tests.support.conversation import make_shared
from tests.support.ports import reserved_ports

HOSTILE = "<script>alert(1)</script>"
PASSWORD = "correct horse battery staple"


class Visitor:
    """Asks, and may look behind the port."""

    def __init__(self, session, url, shared, site):
        self.session, self.url, self.shared, self.site = session, url, shared, site
        self.is_ending = False
        self.asked: list[str] = []
        self.outcome: dict[str, object] = {}

    async def reload(self) -> dict[str, object]:
        self.asked.append("reload")
        return self.outcome

    async def change_level(self, level: str) -> dict[str, object]:
        self.asked.append(level)
        return self.outcome

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        async with self.session.get(self.url + path, headers=headers) as answer:
            self.headers = answer.headers
            return answer.status, await answer.text()


@pytest.fixture
async def visitor(tmp_path, monkeypatch) -> AsyncIterator[Visitor]:
    monkeypatch.setenv("PASSWORD", PASSWORD)
    with reserved_ports(2) as (port, nobody):
        shared = make_shared(
            tmp_path,
            upstream=f"127.0.0.1:{nobody}",
            to_cluster={"sasl": {"mechanism": "PLAIN", "username": "kveil", "password": "env:PASSWORD"}},
            admin={"address": f"127.0.0.1:{port}", "socket": str(tmp_path / "admin.sock")},
            topics=[{"match": "metrics.*", "seal": "none"}],
        )
        overview = Overview(keeps_history=True)
        survey = Survey(shared, None, ())

        async def look():
            overview.update(1, survey.samples(), status_of(survey))
            return overview.look()

        async with aiohttp.ClientSession() as session:
            found = Visitor(session, f"http://127.0.0.1:{port}", shared, None)
            readiness = Readiness(shared, Upstream(shared.settings), lambda: found.is_ending)
            found.site = site = AdminSite(shared, readiness, look, found)
            await site.start(bind_admin(shared.settings))
            yield found
            await site.stop()


async def test_what_is_not_ready_is_told(visitor, tmp_path):
    status, text = await visitor.get("/readyz")
    checks = json.loads(text)["checks"]
    assert status == 503
    assert not checks["upstream"]["ok"]
    assert checks["keys: keyfile"] == {"ok": True}
    assert (await visitor.get("/livez"))[0] == 200


async def test_one_that_ends_is_not_ready(visitor):
    visitor.is_ending = True
    _, text = await visitor.get("/readyz")
    assert json.loads(text)["checks"]["serving"]["reason"] == "the proxy is about to end"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "192.0.2.1", "127.0.0.1.evil.example", "", "[::2]", "a b"]
)
async def test_a_page_of_another_host_is_not_answered(visitor, host):
    """Its name may lead to this machine: that is how a browser would be made to read what is here."""
    for path in ("/", "/config", "/metrics", "/events", "/readyz"):
        status, text = await visitor.get(path, Host=host)
        assert status in {400, 403}
        assert "kveil_" not in text
        assert "upstream" not in text


@pytest.mark.parametrize("host", ["localhost", "localhost:9600", "127.0.0.1:9600", "[::1]:9600", "[::1]", "127.0.0.9"])
async def test_names_of_this_machine(visitor, host):
    assert (await visitor.get("/livez", Host=host))[0] == 200


async def test_settings_without_secrets(visitor):
    _, text = await visitor.get("/config")
    found = json.loads(text)
    assert found["upstream"]["sasl"]["password"] == "env:PASSWORD"
    assert PASSWORD not in text


def test_options_of_a_module_are_not_shown(tmp_path):
    settings = make_shared(tmp_path).settings
    keys = settings.keys.model_copy(update={"options": {"token": PASSWORD}})
    found = shown(settings.model_copy(update={"keys": keys}))
    assert found["keys"]["options"] == {"token": "[redacted]"}


async def test_metrics(visitor):
    visitor.shared.metrics.connections = 3
    status, text = await visitor.get("/metrics")
    assert status == 200
    assert visitor.headers["Content-Type"].startswith("text/plain; version=")
    assert "\nkveil_connections_total 3.0\n" in text


async def test_nothing_is_changed_by_asking(visitor):
    for method in ("POST", "PUT", "DELETE"):
        async with visitor.session.request(method, visitor.url + "/config") as answer:
            assert answer.status == 405


async def test_a_failure_is_no_answer(visitor, monkeypatch):
    async def broken():
        raise RuntimeError(PASSWORD)

    monkeypatch.setattr(visitor.site, "_look", broken)
    status, text = await visitor.get("/metrics")
    assert status == 500
    assert PASSWORD not in text


class Outline(HTMLParser):
    """What a page has of elements."""

    VOID = frozenset({"meta", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.feed(text)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found[name] for name in ("src", "href") if name in found]
        assert not {name for name in found if name == "style" or name.startswith("on")}, "the policy forbids it"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


async def test_the_page_says_all_without_a_script(visitor):
    visitor.shared.metrics.count_sealed("orders", 1234, 5_600_000)
    status, text = await visitor.get("/")
    outline = Outline(text)
    assert status == 200
    assert {"Topics", "Clients", "Recent refusals", "Rules"} <= set(re.findall("<h2>([^<]+)</h2>", text))
    assert "orders" in text
    assert "5.6 MB" in text
    assert "Not ready: upstream" in text
    assert outline.tags.count("svg") == 2
    assert "noscript" in outline.tags


async def test_nothing_comes_from_elsewhere(visitor):
    outline = Outline((await visitor.get("/"))[1])
    assert visitor.headers["Content-Security-Policy"].startswith("default-src 'none'")
    for link in outline.links:
        assert link == "data:," or (await visitor.get(link))[0] in {200, 503}


async def test_names_that_are_markup(visitor):
    visitor.shared.metrics.count_sealed(HOSTILE, 1, 1)
    refusal = site_module_refusal(HOSTILE)
    visitor.shared.metrics.refused(ErrorCode.CORRUPT_MESSAGE, refusal)
    _, text = await visitor.get("/")
    assert HOSTILE not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    Outline(text)


def site_module_refusal(topic: str):
    from kveil.proxy.admin.metrics import Refusal

    return Refusal(0.0, topic, 3, ErrorCode.CORRUPT_MESSAGE.name, f"because of {topic}")


async def next_event(answer) -> dict[str, str]:
    async with asyncio.timeout(30):
        line = await answer.content.readline()
        assert await answer.content.readline() == b"\n"
    return json.loads(line.removeprefix(b"data: "))


async def test_events_are_the_pages_parts(visitor, monkeypatch):
    monkeypatch.setattr(site_module, "POINT_SECONDS", 0.01)
    ids = Outline((await visitor.get("/"))[1]).ids
    async with visitor.session.get(visitor.url + "/events") as answer:
        assert answer.content_type == "text/event-stream"
        first = await next_event(answer)
        assert sorted(first) == sorted(ids)
        assert "orders" not in first["topics"]
        visitor.shared.metrics.count_sealed("orders", 1, 1)
        while "orders" not in (await next_event(answer))["topics"]:
            pass


async def test_pages_that_are_open_are_bounded(visitor, monkeypatch):
    monkeypatch.setattr(site_module, "MOST_VIEWERS", 1)
    async with visitor.session.get(visitor.url + "/events") as answer:
        await next_event(answer)
        assert (await visitor.get("/events"))[0] == 503


async def test_the_end_closes_open_pages(visitor):
    async with visitor.session.get(visitor.url + "/events") as answer:
        await next_event(answer)
        async with asyncio.timeout(5):
            await visitor.site.stop()
            await answer.read()


class TestChanges:
    """Asked for at the admin socket, and there alone."""

    async def test_not_at_the_port(self, visitor):
        for method, path in (("POST", "/reload"), ("PUT", "/log-level")):
            async with visitor.session.request(method, visitor.url + path, data="debug") as answer:
                assert answer.status == 403
                assert "admin.socket" in await answer.text()
        assert visitor.asked == []

    @pytest.mark.parametrize(("problems", "status"), [([], 200), ([{"path": "realm", "text": "no"}], 409)])
    async def test_at_the_socket(self, visitor, tmp_path, problems, status):
        visitor.outcome = {"changed": ["topics"], "problems": problems}
        connector = aiohttp.UnixConnector(str(tmp_path / "admin.sock"))
        async with aiohttp.ClientSession(connector=connector) as session:
            for method, place in (("POST", "/reload"), ("PUT", "/log-level")):
                async with session.request(method, f"http://localhost{place}", data="debug") as answer:
                    assert (answer.status, await answer.json()) == (status, visitor.outcome)
        assert visitor.asked == ["reload", "debug"]

    async def test_the_settings_in_force_are_shown(self, visitor):
        settings = visitor.shared.settings
        visitor.shared.settings = settings.model_copy(update={"workers": 7})
        text = (await visitor.get("/config"))[1]
        assert json.loads(text)["workers"] == 7
        assert config_digest(visitor.shared.settings) == f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
        assert config_digest(settings) != config_digest(visitor.shared.settings)
