"""The admin port of an authority at work: what it has done, and whether it can do more."""

import asyncio
import time

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from kveil.proxy.admin.audit import audit
from kveil.proxy.config import Settings
from kveil.proxy.config.errors import ConfigError
from kveil.proxy.net.authority import decide
from kveil.proxy.net.command_port import command_port
from tests.proxy.net.test_authority import KEYS, A, Desk, eventually
from tests.support.ports import reserved_ports
from tests.support.realm import identity

B = identity("b")


def settings_of(port):
    return Settings.model_validate(
        {"upstream": {"bootstrap": ["127.0.0.1:1"]}, "admin": {"address": f"127.0.0.1:{port}"}}
    )


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path / "authority")


class Port:
    def __init__(self, session, url):
        self.session, self.url = session, url

    async def get(self, path, **headers):
        async with self.session.get(self.url + path, headers=headers) as answer:
            return answer.status, await answer.text()

    async def samples(self):
        _, text = await self.get("/metrics")
        found = (one for family in text_string_to_metric_families(text) for one in family.samples)
        return {(one.name, *(value for _, value in sorted(one.labels.items()))): one.value for one in found}


@pytest.fixture
async def port(desk):
    with reserved_ports(1) as (number,):
        serving = command_port(settings_of(number), desk.work.samples, lambda: desk.work.trouble)
        async with serving, aiohttp.ClientSession() as session:
            yield Port(session, f"http://127.0.0.1:{number}")


async def test_what_an_authority_does_is_counted(desk, port):
    enrolment = desk.enrolment()
    async with desk.running():
        desk.arrives(enrolment)
        await eventually(lambda: desk.published() == ["reader"])
        samples = await port.samples()
        assert samples["kveil_identity_events_total", "ticket.redeemed", ""] == 1
        assert samples["kveil_identity_events_total", "identity.granted", ""] == 1
        assert samples["kveil_identity_events_total", "identity.revoked", ""] == 0
        assert samples["kveil_members",] == 1
        assert samples["kveil_identity_alarms", "fork"] == 0
        newest = desk.store.load(KEYS).latest.checkpoint
        assert samples["kveil_checkpoint_number",] == newest.number
        assert samples["kveil_checkpoint_expiry_timestamp_seconds",] == newest.expires > time.time()


async def test_refusals_are_counted_by_reason_and_alarms_by_kind(desk, port):
    late = desk.enrolment(name="late")
    taken = desk.enrolment(B, name="reader")
    async with desk.running():
        desk.arrives(desk.enrolment())
        await eventually(lambda: desk.published() == ["reader"])
        desk.arrives(taken)
        await eventually(lambda: desk.reader.has_answer(taken.ticket_id, B.id))
        decide(desk.store, KEYS, lambda authority: authority.revoke("reader", None))
        desk.arrives(late)
        await eventually(lambda: desk.reader.has_answer(late.ticket_id, A.id) and not desk.published())
    audit("identity.alarm", "demo", kind="ticket-reused")
    samples = await port.samples()
    assert samples["kveil_identity_events_total", "ticket.refused", "name-taken"] == 1
    assert samples["kveil_identity_events_total", "ticket.refused", "refused"] == 1, "who was revoked doesn't come back"
    assert samples["kveil_identity_events_total", "identity.revoked", ""] == 1
    assert samples["kveil_identity_events_total", "identity.alarm", "ticket-reused"] == 1
    assert samples["kveil_members",] == 0


async def test_it_is_ready_while_the_topic_can_be_written(desk, port):
    assert await port.get("/livez") == (200, '{"alive": true}')
    status, text = await port.get("/readyz")
    assert (status, "wasn't read yet" in text) == (503, True)
    async with desk.running():
        await eventually(lambda: desk.work.trouble is None)
        assert (await port.get("/readyz"))[0] == 200
        desk.log.is_cut_off = True
        desk.arrives(desk.enrolment())
        await eventually(lambda: desk.work.trouble is not None)
        status, text = await port.get("/readyz")
        assert (status, "cut off" in text) == (503, True)
        desk.log.is_cut_off = False
        await eventually(lambda: desk.work.trouble is None)


async def test_it_is_for_this_machine_alone(port):
    assert (await port.get("/metrics", Host="evil.example"))[0] == 403
    assert (await port.get("/config"))[0] == 404


async def test_a_port_that_is_taken_is_said(desk, port):
    number = int(port.url.rpartition(":")[2])
    with pytest.raises(ConfigError, match=f"port {number}"):
        async with command_port(settings_of(number), desk.work.samples, lambda: None):
            await asyncio.Event().wait()
