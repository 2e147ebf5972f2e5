"""The proxy's own questions, between a client's requests on the client's own connection."""

import asyncio

import pytest

from kveil.protocol.kafka.api_table import ApiKey
from kveil.protocol.kafka.messages import encode_response
from kveil.proxy.config import Mode
from kveil.proxy.net import questions
from tests.support.conversation import make_shared, read_request, read_response
from tests.support.loops import both_loops
from tests.support.records import client_batch, fetched, mode_of, produced, sealed
from tests.support.scripted_broker import describe_configs, everything_offered

ID = bytes(range(16))
GOOD = client_batch()
VERSIONS, CONFIGS, METADATA = ApiKey.API_VERSIONS, ApiKey.DESCRIBE_CONFIGS, ApiKey.METADATA


def accepted(request):
    _, asked = read_request(request.frame)
    named = [topic.name if hasattr(topic, "name") else topic.topic_id.bytes for topic in asked.topic_data]
    key = "name" if isinstance(named[0], str) else "topic_id"
    return {"responses": [{key: name, "partition_responses": [{"index": 0, "base_offset": 5}]} for name in named]}


def first_error(frame, version=9):
    part = read_response(ApiKey.PRODUCE, version, frame).responses[0].partition_responses[0]
    return int(part.error_code), part.error_message


def sealed_mode(request):
    _, values = read_request(request.frame)
    return mode_of(values.topic_data[0].partition_data[0].records)


class TestSettings:
    @both_loops
    async def test_are_asked_for_before_the_first_batch(self, run_proxy):
        async with run_proxy() as (proxy, broker):
            broker.answers[ApiKey.PRODUCE] = accepted
            client = await proxy.client()
            assert first_error(await client.ask(ApiKey.PRODUCE, 9, produced({"t": {0: GOOD}}))) == (0, None)
            assert first_error(await client.ask(ApiKey.PRODUCE, 9, produced({"t": {0: GOOD}}))) == (0, None)
            assert broker.apis() == [VERSIONS, CONFIGS, ApiKey.PRODUCE, ApiKey.PRODUCE]
            header, asked = read_request(broker.requests[1].frame)
            assert header.client_id == "app"
            assert [(row.resource_type, row.resource_name) for row in asked.resources] == [(2, "t")]
            assert b"value 0" not in broker.requests[2].frame

    @both_loops
    async def test_versions_that_the_client_asked_for_are_used(self, run_proxy):
        async with run_proxy() as (proxy, broker):
            broker.answers[VERSIONS] = everything_offered(DescribeConfigs=(1, 3))
            client = await proxy.client()
            await client.ask(VERSIONS, 3)
            await client.ask(ApiKey.PRODUCE, 9, produced({"t": {0: GOOD}}))
            assert broker.apis() == [VERSIONS, CONFIGS, ApiKey.PRODUCE]
            assert broker.requests[1].header.api_version == 3

    @pytest.mark.parametrize(
        ("answer", "code", "text"),
        [
            (lambda r: failing(r, 3), 3, "no such topic"),
            (lambda r: failing(r, 41), 19, "not_controller"),
            (lambda r: {"results": []}, 19, "leaves the topic out"),
            (lambda r: encode_response(CONFIGS, 4, r.header.correlation_id, {})[:-3], 19, "can't be read"),
        ],
        ids=["unknown", "failed", "left out", "damaged"],
    )
    @both_loops
    async def test_what_the_broker_may_say(self, run_proxy, answer, code, text):
        async with run_proxy() as (proxy, broker):
            broker.answers[CONFIGS] = answer
            client = await proxy.client()
            found, message = first_error(await client.ask(ApiKey.PRODUCE, 9, produced({"t": {0: GOOD}})))
            assert found == code
            assert text in message
            assert ApiKey.PRODUCE not in broker.apis()
            await client.ask(12, 4)  # the connection goes on

    @pytest.mark.parametrize(
        ("answer", "mode"),
        [
            (describe_configs, Mode.BATCH),
            (lambda r: describe_configs(r, **{"cleanup.policy": "compact"}), Mode.RECORD),
            (lambda r: describe_configs(r, **{"cleanup.policy": "delete,compact"}), Mode.RECORD),
            (lambda r: failing(r, 29), Mode.RECORD),
            (lambda r: failing(r, 31), Mode.RECORD),
            (lambda r: with_configs(r, []), Mode.RECORD),
        ],
        ids=["delete", "compact", "both", "denied", "denied by the cluster", "no policy"],
    )
    @both_loops
    async def test_decide_how_records_are_sealed(self, run_proxy, answer, mode):
        async with run_proxy() as (proxy, broker):
            broker.answers[CONFIGS], broker.answers[ApiKey.PRODUCE] = answer, accepted
            client = await proxy.client()
            assert first_error(await client.ask(ApiKey.PRODUCE, 9, produced({"t": {0: GOOD}}))) == (0, None)
            assert sealed_mode(broker.requests[-1]) is mode

    @both_loops
    async def test_a_broker_that_has_no_such_api(self, run_proxy):
        async with run_proxy() as (proxy, broker):
            broker.answers[VERSIONS] = everything_offered(DescribeConfigs=(0, -1))
            broker.answers[ApiKey.PRODUCE] = accepted
            client = await proxy.client()
            assert first_error(await client.ask(ApiKey.PRODUCE, 9, produced({"t": {0: GOOD}}))) == (0, None)
            assert broker.apis() == [VERSIONS, ApiKey.PRODUCE]
            assert sealed_mode(broker.requests[-1]) is Mode.RECORD

    @both_loops
    async def test_a_broker_that_does_not_answer(self, run_proxy, monkeypatch):
        monkeypatch.setattr(questions, "ANSWER_SECONDS", 0.05)
        async with run_proxy() as (proxy, broker):
            broker.silent.add(CONFIGS)
            client = await proxy.client()
            await client.send(ApiKey.PRODUCE, 9, produced({"t": {0: GOOD}}))
            await broker.until(lambda b: CONFIGS in b.apis())
            await proxy.until(lambda: proxy.relays[0]._session.parked_request is None)
            await broker.answer_held()  # late, and of no more use; the queue is in order all the same
            assert first_error(await client.receive())[0] == 19
            assert first_error(await client.ask(ApiKey.PRODUCE, 9, produced({"u": {0: b""}})))[0] == 87

    @both_loops
    async def test_none_once_the_login_has_expired(self, run_proxy):
        async with run_proxy() as (proxy, broker):
            broker.answers[ApiKey.SASL_AUTHENTICATE] = {"error_message": None, "session_lifetime": 60_000}
            broker.answers[ApiKey.PRODUCE] = accepted
            client = await proxy.client()
            for _ in range(2):  # the second time it is a re-authentication, which makes questions possible again
                await client.ask(ApiKey.SASL_HANDSHAKE, 1, {"mechanism": "PLAIN"})
                await client.ask(ApiKey.SASL_AUTHENTICATE, 2, {"auth_bytes": b"\0alice\0secret"})
                assert first_error(await client.ask(ApiKey.PRODUCE, 9, produced({"t": {0: GOOD}})), 9)[0] == 0
                proxy.shared.now.now += 61  # the settings' time is over, too
                asked = len(broker.requests)
                code, message = first_error(await client.ask(ApiKey.PRODUCE, 9, produced({"t": {0: GOOD}})))
                assert (code, len(broker.requests)) == (19, asked)
                assert "login" in message

    @both_loops
    async def test_throttling_is_told_to_the_client(self, run_proxy):
        async with run_proxy() as (proxy, broker):
            broker.answers[CONFIGS] = lambda request: {**describe_configs(request), "throttle_time": 120}
            broker.answers[ApiKey.PRODUCE] = accepted
            client = await proxy.client()
            for expected in (0.12, 0):
                frame = await client.ask(ApiKey.PRODUCE, 9, produced({"t": {0: GOOD}}))
                assert read_response(ApiKey.PRODUCE, 9, frame).throttle_time.total_seconds() == expected


class TestNames:
    NAMED = {"topics": [{"name": "t", "topic_id": ID, "partitions": []}]}  # noqa: RUF012

    @both_loops
    async def test_of_unknown_ids(self, run_proxy, tmp_path):
        async with run_proxy() as (proxy, broker):
            broker.answers[METADATA] = self.NAMED
            client = await proxy.client()
            await client.ask(ApiKey.FETCH, 17, {"topics": [{"topic_id": ID, "partitions": []}]})
            assert broker.apis() == [VERSIONS, METADATA, ApiKey.FETCH]
            _, asked = read_request(broker.requests[1].frame)
            assert [(topic.topic_id.bytes, topic.name) for topic in asked.topics] == [(ID, None)]
            assert asked.allow_auto_topic_creation is False
            assert proxy.shared.topic_names.find(ID) == "t"
            assert not proxy.shared.topic_names.was_given(("127.0.0.1", "app"), ID)

    @both_loops
    async def test_their_throttling_is_told(self, run_proxy):
        async with run_proxy() as (proxy, broker):
            broker.answers[METADATA] = {**self.NAMED, "throttle_time": 120}
            client = await proxy.client()
            frame = await client.ask(ApiKey.FETCH, 17, {"topics": [{"topic_id": ID, "partitions": []}]})
            assert read_response(ApiKey.FETCH, 17, frame).throttle_time.total_seconds() == 0.12

    @both_loops
    async def test_that_nobody_knows(self, run_proxy):
        async with run_proxy() as (proxy, broker):
            broker.answers[METADATA] = {"topics": [{"name": None, "topic_id": ID, "error_code": 100, "partitions": []}]}
            client = await proxy.client()
            code, _ = first_error(await client.ask(ApiKey.PRODUCE, 13, produced({ID: {0: GOOD}})), version=13)
            assert code == 100

    @both_loops
    async def test_a_second_name_closes_the_connection(self, run_proxy):
        async with run_proxy() as (proxy, broker):
            other = bytes(range(1, 17))
            proxy.shared.topic_names.learn(ID, "orders")
            broker.answers[METADATA] = self.NAMED
            client = await proxy.client()
            await client.send(ApiKey.FETCH, 17, {"topics": [{"topic_id": other, "partitions": []}]})
            assert await client.closed() == b""
            (line,) = proxy.lines("connection_closed")
            assert "second name" in line["reason"]
            assert ApiKey.FETCH not in broker.apis()


@both_loops
async def test_keys_of_an_answer_are_unwrapped(run_proxy, tmp_path):
    stored = await asyncio.to_thread(sealed, make_shared(tmp_path), "t", 0, GOOD)
    async with run_proxy() as (proxy, broker):
        broker.answers[ApiKey.FETCH] = fetched({"t": {0: stored}})
        client = await proxy.client()
        frame = await client.ask(ApiKey.FETCH, 12)
        assert read_response(ApiKey.FETCH, 12, frame).responses[0].partitions[0].records[61:] == GOOD[61:]


def failing(request, code):
    answer = describe_configs(request)
    answer["results"][0] |= {"error_code": code, "configs": []}
    return answer


def with_configs(request, configs):
    answer = describe_configs(request)
    answer["results"][0]["configs"] = configs
    return answer
