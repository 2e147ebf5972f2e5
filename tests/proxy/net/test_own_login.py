"""The proxy's own login between a client and a scripted broker: what waits, what is sent when, how it fails."""

import asyncio

import pytest

from kveil.protocol.kafka.api_table import ApiKey
from kveil.proxy.credentials.source import UNPROVEN_ATTEMPTS
from kveil.proxy.keys.providers.keyfile import KeyFileProvider
from tests.proxy.net.test_relay import BATCHES, SlowProvider
from tests.support.conversation import key_file, number_of, read_request, read_response
from tests.support.loops import both_loops
from tests.support.records import client_batch, produced
from tests.support.scripted_broker import everything_offered

VERSIONS, HANDSHAKE, AUTHENTICATE = ApiKey.API_VERSIONS, ApiKey.SASL_HANDSHAKE, ApiKey.SASL_AUTHENTICATE
LOGIN = [VERSIONS, HANDSHAKE, AUTHENTICATE]
AGAIN = [HANDSHAKE, AUTHENTICATE]
FETCH, PRODUCE, HEARTBEAT = ApiKey.FETCH, ApiKey.PRODUCE, 12
BEAT = (HEARTBEAT, 4)


def accepts(lifetime_ms=0):
    return {"error_code": 0, "error_message": None, "auth_bytes": b"", "session_lifetime": lifetime_ms}


def refuses(message, code=58):
    return {"error_code": code, "error_message": message, "auth_bytes": b"", "session_lifetime": 0}


@pytest.fixture
def secret(tmp_path):
    place = tmp_path / "password"
    place.write_text("hunter2\n")
    return place


@pytest.fixture
def run_own(run_proxy, secret):
    def run(mechanism="PLAIN", **config):
        sasl = {"mechanism": mechanism, "username": "alice", "password": f"file:{secret}"}
        return run_proxy(to_cluster={"sasl": sasl}, **config)

    return run


def tokens(broker):
    return [read_request(r.frame)[1].auth_bytes for r in broker.requests if r.header.api_key == AUTHENTICATE]


class TestBeforeTheFirstRequest:
    @both_loops
    async def test_requests_wait(self, run_own):
        async with run_own() as (proxy, broker):
            broker.silent.add(AUTHENTICATE)
            broker.answers[AUTHENTICATE] = accepts()
            client = await proxy.client()
            numbers = [await client.send(*BEAT) for _ in range(3)]
            await broker.until(lambda b: b.held)
            assert broker.apis() == LOGIN
            await broker.answer_held()
            assert [number_of(await client.receive()) for _ in numbers] == numbers
            assert broker.apis() == [*LOGIN, HEARTBEAT, HEARTBEAT, HEARTBEAT]
            assert tokens(broker) == [b"\0alice\0hunter2"]

    @both_loops
    async def test_a_client_that_leaves_meanwhile(self, run_own):
        async with run_own() as (proxy, broker):
            broker.silent.add(HANDSHAKE)
            client = await proxy.client()
            await broker.until(lambda b: b.held)
            await client.close()
            broker.answers[AUTHENTICATE] = accepts()
            await broker.answer_held()
            await proxy.until_ended(1)
            await broker.until(lambda b: b.ended == 1)
            assert proxy.lines("upstream_login_failed") == []

    @pytest.mark.parametrize(("most", "version"), [(0, 0), (1, 1), (2, 2)])
    async def test_the_broker_s_versions(self, run_own, most, version):
        async with run_own() as (proxy, broker):
            broker.answers |= {VERSIONS: everything_offered(SaslAuthenticate=(0, most)), AUTHENTICATE: accepts()}
            await (await proxy.client()).ask(*BEAT)
            assert [r.header.api_version for r in broker.requests if r.header.api_key in AGAIN] == [1, version]


class TestSessions:
    @both_loops
    async def test_renewed_before_they_end_and_not_without_a_request(self, run_own):
        async with run_own() as (proxy, broker):
            broker.answers[AUTHENTICATE] = accepts(10_000)
            client = await proxy.client()
            clock = proxy.shared.now
            await client.ask(*BEAT)
            clock.now += 8.4
            await client.ask(*BEAT)
            assert broker.apis() == [*LOGIN, HEARTBEAT, HEARTBEAT]
            clock.now += 0.2
            await client.ask(*BEAT)
            await client.ask(*BEAT)
            assert broker.apis()[5:] == [*AGAIN, HEARTBEAT, HEARTBEAT]
            clock.now += 1000  # long idle: later than the end, and a handshake is taken all the same
            await client.ask(*BEAT)
            assert broker.apis()[9:] == [*AGAIN, HEARTBEAT]

    @both_loops
    async def test_answers_go_on_and_requests_wait_meanwhile(self, run_own):
        async with run_own() as (proxy, broker):
            broker.answers[AUTHENTICATE] = accepts(10_000)
            client = await proxy.client()
            await client.ask(*BEAT)
            broker.silent |= {FETCH, HANDSHAKE}
            numbers = [await client.send(FETCH, 12)]
            await broker.until(lambda b: len(b.held) == 1)
            proxy.shared.now.now += 9
            numbers += [await client.send(*BEAT) for _ in range(2)]
            await broker.until(lambda b: len(b.held) == 2)
            assert broker.apis()[4:] == [FETCH, HANDSHAKE]
            await broker.answer_held()
            assert [number_of(await client.receive()) for _ in numbers] == numbers
            assert broker.apis()[4:] == [FETCH, HANDSHAKE, AUTHENTICATE, HEARTBEAT, HEARTBEAT]

    @both_loops
    async def test_a_request_that_waited_for_a_key_lets_the_login_go_first(self, run_own, tmp_path):
        provider = SlowProvider(KeyFileProvider(key_file(tmp_path)))
        async with run_own(topics=BATCHES, provider=provider) as (proxy, broker):
            broker.answers[AUTHENTICATE] = accepts(10_000)
            client = await proxy.client()
            number = await client.send(PRODUCE, 9, produced({"t": {0: client_batch()}}))
            await provider.asked.wait()
            proxy.shared.now.now += 9
            provider.may_answer.set()
            assert number_of(await client.receive()) == number
            assert broker.apis() == [*LOGIN, ApiKey.DESCRIBE_CONFIGS, *AGAIN, PRODUCE]

    @both_loops
    async def test_the_proxy_s_own_question_lets_it_go_first(self, run_own):
        async with run_own() as (proxy, broker):
            broker.answers[AUTHENTICATE] = accepts(10_000)
            client = await proxy.client()
            await client.ask(*BEAT)
            broker.silent.add(HANDSHAKE)
            proxy.shared.now.now += 9
            questions = proxy.relays[0]._questions
            asked = asyncio.ensure_future(questions.ask(ApiKey.METADATA, 12, {}))
            number = await client.send(*BEAT)
            await broker.until(lambda b: b.held)
            assert broker.apis()[4:] == [HANDSHAKE]
            await broker.answer_held()
            await asked
            assert number_of(await client.receive()) == number
            assert sorted(broker.apis()[6:]) == [ApiKey.METADATA, HEARTBEAT]

    @both_loops
    async def test_a_refusal_ends_the_connection(self, run_own):
        async with run_own() as (proxy, broker):
            broker.answers[AUTHENTICATE] = accepts(10_000)
            client = await proxy.client()
            await client.ask(*BEAT)
            broker.answers[AUTHENTICATE] = refuses("user is gone")
            proxy.shared.now.now += 9
            await client.send(*BEAT)
            assert await client.closed() == b""
            assert "user is gone" in proxy.lines("upstream_login_failed")[0]["reason"]
            assert broker.apis()[4:] == AGAIN


class TestFailures:
    async def failure(self, proxy):
        client = await proxy.client()
        await client.send(*BEAT)
        assert await client.closed() == b""
        return [line["reason"] for line in proxy.lines("upstream_login_failed")]

    @both_loops
    async def test_a_refused_password_is_not_tried_again_until_it_changes(self, run_own, secret):
        async with run_own() as (proxy, broker):
            broker.answers[AUTHENTICATE] = refuses("no user alice with password hunter2")
            (reason,) = await self.failure(proxy)
            assert reason == "the broker refused the login: no user alice with password [redacted]"
            for _ in range(3):
                assert await self.failure(proxy) == [reason]  # held back: one line
            assert len(tokens(broker)) == 1
            secret.write_text("swordfish")
            broker.answers[AUTHENTICATE] = accepts()
            await (await proxy.client()).ask(*BEAT)
            assert tokens(broker)[1:] == [b"\0alice\0swordfish"]
            assert HEARTBEAT in broker.apis()

    @both_loops
    async def test_all_at_once_are_few_attempts(self, run_own):
        async with run_own() as (proxy, broker):
            broker.silent.add(AUTHENTICATE)
            broker.answers[AUTHENTICATE] = refuses("no")
            clients = [await proxy.client() for _ in range(10)]
            await broker.until(lambda b: len(b.held) == UNPROVEN_ATTEMPTS)
            await broker.answer_held()
            for client in clients:
                assert await client.closed() == b""
            assert len(tokens(broker)) == UNPROVEN_ATTEMPTS

    @pytest.mark.parametrize(
        ("api", "answer", "reason"),
        [
            (VERSIONS, everything_offered(SaslHandshake=(0, 0)), "doesn't offer SaslHandshake"),
            (VERSIONS, everything_offered(SaslHandshake=(0, -1)), "doesn't offer SaslHandshake"),
            (VERSIONS, everything_offered(SaslAuthenticate=(0, -1)), "doesn't offer SaslAuthenticate"),
            (HANDSHAKE, {"error_code": 33, "mechanisms": ["GSSAPI", "SCRAM-SHA-256"]}, "takes GSSAPI, SCRAM-SHA-256"),
            (HANDSHAKE, {"error_code": 34}, "wants no login"),
            (HANDSHAKE, b"\0\0\0\2", "can't be read"),
            (HANDSHAKE, lambda request: request.writer.close(), "closed the connection during the login"),
            (AUTHENTICATE, lambda request: request.writer.close(), "closed the connection during the login"),
            (AUTHENTICATE, refuses("later", 7), "request_timed_out"),
            (AUTHENTICATE, accepts() | {"auth_bytes": b"more"}, "token of its own"),
            (AUTHENTICATE, refuses("line\nbreak"), r"line\\nbreak"),
        ],
    )
    @both_loops
    async def test_other_answers(self, run_own, api, answer, reason):
        async with run_own() as (proxy, broker):
            broker.answers[api] = answer
            (found,) = await self.failure(proxy)
            assert reason.replace("\\\\", "\\") in found
            assert HEARTBEAT not in broker.apis()

    @both_loops
    async def test_a_broker_that_lets_wait(self, run_own):
        async with run_own(limits={"connect_timeout_seconds": 0.2}) as (proxy, broker):
            broker.silent.add(HANDSHAKE)
            (found,) = await self.failure(proxy)
            assert found == "the broker took longer than 0.2 s (limits.connect_timeout_seconds)"

    async def test_a_secret_that_is_gone(self, run_own, secret):
        async with run_own() as (proxy, broker):
            secret.unlink()
            (found,) = await self.failure(proxy)
            assert "upstream.sasl.password: " in found
            assert "No such file" in found
            assert broker.requests == []

    async def test_a_broker_that_does_not_know_the_password(self, run_own):
        """It lets everyone in, and reads what they send."""
        async with run_own("SCRAM-SHA-256") as (proxy, broker):

            def answer(request):
                token = read_request(request.frame)[1].auth_bytes.decode()
                nonce = token.partition("r=")[2].partition(",")[0]
                first = token.startswith("n,,")
                said = f"r={nonce}more,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096" if first else "v=AAAA"
                return accepts() | {"auth_bytes": said.encode()}

            broker.answers[AUTHENTICATE] = answer
            (found,) = await self.failure(proxy)
            assert "doesn't know the password" in found
            assert len(tokens(broker)) == 2
            assert HEARTBEAT not in broker.apis()


async def test_msk(run_proxy, monkeypatch):
    """The shape of the login: AWS's token as OAUTHBEARER."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secretsecret")
    sasl = {"mechanism": "AWS_MSK_IAM", "region": "eu-central-1"}
    async with run_proxy(to_cluster={"sasl": sasl}) as (proxy, broker):
        broker.answers[AUTHENTICATE] = accepts()
        await (await proxy.client()).ask(*BEAT)
        assert read_request(broker.requests[1].frame)[1].mechanism == "OAUTHBEARER"
        (token,) = tokens(broker)
        assert token.startswith(b"n,,\x01auth=Bearer aHR0cHM6Ly9rYWZrYS5ldS1jZW50cmFs")
        assert token.endswith(b"\x01\x01")


class TestAClientThatWantsToLogIn:
    """It is answered as a broker does it on a listener without SASL."""

    @pytest.mark.parametrize("version", [0, 1])
    async def test_its_handshake(self, run_own, version):
        async with run_own() as (proxy, broker):
            broker.answers[AUTHENTICATE] = accepts()
            client = await proxy.client()
            frame = await client.ask(HANDSHAKE, version, {"mechanism": "PLAIN"})
            answer = read_response(HANDSHAKE, version, frame)
            assert (answer.error_code, answer.mechanisms) == (34, ())
            await client.ask(*BEAT)
            assert broker.apis() == [*LOGIN, HEARTBEAT]
            assert "security.protocol" in proxy.lines("client_login_refused")[0]["reason"]

    @pytest.mark.parametrize("version", [0, 1, 2])
    async def test_its_token(self, run_own, version):
        async with run_own() as (proxy, broker):
            broker.answers[AUTHENTICATE] = accepts()
            client = await proxy.client()
            frame = await client.ask(AUTHENTICATE, version, {"auth_bytes": b"\0eve\0secret"})
            answer = read_response(AUTHENTICATE, version, frame)
            assert answer.error_code == 34
            assert "PLAINTEXT" in answer.error_message
            assert tokens(broker) == [b"\0alice\0hunter2"]

    async def test_sasl_is_offered_as_by_a_broker(self, run_own):
        async with run_own() as (proxy, broker):
            broker.answers[AUTHENTICATE] = accepts()
            answer = read_response(VERSIONS, 3, await (await proxy.client()).ask(VERSIONS, 3))
            assert {HANDSHAKE, AUTHENTICATE} <= {row.api_key for row in answer.api_keys}
