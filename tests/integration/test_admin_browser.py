"""The status page in a real Chromium, before a real broker."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.admin_port import AdminPort, admin_port
from tests.support.browser import CHROMIUM, chromium
from tests.support.clients import Record, librdkafka_produce
from tests.support.kafka import Cluster
from tests.support.proxy import Proxy, kveil_proxy

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (on Debian: apt install chromium)"),
]
TOPICS = "document.getElementById('topics').innerText"
BACKGROUND = "getComputedStyle(document.body).backgroundColor"
OVERFLOW = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


@pytest.fixture
def running(kafka: Cluster) -> Iterator[tuple[Proxy, AdminPort]]:
    with admin_port() as admin, kveil_proxy(kafka.bootstrap, config=admin.config) as proxy:
        yield proxy, admin


async def produce(proxy: Proxy, topic: str) -> None:
    await asyncio.to_thread(librdkafka_produce, proxy.bootstrap, topic, [Record(value=b"v")] * 3)


async def test_what_happens_is_seen_without_a_reload(running, tmp_path: Path, topic: str):
    proxy, admin = running
    async with chromium(tmp_path) as tab:
        await tab.open(f"{admin.url}/")
        assert topic not in await tab.value(TOPICS)
        await produce(proxy, topic)
        await tab.wait_for(f"{TOPICS}.includes({topic!r})")
        await tab.wait_for("document.getElementById('throughput').querySelector('path.sealed') !== null")
        assert tab.complaints == []


async def test_one_that_is_gone_is_told_of(running, tmp_path: Path):
    proxy, admin = running
    async with chromium(tmp_path) as tab:
        await tab.open(f"{admin.url}/")
        assert await tab.value("document.getElementById('state').innerText") == "Ready"
        await asyncio.to_thread(proxy.kill)
        await tab.wait_for("document.getElementById('state').innerText.includes('No answer from Kveil')")


async def test_numbers_without_a_script(running, tmp_path: Path, topic: str):
    proxy, admin = running
    await produce(proxy, topic)
    async with chromium(tmp_path) as tab:
        await tab.call("Emulation.setScriptExecutionDisabled", value=True)
        await tab.open(f"{admin.url}/")
        assert topic in await tab.value(TOPICS)


async def test_pictures(running, tmp_path: Path, topic: str):
    """Light and dark differ, and nothing sticks out on a small screen."""
    proxy, admin = running
    await produce(proxy, topic)
    async with chromium(tmp_path) as tab:
        seen = {}
        for scheme in ("light", "dark"):
            await tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            await tab.open(f"{admin.url}/")
            seen[scheme] = (await tab.value(BACKGROUND), await tab.picture())
        assert seen["light"][0] != seen["dark"][0]
        assert seen["light"][1] != seen["dark"][1]
        for width in (1280, 820, 360):
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            await tab.call("Emulation.setDeviceMetricsOverride", **size)
            assert not await tab.value(OVERFLOW), width
